"""A request's body, read under limits of size and time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from aiohttp import web

from gateway.errors import RequestError
from gateway.relay.upload import Upload
from gateway.wire.multipart import boundary_of

_BYTES_PER_S = 100_000  # a slower sender than this is cut; a phone line of 1998 does better


async def read_body(request: web.Request, *, limit: int, timeout_s: float) -> bytes:
    """The whole body; RequestError 413 when it is larger than `limit`, 408 when it drips."""
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    content = request.content
    if content.is_eof():
        data: bytes = content.read_nowait(-1)
        if len(data) > limit:  # in chunks, so that its length was not told
            raise _too_large(limit)
        return data
    try:
        async with asyncio.timeout(timeout_s + (length or 0) / _BYTES_PER_S):
            return await _read_all(content, limit)
    except TimeoutError:
        raise RequestError(
            f"the body did not arrive within {timeout_s:g} s; send it again",
            status=408,
            code="request_timeout",
        ) from None
    except web.RequestPayloadError as error:
        raise RequestError("the body's chunks are not well-formed", code="incomplete_body") from error


async def _read_all(content: aiohttp.StreamReader, limit: int) -> bytes:
    parts = []
    size = 0
    while chunk := await content.readany():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_upload(request: web.Request, *, kind: str, folder: Path | None, idle_s: float) -> Upload:
    """A body to be streamed; a form is read as far as its model, of anything else nothing is read."""
    form = kind == "multipart/form-data"
    boundary = boundary_of(request.headers.get("content-type", "")) if form else None
    upload = Upload(
        request.content, boundary=boundary, size=request.content_length, idle_s=idle_s, folder=folder
    )
    try:
        await upload.find_model()
    except BaseException:
        upload.close()
        raise
    return upload


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"the body is larger than {limit >> 20} MB (server.max_body_mb)",
        status=413,
        code="request_too_large",
    )
