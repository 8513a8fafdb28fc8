"""Every route behind the same door, and every refusal in the same shape."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.config import Server
from gateway.web import models
from gateway.web.app import ROUTES, Entry
from gateway.web.guard import Access
from tests.house import House, client_key, running, snapshot

# A path for each line of the route table: a new line needs one, or the walk below fails.
SAMPLES = {
    "/v1/responses/{id}": "/v1/responses/resp_1",
    "/v1/responses/{id}/cancel": "/v1/responses/resp_1/cancel",
    "/v1/responses/{id}/input_items": "/v1/responses/resp_1/input_items",
    "/v1/{tail:.+}": "/v1/chat/completions",
    "/v1/models": "/v1/models",
    "/v1/models/{id:.+}": "/v1/models/some/model",
    "/upstreams/{name}/{tail:.+}": "/upstreams/openai/v1/chat/completions",
    "/healthz": "/healthz",
    "/readyz": "/readyz",
    "/metrics": "/metrics",
    "/admin/api/{noun}": "/admin/api/rules",
    "/admin/api/{noun}/{verb}": "/admin/api/rules/add",
    "/{tail:.*}": "/not/there",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
KEYS = {
    "no key": {},
    "bad key": {"authorization": "Bearer mlxg_wrong"},
    "client key": {"x-api-key": "mlxg_client"},
    "admin key": {"authorization": "Bearer mlxg_admin"},
}
# What the door says, by what the route asks: None means that the handler was reached.
EXPECTED: dict[Access, dict[str, int | None]] = {
    Access.OPEN: dict.fromkeys(KEYS),
    Access.CLIENT: {"no key": 401, "bad key": 401, "client key": None, "admin key": None},
    Access.ADMIN: {"no key": 401, "bad key": 401, "client key": 403, "admin key": None},
}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with running() as made:
        made.snapshot = snapshot(
            clients=[client_key("mlxg_client"), client_key("mlxg_admin", admin=True)],
        )
        yield made


def entry_for(method: str, path: str) -> Entry:
    """The line of the table that a request is for; written down again, so that an order that is wrong shows."""
    for entry in ROUTES:
        methods = {"*": METHODS, "GET": ("GET", "HEAD")}.get(entry.method, (entry.method,))
        if SAMPLES[entry.path] == path and method in methods:
            return entry
    raise AssertionError(f"no line for {method} {path}")


def test_each_line_of_the_table_has_a_sample() -> None:
    assert {entry.path for entry in ROUTES} == set(SAMPLES)
    assert [entry.path for entry in ROUTES if entry.access is Access.OPEN] == ["/healthz", "/readyz"]
    admin = {entry.path for entry in ROUTES if entry.path.startswith("/admin")}
    assert admin == {entry.path for entry in ROUTES if entry.access is Access.ADMIN}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("path", sorted(set(SAMPLES.values())))
async def test_nothing_opens_without_its_key(house: House, path: str, key: str) -> None:
    for method in METHODS:
        entries = [entry for entry in ROUTES if SAMPLES[entry.path] == path]
        if not any(entry.method in ("*", method, "GET") for entry in entries):
            continue
        try:
            access = entry_for(method, path).access
        except AssertionError:
            access = Access.CLIENT  # the last line of the table: there is nothing here
        async with house.http.request(method, path, headers=KEYS[key]) as reply:
            body = await reply.read()
        wanted = EXPECTED[access][key]
        if wanted is not None:
            assert reply.status == wanted, (method, path, key)
        else:
            assert reply.status not in (401, 403), (method, path, key, body)
        assert reply.headers["server"] == "mlx-gateway"
        assert reply.headers["x-request-id"].startswith("req_")
        if reply.status >= 400 and method != "HEAD":
            assert "error" in json.loads(body)


async def test_admin_over_tcp_can_be_off() -> None:
    async with running(admin_over_tcp=False) as house:
        house.snapshot = snapshot(clients=[client_key("mlxg_admin", admin=True)])
        for path in ("/admin/api/rules", "/admin/api/rules/add"):
            for method in METHODS:
                async with house.http.request(method, path, headers={"x-api-key": "mlxg_admin"}) as reply:
                    assert reply.status == 403


async def test_without_any_key_only_the_admin_routes_are_shut() -> None:
    async with running() as house:
        for path in SAMPLES.values():
            async with house.http.get(path) as reply:
                assert (reply.status == 401) is path.startswith("/admin/")
    async with running(keyless=False) as house, house.http.get("/v1/models") as reply:
        assert reply.status == 401


@pytest.mark.parametrize(
    ("path", "version", "anthropic"),
    [
        ("/v1/messages", {}, True),
        ("/v1/messages/count_tokens", {}, True),
        ("/v1/chat/completions", {"anthropic-version": "2023-06-01"}, False),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, True),
        ("/v1/models", {}, False),
    ],
)
async def test_errors_speak_the_dialect_of_their_path(
    house: House, path: str, version: dict[str, str], anthropic: bool
) -> None:
    async with house.http.get(path, headers=version) as reply:
        said = await reply.json()
    assert reply.status == 401
    assert reply.headers["x-should-retry"] == "false"
    if anthropic:
        assert said["type"] == "error"
        assert said["error"]["type"] == "authentication_error"
        assert said["request_id"] == reply.headers["x-request-id"]
    else:
        assert said["error"]["code"] == "invalid_api_key"


async def test_each_request_has_an_id_of_its_own(house: House) -> None:
    seen = set()
    for _ in range(5):
        async with house.http.get("/healthz", headers={"x-request-id": "mine"}) as reply:
            seen.add(reply.headers["x-request-id"])
    assert len(seen) == 5
    assert "mine" not in seen


async def test_what_nobody_foresaw_is_a_plain_500(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(models, "_entries", broken)
    with caplog.at_level(logging.ERROR):
        async with house.http.get("/v1/models", headers=KEYS["client key"]) as reply:
            said = await reply.text()
    assert reply.status == 500
    assert "secret cause" not in said
    assert reply.headers["x-request-id"] in caplog.text
    assert "secret cause" in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models"])
async def test_a_head_is_answered_as_its_get(house: House, path: str) -> None:
    """Monitors ask with HEAD, and got a 404 from /healthz."""
    async with house.http.head(path, headers=KEYS["client key"]) as reply:
        assert reply.status == 200
        assert int(reply.headers["content-length"]) > 0
        assert await reply.read() == b""
    async with house.http.get(path, headers=KEYS["client key"]) as reply:
        assert reply.status == 200


async def test_preflight_of_a_page_that_may_call() -> None:
    """It told the versions of Python and aiohttp, to whoever asked."""
    server = Server(allowed_origins=("http://app.local",))
    async with running(server=server) as house:
        headers = {"origin": "http://app.local", "access-control-request-method": "POST"}
        async with house.http.options("/v1/chat/completions", headers=headers) as reply:
            assert reply.status == 204
            assert reply.headers["access-control-allow-origin"] == "http://app.local"
            assert "POST" in reply.headers["access-control-allow-methods"]
            assert "x-api-key" in reply.headers["access-control-allow-headers"]
            assert reply.headers["server"] == "mlx-gateway"
        for evil in ("http://evil", "null", "http://app.local.evil", "http://APP.local"):
            async with house.http.options("/v1/chat/completions", headers={"origin": evil}) as reply:
                assert reply.status == 403
                assert "access-control-allow-origin" not in reply.headers


async def test_an_allowed_page_may_read_refusals_too() -> None:
    server = Server(allowed_origins=("http://app.local",))
    async with (
        running(server=server, keyless=False) as house,
        house.http.get("/v1/models", headers={"origin": "http://app.local"}) as reply,
    ):
        assert reply.status == 401
        assert reply.headers["access-control-allow-origin"] == "http://app.local"
        assert reply.headers["access-control-expose-headers"] == "*"


async def say(house: House, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(text.replace(b"HOST", b"127.0.0.1:%d" % house.port))
    async with asyncio.timeout(2):
        data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


NOT_HTTP = {
    "garbage": b"GARBAGE\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "bad path": b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "bad chunk": b"POST /v1/x HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "huge header": b"GET / HTTP/1.1\r\nhost: HOST\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
}
NO_ROUTE = {
    "options *": (b"OPTIONS * HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n", b"404"),
    "connect": (b"CONNECT evil:443 HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n", b"404"),
    "newline in path": (b"GET /x%0ay HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n", b"404"),
    "expectation": (
        b"GET /healthz HTTP/1.1\r\nhost: HOST\r\nexpect: cake\r\nconnection: close\r\n\r\n",
        b"417",
    ),
}


@pytest.mark.parametrize("what", NOT_HTTP)
async def test_what_is_no_http_gets_an_error_like_any_other(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp's own answers told its version and echoed what came; its log had a traceback for each."""
    async with running() as house:
        with caplog.at_level(logging.INFO):
            data = await say(house, NOT_HTTP[what])
    head, _, body = data.partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert b"aiohttp" not in data
    assert b"server: mlx-gateway" in head.lower()
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("what", NO_ROUTE)
async def test_what_has_no_route_gets_an_error_like_any_other(what: str) -> None:
    text, status = NO_ROUTE[what]
    async with running() as house:
        data = await say(house, text)
    head, _, body = data.partition(b"\r\n\r\n")
    assert status in head.splitlines()[0]
    assert b"aiohttp" not in data
    assert b"server: mlx-gateway" in head.lower()
    assert json.loads(body)["error"]["message"]


async def test_idle_connections_are_let_go_and_busy_ones_are_not() -> None:
    """aiohttp kept them open and deaf: the client's next request waited for nothing, and the rest of a
    body that was still coming was dropped.
    """
    async with running() as house:
        idle = await asyncio.open_connection("127.0.0.1", house.port)
        idle[1].write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % house.port)
        await idle[0].readuntil(b"}")
        busy = await asyncio.open_connection("127.0.0.1", house.port)
        busy[1].write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b'content-length: 14\r\n\r\n{"model":' % house.port
        )
        async with asyncio.timeout(2):
            while house.runner.server is None or house.runner.server.requests_count < 2:
                await asyncio.sleep(0)
            house.runner.let_go()
            assert await idle[0].read() == b""
            busy[1].write(b' "x"}')
            assert b" 404 " in (await busy[0].read()).splitlines()[0]
        for _, writer in (idle, busy):
            writer.close()
            await writer.wait_closed()
