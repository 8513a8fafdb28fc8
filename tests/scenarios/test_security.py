"""Keys, origins and names: who may ask, and what is never seen again."""

from __future__ import annotations

import asyncio
import json
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon, Refused, run_command, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
CANARY = "sk-canary-9f8e7d6c5b4a3210"
BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hi"}]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed() -> AsyncIterator[tuple[Daemon, dict[str, str]]]:
    """A gateway with client keys: `app` and the administrator `boss`."""
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        async with running(Path(folder) / "home") as daemon:
            keys = {
                name: (await daemon.admin("clients.add", name=name, admin=name == "boss"))["key"]
                for name in ("app", "boss", "gone", "late")
            }
            await daemon.admin("clients.set", name="gone", enabled=False)
            yield daemon, keys


async def test_the_upstream_sees_the_real_key_and_nobody_else_does(daemon: Daemon, lab: Lab) -> None:
    """The key was encrypted on write and never decrypted: the upstream got the ciphertext (D19)."""
    upstream = await daemon.upstream(lab, key=CANARY)
    model = await daemon.rule(upstream)
    lab.script(CHAT, lab.chat(), lab.error(401, f"incorrect API key provided: {CANARY}"))
    body = json.dumps({"model": model, "messages": []})
    told = []
    async with daemon.http() as http:
        for _ in range(2):
            async with http.post(CHAT, data=body, headers=JSON) as reply:
                told.append(await reply.text() + str(reply.headers))
        async with http.get("/metrics") as reply:
            told.append(await reply.text())
    assert lab.seen[0].header("authorization") == f"Bearer {CANARY}"
    shown = await daemon.admin("credentials.list")
    told += [json.dumps(shown), daemon.log, json.dumps(await daemon.admin("db.history", limit=1000))]
    assert not [text for text in told if CANARY in text]
    for file in daemon.home.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file.name
    assert any(row["hint"].endswith(CANARY[-4:]) for row in shown)


async def test_an_upstream_that_echoes_the_key_is_not_passed_on(daemon: Daemon, lab: Lab) -> None:
    key = "opaque-credential-8c1f5d7e2b"  # of no shape that a filter would know
    upstream = await daemon.upstream(lab, key=key)
    model = await daemon.rule(upstream)
    echo = [("openai-processing-ms", key), ("x-ratelimit-limit-requests", key)]
    error = b'data: {"error":{"message":"the key %b is odd"}}\n\n' % key.encode()
    lab.script(
        CHAT,
        lab.error(400, f"what is {key}?", headers=echo),
        lab.error(404, f"no such model for {key}", code="model_not_found", headers=echo),
        lab.chat(headers=echo),
        lab.sse([canned.chat_role(), canned.chat_chunk({"content": "x"}), error]),
    )
    async with daemon.http() as http:
        for stream, status in ((False, 400), (False, 404), (False, 200), (True, 200)):
            body = json.dumps({"model": model, "messages": [], "stream": stream})
            async with http.post(CHAT, data=body, headers=JSON) as reply:
                assert reply.status == status
                assert key not in await reply.text() + str(reply.headers), (stream, status)


