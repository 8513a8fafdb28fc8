"""One request and its reply on one connection: writes, waits for the head, and ends at once when told to.

The connection goes back to the pool by itself when the reply has come to its end; in every other case
it is aborted, so that the upstream sees at once that nobody listens any more.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader

from gateway.backend import RequestBody

_AT_ONCE = 1 << 18  # bodies up to this size leave in one write together with the head
_READ_BUFFER = 1 << 16  # twice this much of a reply is held per connection before reading pauses
_HEAD_LINE = 1 << 15  # providers and what stands before them send long policy and cookie fields


class BodyFailed(Exception):  # noqa: N818 - carries what the client's side raised, on its way back there
    """The request's body could not be read to its end: nothing that the upstream has done."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Exchange:
    """What happens on a connection between taking it from the pool and giving it back."""

    __slots__ = (
        "_connection",
        "_loop",
        "_payload",
        "_protocol",
        "_sent",
        "_upload",
        "body_error",
        "complete",
    )

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        protocol = connection.protocol
        assert protocol is not None
        self._connection = connection
        self._protocol: ResponseHandler = protocol
        self._loop = loop
        self._payload: StreamReader | None = None
        self._upload: asyncio.Task[None] | None = None
        self.body_error: Exception | None = None  # what reading the request's body raised
        self._sent = False  # the whole body went out
        self.complete = False  # the reply has come to its end, as far as the peer says

    async def send(self, head: bytes, body: RequestBody | None, *, method: str) -> RawResponseMessage:
        """Write the request and wait for the head of the final reply.

        A reply that comes before the body is out is taken: it is usually the reason why it never will be.
        Raises what `faults.FOREIGN` lists, and BodyFailed.
        """
        protocol = self._protocol
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            max_line_size=_HEAD_LINE,
            max_field_size=_HEAD_LINE,
        )
        transport = protocol.transport
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        data = b"" if body is None else body.data
        if body is None or (data is not None and len(data) <= _AT_ONCE):
            transport.write(head + data if data else head)
        else:
            transport.write(head)
            self._upload = self._loop.create_task(self._send_body(body), name="upstream-upload")
        try:
            while True:
                message, payload = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    break
        except Exception:
            if self.body_error is not None:
                raise BodyFailed(self.body_error) from self.body_error
            raise
        self._payload = payload
        payload.on_eof(self._ended)
        return message

    @property
    def payload(self) -> StreamReader:
        """Where the reply's body is read from; when reading raises, look at `body_error` first."""
        assert self._payload is not None
        return self._payload

    def left_over(self) -> bytes:
        """What had arrived before the reply broke: aiohttp raises first and would keep it to itself."""
        payload = self._payload
        return payload._read_nowait(-1) if payload is not None and payload._buffer else b""

    @property
    def was_reset(self) -> bool:
        """Did the connection end by a fault? aiohttp says nothing when a body without a length is cut so."""
        return isinstance(self._protocol.exception(), OSError)

    def stop(self) -> None:
        """Abort the connection unless it was given back; whoever still reads is woken. Safe to repeat."""
        if self._upload is not None:
            self._upload.cancel()
        if self._connection.protocol is None:
            return
        if self._payload is not None and not self.complete and self._payload.exception() is None:
            self._payload.set_exception(aiohttp.ClientConnectionError("stopped"))
        self._protocol.abort()
        self._connection.close()

    async def stopped(self) -> None:
        """Wait until nothing of this exchange runs any more."""
        if self._upload is not None:
            await asyncio.wait([self._upload])

    def _ended(self) -> None:
        self.complete = True
        if self._upload is None or self._upload.done():
            self._give_back(self._upload)
        else:
            self._upload.add_done_callback(self._give_back)

    def _give_back(self, upload: asyncio.Task[None] | None = None) -> None:
        """To the pool, unless part of the body was not sent: the next request would be read as the rest."""
        if upload is not None and (upload.cancelled() or not self._sent):
            self.stop()
        elif self._connection.protocol is not None:
            self._connection.release()

    async def _send_body(self, body: RequestBody) -> None:
        writer = StreamWriter(self._protocol, self._loop)
        size = body.size
        if size is None:
            writer.enable_chunking()
        sent = 0
        pieces = body.chunks() if body.data is None else None
        try:
            if pieces is None:
                await self._send_bytes(writer, body.data or b"")
                self._sent = True
                return
            while True:
                try:
                    piece = await anext(pieces, None)
                except Exception as error:
                    self._fail(error)
                    return
                if piece is None:
                    break
                sent += len(piece)
                if size is not None and sent > size:
                    break
                await writer.write(piece)
            if size is not None and sent != size:
                self._fail(ValueError(f"the body has {sent} bytes or more, {size} were announced"))
                return
            await writer.write_eof()
            self._sent = True
        except (aiohttp.ClientError, OSError):
            return  # the upstream takes no more; the reader of the reply learns why

    async def _send_bytes(self, writer: StreamWriter, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(data), _AT_ONCE):
            await writer.write(view[at : at + _AT_ONCE])

    def _fail(self, error: Exception) -> None:
        """The client's side broke: whoever waits for the reply gets to know that instead."""
        self.body_error = error
        stopped = aiohttp.ClientConnectionError("the request's body broke off")
        self._protocol.set_exception(stopped)
        if self._payload is not None:
            self._payload.set_exception(stopped)
