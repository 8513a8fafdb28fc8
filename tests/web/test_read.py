"""A body is read under limits of size and time, whatever it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.errors import RequestError
from gateway.web.read import read_body, read_upload

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Tells what came of reading: the size, or the refusal."""

    async def body(request: web.Request) -> web.Response:
        try:
            data = await read_body(request, limit=1000, timeout_s=0.1)
        except RequestError as error:
            return web.json_response({"code": error.code}, status=error.status)
        return web.json_response({"size": len(data)})

    async def upload(request: web.Request) -> web.Response:
        try:
            form = await read_upload(request, kind="multipart/form-data", folder=None, idle_s=0.1)
        except RequestError as error:
            return web.json_response({"code": error.code}, status=error.status)
        model = form.model
        form.close()
        return web.json_response({"model": model, "size": form.size})

    app = web.Application(client_max_size=1)
    app.router.add_post("/body", body)
    app.router.add_post("/upload", upload)
    async with TestClient(TestServer(app)) as made:
        yield made


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
async def test_what_fits_is_read(client: Client, size: int) -> None:
    for data in (b"x" * size, chunks(size // 2, size - size // 2) if size else b""):
        async with client.post("/body", data=data) as reply:
            assert (await reply.json())["size"] == size


async def test_what_does_not_fit_is_a_413(client: Client) -> None:
    for data in (b"x" * 1001, chunks(600, 600), chunks(5_000)):
        async with client.post("/body", data=data) as reply:
            assert (reply.status, (await reply.json())["code"]) == (413, "request_too_large")


async def test_a_length_that_is_too_large_is_refused_before_the_body(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
    assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", ["/body", "/upload"])
async def test_a_body_that_stops_is_a_408(client: Client, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=B\r\n"
        "content-length: 100\r\n\r\n--B\r\n".encode()
    )
    async with asyncio.timeout(2):
        assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_broken_chunk_is_no_fault_of_ours(client: Client) -> None:
    """The exception that aiohttp puts into the body was a 500 with a traceback."""

    class Content:
        def is_eof(self) -> bool:
            return False

        async def readany(self) -> bytes:
            raise web.RequestPayloadError("bad chunk")

    class Request:
        content_length = None
        content = Content()

    with pytest.raises(RequestError) as caught:
        await read_body(Request(), limit=10, timeout_s=1.0)  # type: ignore[arg-type]
    assert caught.value.status == 400
    assert (await client.get("/body")).status == 405


async def test_uploads_are_read_as_far_as_their_model(client: Client) -> None:
    form = b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--B--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=B"}
    async with client.post("/upload", data=form, headers=kind) as reply:
        assert await reply.json() == {"model": "m", "size": len(form)}
    for bad in ("multipart/form-data", "multipart/form-data; boundary=" + "b" * 300):
        async with client.post("/upload", data=form, headers={"content-type": bad}) as reply:
            assert reply.status == 400
