"""A multipart upload on its way through: held only until its `model` field is known, then streamed.

The documented order of an audio upload is file first, model last, and the target depends on the
model. So what comes before the model goes to an unlinked temporary file, a block at a time, and
never stays in memory. What comes after it is never held: once that part has begun to leave, the
upload can't be sent to another target.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import aiohttp

from gateway.errors import RequestError
from gateway.wire.multipart import ModelScan, ScanState

_BLOCK_BYTES = 1 << 20
_READ_BYTES = 1 << 16


class Upload:
    """A request body that is too large to hold."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        *,
        boundary: bytes | None,  # None: no form, so there is no model to look for
        size: int | None,
        idle_s: float,
        folder: Path | None = None,
    ) -> None:
        self._content = content
        self._scan = ModelScan(boundary) if boundary is not None else None
        self._folder = folder
        self._size = size
        self._idle_s = idle_s
        self._block = bytearray()
        self._spool: IO[bytes] | None = None
        self._held = 0
        self._tail_begun = False
        self._closed = False

    @property
    def model(self) -> str | None:
        return self._scan.model if self._scan is not None else None

    @property
    def size(self) -> int | None:
        return self._size

    @property
    def data(self) -> bytes | None:
        return None

    @property
    def replayable(self) -> bool:
        return not self._tail_begun

    async def find_model(self) -> None:
        """Read on until the model is known, or known to be absent."""
        scan = self._scan
        while scan is not None and scan.state is ScanState.SEARCHING:
            chunk = await self._read()
            if not chunk:
                break
            scan.feed(chunk)
            self._block += chunk
            self._held += len(chunk)
            if len(self._block) >= _BLOCK_BYTES:
                await self._flush()
        if scan is not None and scan.fault is not None:
            raise scan.fault
        if self._spool is not None:
            await self._flush()

    def renamed(self, model: str) -> Upload | _Renamed:
        """The same upload with another model name in its form field."""
        return self if model == self.model else _Renamed(self, model)

    def chunks(self) -> AsyncIterator[bytes]:
        return self._pieces(None)

    async def _pieces(self, model: str | None) -> AsyncIterator[bytes]:
        span = self._scan.span if self._scan is not None else None
        if model is None or span is None:
            async for piece in self._head(0, self._held):
                yield piece
        else:
            async for piece in self._head(0, span[0]):
                yield piece
            yield model.encode()
            async for piece in self._head(span[1], self._held):
                yield piece
        while True:
            self._tail_begun = True
            chunk = await self._read()
            if not chunk:
                return
            yield chunk

    async def _head(self, start: int, end: int) -> AsyncIterator[bytes]:
        if self._spool is None:
            if end > start:
                yield bytes(self._block[start:end])
            return
        while start < end:
            piece = await asyncio.to_thread(self._take, start, min(end - start, _READ_BYTES * 4))
            yield piece
            start += len(piece)

    def _take(self, start: int, size: int) -> bytes:
        assert self._spool is not None
        # By place: what an attempt that was cancelled still reads must not move where the next one reads.
        return os.pread(self._spool.fileno(), size, start)

    async def _flush(self) -> None:
        block, self._block = self._block, bytearray()
        try:
            await asyncio.to_thread(self._write, block)
        except OSError as error:
            raise RequestError(
                f"the upload can't be kept until its model is known: {error.strerror}; send the model "
                "field before the file",
                status=507,
                code="insufficient_storage",
                kind="server_error",
            ) from error

    def _write(self, block: bytearray) -> None:
        if self._spool is None:
            # In the home, because a system's folder for such files may be memory.
            self._spool = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by close()
        self._spool.write(block)
        self._spool.flush()
        if self._closed:  # the client left while this thread was writing
            self._spool.close()

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s):
                return await self._content.read(_READ_BYTES)
        except TimeoutError:
            raise RequestError(
                f"the upload stood still for {self._idle_s:g} s; send it again",
                status=408,
                code="upload_timeout",
            ) from None

    def close(self) -> None:
        """Give the temporary file back."""
        self._closed = True
        if self._spool is not None:
            self._spool.close()
            self._spool = None


class _Renamed:
    """An upload as one target sees it."""

    def __init__(self, upload: Upload, model: str) -> None:
        self._upload = upload
        self._model = model

    @property
    def size(self) -> int | None:
        if self._upload.size is None or self._upload.model is None:
            return self._upload.size
        return self._upload.size + len(self._model.encode()) - len(self._upload.model.encode())

    @property
    def data(self) -> bytes | None:
        return None

    def chunks(self) -> AsyncIterator[bytes]:
        return self._upload._pieces(self._model)
