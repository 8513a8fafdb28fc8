"""The body of an upstream's reply on its way to the relay: bytes as they came, or why they stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from aiohttp.http import RawResponseMessage

from gateway.backend import AttemptFailed, Framing
from gateway.cloud import faults
from gateway.cloud.decode import DecodeError, Inflate
from gateway.cloud.exchange import Exchange
from gateway.failover.outcome import Failure


class CloudReply:
    """A reply that has begun. Iterate once; what is cut, reset or truncated ends in `AttemptFailed`."""

    framing = Framing.RAW
    trail = None  # an upstream tells text, not tokens

    def __init__(
        self,
        exchange: Exchange,
        message: RawResponseMessage,
        *,
        upstream: str,
        headers: tuple[tuple[str, str], ...],
        inflate: Inflate | None,
        limit: int | None,
    ) -> None:
        self.status = message.code
        self.headers = headers
        self._exchange = exchange
        self._read = exchange.payload.readany
        self._upstream = upstream
        self._inflate = inflate
        self._left = limit
        self._until_close = not message.chunked and "Content-Length" not in message.headers
        self._ready: deque[bytes] = deque()
        self._failure: Failure | None = None
        self._closed = False

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it was read, cut anywhere."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._failure is not None:
                raise AttemptFailed(self._failure)
            try:
                chunk = await self._read()
            except faults.FOREIGN:
                if (cause := self._exchange.body_error) is not None:
                    self._exchange.stop()
                    raise cause from None
                self._take_rest()
                self._break(faults.broken_body(self._upstream))
                continue
            if not chunk:
                self._check_end()
                raise StopAsyncIteration
            if self._left is not None:
                self._left -= len(chunk)
            if self._inflate is None and (self._left is None or self._left >= 0):
                return chunk
            self._take(chunk)

    async def aclose(self) -> None:
        """Stop the upstream at once, unless the reply is complete."""
        self._closed = True
        self._exchange.stop()
        await self._exchange.stopped()

    def _take_rest(self) -> None:
        """What had arrived before the reply broke, which aiohttp would keep to itself."""
        rest = b"" if self._closed else self._exchange.left_over()
        if rest and self._inflate is not None:
            self._take(rest)
        elif rest:
            self._ready.append(rest)

    def _take(self, chunk: bytes) -> None:
        """Decode, and stop where a reply grows beyond what will be held of it."""
        if self._inflate is not None:
            try:
                for piece in self._inflate.feed(chunk):
                    if self._left is not None:
                        self._left -= len(piece)
                        if self._left < 0:
                            break
                    self._ready.append(piece)
            except DecodeError:
                self._break(faults.broken_body(self._upstream, "sent a reply that can't be decompressed"))
                return
        if self._left is not None and self._left < 0:
            self._break(faults.broken_body(self._upstream, "sent a reply that is too large to hold"))

    def _break(self, failure: Failure) -> None:
        """Keep the first failure for when everything that came before it was taken."""
        if self._failure is None:
            self._failure = faults.closed_here() if self._closed else failure
        self._exchange.stop()

    def _check_end(self) -> None:
        if self._inflate is not None and not self._inflate.ended:
            self._failure = faults.broken_body(self._upstream, "sent a compressed reply without its end")
        elif self._until_close and self._exchange.was_reset:
            self._failure = faults.broken_body(self._upstream)
        if self._failure is not None:
            raise AttemptFailed(self._failure)
