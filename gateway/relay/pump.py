"""Bytes to the client once an attempt is committed: each part flushed at once, never a silent end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure
from gateway.relay.pulse import Pulse
from gateway.wire.sse import comment

_DAY_S = 86_400.0


class ClientStuck(Exception):  # noqa: N818 - it is a client that left, not an error of ours
    """The client takes nothing of its answer."""


class RawResponse(web.StreamResponse):
    """Bytes as they come. Its head goes out with the first of them, in one write instead of two."""

    _send_headers_immediately = False  # aiohttp's own responses with a body do the same


class EventResponse(EventSourceResponse):
    """Server-sent events. Its head, too, goes out with the first of them."""

    _send_headers_immediately = False


def event_response() -> EventResponse:
    """A response of server-sent events. Heartbeats are ours: sent only after a quiet time."""
    response = EventResponse(sep="\n", allow_all_methods=True, ping_interval=_DAY_S, send_timeout=None)
    del response.headers["connection"]  # the server knows better whether it is kept alive
    return response


def is_over(response: web.StreamResponse) -> bool:
    """Has its end been sent?"""
    return response._eof_sent


class Carried(Protocol):
    """A committed answer: what is held of it, and what follows. `ended`: nothing follows any more."""

    held: list[bytes]

    @property
    def is_events(self) -> bool:
        """Is each part the data of one event, rather than bytes that are framed already?"""

    @property
    def ended(self) -> bool: ...

    @property
    def comments_are_safe(self) -> bool: ...

    def rest(self) -> AsyncIterator[bytes]: ...


class Pump:
    """Carries one committed attempt to the client."""

    def __init__(
        self,
        request: web.Request,
        *,
        idle_s: float,
        heartbeat_s: float,
        write_s: float,
        deadline: float,
        supervise: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._request = request
        self._limits = (idle_s, heartbeat_s, write_s, deadline)
        self._supervise = supervise
        self._pulse: Pulse | None = None
        self._interrupted: str | None = None

    def interrupt(self, message: str) -> None:
        """Break what is carried, or what will be; once the last byte is on its way it does nothing."""
        self._interrupted = message
        if self._pulse is not None:
            self._pulse.interrupt(message)

    async def carry(self, attempt: Carried, response: web.StreamResponse) -> Failure | None:
        """Send what is held and what follows. Returns why it broke, None for a clean end."""
        send = _send_events if attempt.is_events else _send_raw
        idle_s, heartbeat_s, write_s, deadline = self._limits

        def beat() -> None:
            if attempt.comments_are_safe:
                task = asyncio.get_running_loop().create_task(_beat(response), name="heartbeat")
                self._supervise(task)

        self._pulse = pulse = Pulse(
            idle_s=idle_s, heartbeat_s=heartbeat_s, write_s=write_s, deadline=deadline, beat=beat
        )
        try:
            async with pulse:
                if self._interrupted is not None:
                    pulse.interrupt(self._interrupted)
                pulse.writing()
                await send(response, attempt.held, attempt.ended)
                attempt.held.clear()
                pulse.written()
                async for part in attempt.rest():
                    pulse.writing()
                    await send(response, (part,), attempt.ended)
                    pulse.written()
        except TimeoutError:
            if pulse.failure is None:
                self._cut_off()
                raise ClientStuck from None
            if attempt.ended and not attempt.is_events:
                # The last byte is written and only waits for the client: nothing may follow it any more.
                raise ClientStuck from None
            if attempt.ended:
                return None
            return pulse.failure
        except AttemptFailed as failed:
            return failed.failure
        return None

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


async def _send_raw(response: web.StreamResponse, parts: Sequence[bytes], ended: bool) -> None:
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if ended:
        await response.write_eof(data)  # the last bytes and the end of the body in one write
    elif data:
        await response.write(data)


async def _send_events(response: web.StreamResponse, parts: Sequence[bytes], _: bool) -> None:
    assert isinstance(response, EventSourceResponse)
    for part in parts:
        await response.send(part.decode())


async def _beat(response: web.StreamResponse) -> None:
    """A comment keeps the connection alive; a client that is gone is noticed elsewhere."""
    try:
        await response.write(comment("keep-alive"))
    except (ConnectionError, RuntimeError):  # the latter when the stream has ended meanwhile
        return