async def test_files_are_the_owners_alone(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.home.stat().st_mode) == 0o700
    for name in ("gateway.db", "master.key", "admin.sock"):
        assert stat.S_IMODE((daemon.home / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize(
    ("who", "how", "status"),
    [
        ("app", "bearer", 200),
        ("app", "x-api-key", 200),
        ("boss", "bearer", 200),
        ("gone", "bearer", 401),
        ("nobody", "bearer", 401),
        ("none", "none", 401),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/models/demo"])
async def test_client_keys_open_every_path_but_admin(
    keyed: tuple[Daemon, dict[str, str]], who: str, how: str, status: int, path: str
) -> None:
    daemon, keys = keyed
    key = keys.get(who, "mlxg_not-a-key")
    headers = {"bearer": {"authorization": f"Bearer {key}"}, "x-api-key": {"x-api-key": key}, "none": {}}[how]
    async with daemon.http() as http:
        async with http.get(path, headers=headers) as reply:
            assert reply.status == status
        async with http.get("/admin/api/rules", headers=headers) as reply:
            assert reply.status == (200 if who == "boss" else 403 if status == 200 else 401)
        async with http.get("/healthz") as reply:
            assert reply.status == 200


async def test_an_administrator_may_have_a_request_explained(
    keyed: tuple[Daemon, dict[str, str]], lab: Lab
) -> None:
    """The same that a request does, told over HTTP, and nothing is sent for it."""
    daemon, keys = keyed
    model = await daemon.rule("local:not-on-this-disk", cloud := await daemon.upstream(lab))
    asked = {"model": model, "path": CHAT, "body": json.loads(BODY)}
    async with daemon.http() as http:
        for who, status in (("boss", 200), ("app", 403), ("nobody", 401)):
            headers = JSON | {"authorization": f"Bearer {keys.get(who, 'mlxg_not-a-key')}"}
            async with http.post("/admin/api/explain", json=asked, headers=headers) as reply:
                assert reply.status == status
                told = await reply.json()
            if status == 200:
                plan = told["plans"][CHAT]
        assert lab.accepted == 0
        body = json.loads(BODY) | {"model": model}
        async with http.post(CHAT, json=body, headers={"authorization": f"Bearer {keys['app']}"}) as reply:
            assert reply.status == 200
            served, attempts = reply.headers["x-gateway-served-by"], reply.headers["x-gateway-attempts"]
    assert [each["target"] for each in plan["try"]] == [served] == [f"{cloud}/{model}"]
    [skipped] = plan["skip"]
    assert attempts.startswith(f"{skipped['target']}={skipped['outcome']};dur=0;skipped, ")


async def test_key_errors_speak_the_dialect_of_the_path(keyed: tuple[Daemon, dict[str, str]]) -> None:
    daemon, _ = keyed
    async with daemon.http() as http:
        async with http.post(CHAT, data=BODY, headers=JSON) as reply:
            assert reply.status == 401
            assert (await reply.json())["error"]["code"] == "invalid_api_key"
        async with http.post("/v1/messages", data=BODY, headers=JSON) as reply:
            assert reply.status == 401
            error = await reply.json()
            assert error["type"] == "error"
            assert error["error"]["type"] == "authentication_error"


async def test_removed_key_is_out_at_once(keyed: tuple[Daemon, dict[str, str]]) -> None:
    daemon, _ = keyed
    key = (await daemon.admin("clients.add", name="brief"))["key"]
    headers = {"authorization": f"Bearer {key}"}
    async with daemon.http() as http:
        async with http.get("/v1/models", headers=headers) as reply:
            assert reply.status == 200
        await daemon.admin("clients.remove", name="brief")
        async with http.get("/v1/models", headers=headers) as reply:
            assert reply.status == 401


async def test_only_loopback_without_keys() -> None:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        home = Path(folder) / "home"
        done = await asyncio.to_thread(run_command, home, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 78
    assert "clients add" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:{port}"},
        {"host": "localhost.:{port}"},
        {"host": "127.0.0.1:1"},
        {"host": "user@127.0.0.1:{port}"},
        {"host": "[::1%lo]:{port}"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/admin/api/rules"])
async def test_hostile_pages_are_refused(daemon: Daemon, headers: dict[str, str], path: str) -> None:
    sent = {name: value.replace("{port}", str(daemon.port)) for name, value in headers.items()}
    async with daemon.http() as http, http.get(path, headers=sent) as reply:
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers


async def test_absolute_form_is_no_way_in(daemon: Daemon) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(b"GET http://evil.example/v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % daemon.port)
    assert b" 400 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_simple_posts_of_a_web_page_are_refused(daemon: Daemon, kind: str) -> None:
    async with daemon.http(skip_auto_headers=["content-type"]) as http:
        headers = {"content-type": kind} if kind else {}
        async with http.post(CHAT, data=BODY.encode(), headers=headers) as reply:
            assert reply.status == 415
            assert "application/json" in (await reply.json())["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_compressed_requests_are_refused(daemon: Daemon, encoding: str) -> None:
    async with daemon.http() as http:
        headers = JSON | {"content-encoding": encoding}
        async with http.post(CHAT, data=b"\x1f\x8b" + bytes(50), headers=headers) as reply:
            assert reply.status in (400, 415)


async def test_changing_the_url_of_an_upstream_needs_its_key_again(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab)
    with pytest.raises(Refused) as caught:
        await daemon.admin("upstreams.set", name=upstream, base_url="http://127.0.0.1:9/v1")
    assert caught.value.status == 409


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "/etc/passwd", "a\nb", "a\0b", "x" * 257, "a b", "'; drop", "{model}"]
)
async def test_hostile_model_names_are_refused(daemon: Daemon, name: str) -> None:
    body = json.dumps({"model": name, "messages": []})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["param"] == "model"
