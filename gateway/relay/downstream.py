"""The client's side of one answer: its head, its bytes, its end, and what is said when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiohttp import HttpVersion11, web

from gateway.failover.verdict import Verdict
from gateway.relay.answer import Trail, broken_event, put_head, put_trail
from gateway.relay.attempt import Attempt
from gateway.relay.pump import ClientStuck, EventResponse, RawResponse, event_response, is_over
from gateway.wire.dialect import Dialect
from gateway.wire.sse import comment

_AT_ONCE = 1 << 16  # what a connection takes without being waited for


class Downstream:
    """What one client gets. `stream` is set once a head is on its way."""

    def __init__(
        self,
        request: web.Request,
        dialect: Dialect,
        *,
        request_id: str,
        write_s: float,
        numbered: bool = False,
    ) -> None:
        self.stream: web.StreamResponse | None = None
        self._request = request
        self._dialect = dialect
        self._request_id = request_id
        self._write_s = write_s
        self._numbered = numbered  # does this API count its events?
        self._carried: Attempt | None = None
        self._events: EventResponse | None = None  # the same, where it is one of events
        self._in_band = False  # may an error be said as an event?
        self._quiet = False  # may no comment be put between the events?

    @property
    def promised(self) -> bool:
        """Has the client been told that events come, before anybody had an answer?"""
        return self._events is not None

    async def beat(self, trail: Trail) -> None:
        """Keep the client alive with a comment; the first one needs a head to stand behind."""
        if self.stream is None:
            self._events = events = event_response()
            self._in_band = True
            put_trail(events, trail)
            await self._start(events)
        if self.stream is not None and not self._quiet:
            await self.stream.write(comment("waiting"))

    async def begin(self, attempt: Attempt, trail: Trail) -> web.StreamResponse:
        """The response that carries a committed stream."""
        self._carried = attempt
        if self.stream is not None:
            # The head is out since the first heartbeat; who answers in the end is told in a comment.
            await self.stream.write(comment(f"served-by {attempt.candidate.label}"))
            if trail.changed:
                await self.stream.write(comment(f"changed {', '.join(trail.changed)}"))
            return self.stream
        stream: web.StreamResponse = RawResponse()
        if attempt.is_events:
            stream = self._events = event_response()
        self._in_band = attempt.watch is not None
        put_head(stream, attempt, trail)
        await self._start(stream)
        return stream

    async def whole(self, attempt: Attempt, body: bytes, trail: Trail) -> web.StreamResponse:
        """A reply that is complete already."""
        if len(body) <= _AT_ONCE:
            response = web.Response(body=body)
            put_head(response, attempt, trail)
            return response
        stream = RawResponse()
        put_head(stream, attempt, trail)
        stream.content_length = len(body)
        await self._start(stream)
        view = memoryview(body)
        for at in range(0, len(body), _AT_ONCE):
            await self._taken(stream.write(view[at : at + _AT_ONCE]))
        return await self.finish()

    async def say(self, verdict: Verdict) -> None:
        """One error event that says what happened, or a cut where events can't be sent."""
        assert self.stream is not None
        if is_over(self.stream):
            return
        if self._in_band:
            number = None
            if self._numbered:
                number = 0 if self._carried is None else self._carried.next_number
            event = broken_event(self._dialect, verdict, self._request_id, number=number)
            await self.stream.write(event)
        else:
            # A half file must not look like a whole one: no terminating chunk, a cut.
            self.cut_off()

    def hush(self) -> None:
        """From here on no comment of ours: the client's parser would stumble over it."""
        self._quiet = True

    async def finish(self) -> web.StreamResponse:
        """End the answer."""
        assert self.stream is not None
        transport = self._request.transport
        if transport is not None and not transport.is_closing() and not is_over(self.stream):
            await self._taken(self.stream.write_eof())
        return self.stream

    def release(self) -> None:
        """Nothing more comes, whatever has happened."""
        if self._events is not None and self._events.is_connected():
            self._events.stop_streaming()

    def cut_off(self) -> None:
        """End the connection."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _start(self, stream: web.StreamResponse) -> None:
        if self._request.version < HttpVersion11 and stream.content_length is None:
            stream.force_close()  # nothing but the end of the connection tells where the body ends
        self.stream = stream
        await stream.prepare(self._request)

    async def _taken(self, write: Awaitable[None]) -> None:
        """Wait until the client has taken what is written, but not for ever."""
        try:
            async with asyncio.timeout(self._write_s):
                await write
        except TimeoutError:
            self.cut_off()
            raise ClientStuck from None
