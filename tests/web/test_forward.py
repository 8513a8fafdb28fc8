"""What of a request is read, and where it is handed: paths, bodies and uploads."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from gateway.config import Server
from gateway.errors import RequestError
from gateway.web.forward import _check_path
from tests.house import JSON, chat, rule, running, snapshot, upstream
from tests.lab import Lab
from tests.relay.puppet import Answer, Puppet
from tests.relay.puppet import json as whole

MULTIPART = {"content-type": "multipart/form-data; boundary=B"}
MODEL = b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
FILE = b'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 300_000 + b"\r\n"
END = b"--B--\r\n"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/..",
        "/v1/../admin/api/rules",
        "/v1/%2e%2e/x",
        "/v1/%2E./x",
        "/v1/a%2fb",
        "/v1/a%5Cb",
        "/v1/a\\b",
        "/v1//x",
        "/v1/x//",
    ],
)
def test_paths_that_might_climb_are_refused(path: str) -> None:
    with pytest.raises(RequestError):
        _check_path(path)


@pytest.mark.parametrize("path", ["/v1/models/a.b", "/v1/files/%20x", "/v1/x/.y", "/v1/a%252eb"])
def test_other_paths_pass(path: str) -> None:
    _check_path(path)


@pytest.mark.parametrize(
    ("sent", "came"),
    [
        ("/upstreams/a/v1/chat/completions", "/v1/chat/completions"),
        ("/upstreams/a/chat/completions", "/v1/chat/completions"),
        ("/upstreams/%61/v1/files?limit=1&x=%20", "/v1/files"),
        ("/upstreams/a/v1beta/x", "/v1/v1beta/x"),
        ("/v1/files/f%20g?q=1", "/v1/files/f%20g"),
    ],
)
async def test_the_path_that_the_upstream_gets(sent: str, came: str) -> None:
    puppet = Puppet(whole())
    async with running(cloud=puppet, default_upstream="a") as house:
        house.snapshot = snapshot(upstreams=[upstream("a")])
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            f"GET {sent} HTTP/1.1\r\nhost: 127.0.0.1:{house.port}\r\nconnection: close\r\n\r\n".encode()
        )
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b" 200 " in data.splitlines()[0]
    assert puppet.calls[0].path == came
    assert puppet.calls[0].query == sent.partition("?")[2]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/upstreams/a//v1/files", 400),
        ("/upstreams/a//files", 400),
        ("/upstreams//v1/files", 404),
        ("/upstreams/a", 404),
        ("/upstreams/a/", 404),
        ("/upstreams/b/v1/files", 404),
        ("/upstreams/a%2fb/v1/files", 404),
        ("/upstreams/a/../b/v1/files", 400),
        ("/upstreams/../v1/files", 404),
    ],
)
async def test_paths_of_no_upstream(path: str, status: int) -> None:
    puppet = Puppet(whole())
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(upstreams=[upstream("a")])
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{house.port}\r\nconnection: close\r\n\r\n".encode()
        )
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert f" {status} ".encode() in data.splitlines()[0]
    assert puppet.calls == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PUT", "PATCH"])
async def test_requests_without_a_body_go_to_the_default_upstream(method: str) -> None:
    """POST /v1/batches/ID/cancel has none, and was refused for that."""
    async with Lab() as lab, running(default_upstream="a") as house:
        house.snapshot = snapshot(upstreams=[upstream("a", lab)])
        if method == "HEAD":
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n"
            lab.always("/v1/batches/b1/cancel", lab.raw(head, then=None))
        async with house.http.request(method, "/v1/batches/b1/cancel?x=1") as reply:
            assert reply.status == 200
            said = await reply.read()
        assert (lab.seen[0].method, lab.seen[0].target) == (method, "/v1/batches/b1/cancel?x=1")
    assert said == b"" if method == "HEAD" else b"lab.echo" in said


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_an_answer_needs_a_body(path: str) -> None:
    async with running(default_upstream="a") as house:
        async with house.http.post(path) as reply:
            assert reply.status == 400
            assert "no body" in await reply.text()
        async with house.http.post("/v1/batches/b1/cancel") as reply:
            assert reply.status != 200


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods_are_405(method: str) -> None:
    async with running() as house, house.http.request(method, "/v1/chat/completions") as reply:
        assert reply.status == 405


async def test_a_bad_name_never_reaches_a_rule() -> None:
    puppet = Puppet()
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(rules=[rule("*", "a")], upstreams=[upstream("a")])
        for name in ("../etc/passwd", "/etc/passwd", "a\nb", "a b", "x" * 300, ""):
            async with house.http.post("/v1/chat/completions", json=chat(name)) as reply:
                assert reply.status == 400
        async with house.http.post(
            "/v1/audio/transcriptions",
            data=io.BytesIO(MODEL.replace(b"\nm\r", b"\n../x\r") + END),
            headers=MULTIPART,
        ) as reply:
            assert reply.status == 400
    assert puppet.calls == []


@pytest.mark.parametrize("parts", [MODEL + FILE + END, FILE + MODEL + END], ids=["model first", "model last"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_moves_on_when_its_target_refuses_at_once(parts: bytes, chunked: bool) -> None:
    async with Lab() as closed, Lab() as lab, running() as house:
        await closed.refuse()
        house.snapshot = snapshot(
            rules=[rule("m", "a", "b:other")], upstreams=[upstream("a", closed), upstream("b", lab)]
        )

        async def pieces() -> object:
            yield parts

        data = pieces() if chunked else io.BytesIO(parts)
        async with house.http.post("/v1/audio/transcriptions", data=data, headers=MULTIPART) as reply:
            assert reply.status == 200, await reply.text()
            assert reply.headers["x-gateway-served-by"] == "b/other"
        assert lab.seen[0].body == parts.replace(b"\nm\r", b"\nother\r")
        assert (lab.seen[0].header("content-length") is None) is chunked


async def test_an_upload_that_stops_half_way_is_a_408_and_no_fault_of_the_target() -> None:
    async with Lab() as lab, running(server=Server(body_timeout_s=0.15)) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a", lab)])
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
            b"content-type: multipart/form-data; boundary=B\r\ncontent-length: 900000\r\n\r\n"
            % house.port
            + MODEL
            + FILE
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 408 " in head.splitlines()[0]
        assert (await house.logged())["attempts"].startswith("a/m=client_fault")
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_in_its_upload_stops_the_upstream() -> None:
    async with Lab() as lab, running() as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a", lab)])
        lab.always("/v1/audio/transcriptions", lab.early(lab.hang()))
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
            b"content-type: multipart/form-data; boundary=B\r\ncontent-length: 900000\r\n\r\n"
            % house.port
            + MODEL
            + FILE
        )
        seen = await lab.arrived()
        writer.transport.abort()
        await seen.gone(within=1.0)
        assert (await house.logged()).status == 499


async def test_chunks_of_an_upload_that_are_no_chunks() -> None:
    """It is the client's fault: no failover, no mark, no traceback."""
    async with Lab() as lab, running(server=Server(body_timeout_s=0.2)) as house:
        house.snapshot = snapshot(
            rules=[rule("m", "a", "b")], upstreams=[upstream("a", lab), upstream("b", lab)]
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ntransfer-encoding: chunked\r\n"
            b"content-type: multipart/form-data; boundary=B\r\n\r\n%x\r\n"
            % (house.port, len(MODEL))
            + MODEL
            + b"\r\n"
        )
        await asyncio.sleep(0.02)
        writer.write(b"zz\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 400 " in head.splitlines()[0] or b" 408 " in head.splitlines()[0]
        writer.close()
        await writer.wait_closed()
    assert lab.hits == 0 or not lab.seen[0].read_whole


async def test_a_large_json_body_goes_through_as_it_is() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "y" * 1_500_000}]}).encode()
    async with Lab(keep=1 << 22) as lab, running() as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a", lab)])
        async with house.http.post("/v1/chat/completions", data=io.BytesIO(body), headers=JSON) as reply:
            assert reply.status == 200
        assert lab.seen[0].body == body


async def test_a_head_is_forwarded_without_a_body() -> None:
    puppet = Puppet(Answer([], kind="application/json"))
    async with running(cloud=puppet, default_upstream="a") as house:
        house.snapshot = snapshot(upstreams=[upstream("a")])
        async with house.http.head("/v1/files") as reply:
            assert reply.status == 200
            assert await reply.read() == b""
    assert puppet.calls[0].method == "HEAD"
