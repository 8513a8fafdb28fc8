"""What a stream owes its client while nothing comes: comments, and an end to the waiting.

One timer per stream looks now and then at when something last happened, so that a chunk costs
an assignment instead of a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.failover.outcome import Failure, Outcome

_LOOK_S = 1.0


class Pulse:
    """Watches one committed stream. As a context manager it raises `TimeoutError` in the body
    when the stream is broken; `failure` then says how, None meaning that the client stands still.

    `beat` is called after every quiet `heartbeat_s` and sends a comment.
    """

    def __init__(
        self,
        *,
        idle_s: float,
        heartbeat_s: float,
        write_s: float,
        deadline: float,
        beat: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._heartbeat_s = heartbeat_s
        self._write_s = write_s
        self._deadline = deadline
        self._beat = beat
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._read_at = self._loop.time()
        self._beat_at = self._read_at
        self._writing_since: float | None = None
        self._over = False  # broken, or left as a context
        self.failure: Failure | None = None
        self.client_stuck = False

    def writing(self) -> None:
        """A write to the client has begun."""
        self._writing_since = self._loop.time()

    def written(self) -> None:
        """The client took it. The target was not read meanwhile, so its idle time starts now."""
        self._writing_since = None
        self._read_at = self._loop.time()

    def interrupt(self, message: str) -> None:
        """Break the stream now, for a reason of our own (shutdown); nothing if it is over."""
        self._break(Failure(outcome=Outcome.SERVER_FAULT, message=message))

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _look(self) -> None:
        now = self._loop.time()
        if self._writing_since is not None:
            stuck_at = self._writing_since + self._write_s
            if now >= stuck_at:
                self.client_stuck = self._over = True
                self._timeout.reschedule(now)
                return
            # Past the deadline it is looked at again soon, not at once: nothing can be said to a client
            # that takes nothing, and the next look may find the write done.
            self._again(min(stuck_at, max(self._deadline, now + _LOOK_S)))
            return
        idle_at = self._read_at + self._idle_s
        if now >= self._deadline:
            self._break(_slow("the request's deadline has passed"))
            return
        if now >= idle_at:
            self._break(_slow(f"no event came for {self._idle_s:g} s"))
            return
        beat_at = max(self._read_at, self._beat_at) + self._heartbeat_s
        if now >= beat_at:
            self._beat_at = now
            self._beat()
            beat_at = now + self._heartbeat_s
        self._again(min(idle_at, beat_at, self._deadline))

    def _again(self, when: float) -> None:
        # A write that begins meanwhile is noticed at the latest one write limit after the look.
        when = min(when, self._loop.time() + self._write_s)
        self._timer = self._loop.call_at(when, self._look)

    def _break(self, failure: Failure) -> None:
        if not self._over:
            self._over = True
            self.failure = failure
            if self._timer is not None:
                self._timer.cancel()
            self._timeout.reschedule(self._loop.time())


def _slow(message: str) -> Failure:
    return Failure(outcome=Outcome.SLOW, message=message)
