"""Bad input gets one clear error in the dialect of its path: never a 500, never a traceback."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from tests.lab import Lab
from tests.scenarios.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"

BAD_BODIES = {
    "not JSON": b"hello",
    "cut": b'{"model": "demo", "messages": [',
    "empty": b"",
    "array": b"[1, 2]",
    "string": b'"demo"',
    "null": b"null",
    "too deep": b'{"model": "demo", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"model": "demo", "temperature": NaN}',
    "Infinity": b'{"model": "demo", "temperature": -Infinity}',
    "huge number": b'{"model": "demo", "seed": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"model": "demo", "user": "\xff\xfe"}',
    "trailing": b'{"model": "demo"} {"model": "other"}',
    "two models": b'{"model": "demo", "messages": [], "model": "other"}',
    "model is a number": b'{"model": 7}',
    "model is null": b'{"model": null}',
    "model is an object": b'{"model": {"a": 1}}',
    "model is empty": b'{"model": ""}',
    "no model": b'{"messages": []}',
    "stream is a word": b'{"model": "demo", "stream": "yes"}',
    "control character": b'{"model": "demo\x01"}',
    "bad escape": b'{"model": "demo", "user": "\\q"}',
}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/embeddings"])
@pytest.mark.parametrize("bad", BAD_BODIES)
async def test_bad_bodies(daemon: Daemon, bad: str, path: str) -> None:
    async with daemon.http() as http, http.post(path, data=BAD_BODIES[bad], headers=JSON) as reply:
        error = await reply.json()
        assert reply.status == 400, (error, bad)
        assert reply.headers["x-should-retry"] == "false"
        assert reply.headers["x-request-id"]
    if path == "/v1/messages":
        assert error["type"] == "error"
        assert error["error"]["type"] == "invalid_request_error"
        assert error["request_id"] == reply.headers["x-request-id"]
    else:
        assert error["error"]["type"] == "invalid_request_error"
    assert len(error["error"]["message"]) > 20
    assert "Traceback" not in daemon.log


BAD_FIELDS: list[tuple[str, object]] = [
    ("messages", "hi"),
    ("messages", [{"role": "user"}]),
    ("messages", [{"role": "king", "content": "x"}]),
    ("messages", [7]),
    ("messages", []),
    ("temperature", "hot"),
    ("temperature", -1),
    ("temperature", 1e9),
    ("top_p", 2),
    ("max_tokens", 0),
    ("max_tokens", "many"),
    ("max_tokens", 1.5),
    ("n", 0),
    ("n", 129),
    ("stop", 7),
    ("stop", ["a", 7]),
    ("stream_options", "usage"),
    ("tools", {}),
    ("tools", [{"type": "function"}]),
    ("tool_choice", 7),
    ("seed", "x"),
    ("logit_bias", [1]),
    ("frequency_penalty", 99),
    ("response_format", "json"),
    ("user", 7),
    ("metadata", "x"),
    ("store", "yes"),
    ("service_tier", []),
    ("never_heard_of", 1),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=[f"{f}={v!r}"[:40] for f, v in BAD_FIELDS])
async def test_bad_fields_are_named(daemon: Daemon, field: str, value: object) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], field: value}
    async with daemon.http() as http, http.post(CHAT, data=json.dumps(body), headers=JSON) as reply:
        error = (await reply.json())["error"]
        assert reply.status == 400, error
    assert error["param"].startswith(field)
    assert field in error["message"]


async def test_too_large_is_a_413_at_once(daemon: Daemon) -> None:
    body = b'{"model": "demo", "messages": "' + b"x" * (5 << 20) + b'"}'
    async with daemon.http() as http:
        async with http.post(CHAT, data=io.BytesIO(body), headers=JSON) as reply:
            assert reply.status == 413

        async def drip() -> object:
            for _ in range(90):
                yield b"x" * 65536

        async with http.post("/v1/messages", data=drip(), headers=JSON) as reply:
            assert reply.status == 413
            assert (await reply.json())["error"]["type"] == "request_too_large"


async def test_dripping_body_ends_in_a_408(daemon: Daemon) -> None:
    """aiohttp has no deadline for a body: it waited for ever."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b"content-length: 100\r\n\r\n{" % daemon.port
    )
    async with asyncio.timeout(6):
        assert b" 408 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/chat", 404),
        ("POST", "/chat/completions", 404),
        ("GET", "/v1/files", 400),
        ("PUT", "/healthz", 404),
        ("GET", "/v1/models/not-there", 404),
        ("POST", "/v1/%2e%2e/admin", 400),
        ("POST", "/v1//chat", 400),
        ("TRACE", "/v1/chat/completions", 405),
    ],
)
async def test_wrong_paths_and_methods(daemon: Daemon, method: str, path: str, status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{daemon.port}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    )
    data = await reader.read()
    writer.close()
    assert f" {status} ".encode() in data.split(b"\r\n", 1)[0], data
    assert b'"error"' in data


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=" + "b" * 300, b"x"),
        ("multipart/form-data; boundary=B0", b"no border at all"),
        (
            "multipart/form-data; boundary=B0",
            b'--B0\r\ncontent-disposition: form-data; name="model"\r\n\r\n' + b"m" * 4000,
        ),
        ("multipart/form-data; boundary=B0", b"--B0\r\n" + b"x" * 40_000),
    ],
)
async def test_bad_forms(daemon: Daemon, headers: str, body: bytes) -> None:
    async with (
        daemon.http() as http,
        http.post("/v1/audio/transcriptions", data=body, headers={"content-type": headers}) as reply,
    ):
        assert reply.status == 400, await reply.text()


async def test_smuggled_requests_are_refused(daemon: Daemon) -> None:
    corpus = [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n\r\n{}",
        b"content-length: +2\r\n\r\n{}",
        b"transfer-encoding: xchunked\r\n\r\n",
        b"content-length : 2\r\n\r\n{}",
        b"host: other\r\ncontent-length: 2\r\n\r\n{}",
    ]
    for rest in corpus:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            % daemon.port
            + rest
        )
        async with asyncio.timeout(5):
            data = await reader.read()
        assert data.startswith(b"HTTP/1.1 4") or data.startswith(b"HTTP/1.0 4"), (rest, data)
        assert b"Traceback" not in data
        writer.close()


async def test_what_an_upstream_of_another_dialect_cannot_be_asked_is_named(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab, dialect="anthropic"))
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    async with daemon.http() as http:
        async with http.post(CHAT, json={**asked, "n": 3}) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["param"] == "n"
        async with http.post("/v1/embeddings", json={"model": model, "input": "Hi"}) as reply:
            assert reply.status == 400
            assert "anthropic dialect" in (await reply.json())["error"]["message"]
    assert lab.hits == 0
