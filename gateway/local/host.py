"""Keeps an engine alive and brings its events to those who wait for them.

It starts the engine with the first command, watches its pulse, and replaces it when it hangs or
ends; every request that was with it is told so at once. An engine that is lost again and again
is left alone for a while.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.failover.outcome import Failure, Outcome
from gateway.local.mailbox import (
    Accepted,
    Began,
    Called,
    Cancel,
    Counters,
    Delta,
    EngineTransport,
    Event,
    Finished,
    Gone,
    Load,
    ModelChanged,
    ModelFolder,
    Refused,
    Stop,
    Submit,
)
from gateway.local.request import ChatRequest

log = logging.getLogger(__name__)

_LOSSES = 3  # within
_LOSS_WINDOW_S = 300.0  # this time an engine is left alone for
_REST_S = 60.0

TicketEvent = Accepted | Began | Delta | Called | Finished | Refused


class Ticket:
    """One request at the engine, as the event loop sees it."""

    __slots__ = ("_events", "_wake", "id", "model", "over")

    def __init__(self, number: int, model: ModelFolder) -> None:
        self.id, self.model = number, model
        self.over = False  # no event will follow
        self._events: deque[TicketEvent] = deque()
        self._wake = asyncio.Event()

    def put(self, event: TicketEvent) -> None:
        self._events.append(event)
        self._wake.set()

    async def take(self) -> TicketEvent:
        """The next event; those that have come already are taken without a turn of the loop."""
        while not self._events:
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()

    def more_text(self, first: Delta) -> str:
        """The text of `first` and of all deltas of its kind that have come behind it."""
        events = self._events
        if not events:
            return first.text
        parts = [first.text]
        while events and isinstance(after := events[0], Delta) and after.reasoning is first.reasoning:
            parts.append(after.text)
            events.popleft()
        return "".join(parts)


class Listener(Protocol):
    """Who is told what became of requests and models."""

    def began(self, ticket: Ticket) -> None: ...

    def ended(self, ticket: Ticket) -> None: ...

    def model_changed(self, event: ModelChanged) -> None: ...

    def engine_lost(self) -> None: ...


Deliver = Callable[[list[Event]], None]


class Host:
    """The one engine, its tickets and its watchdog."""

    def __init__(
        self, make: Callable[[Deliver], EngineTransport], listener: Listener, *, step_limit_s: float
    ) -> None:
        self._make, self._listener, self._step_limit_s = make, listener, step_limit_s
        self._engine: EngineTransport | None = None
        self._tickets: dict[int, Ticket] = {}
        self._numbers = itertools.count(1)
        self._losses: deque[float] = deque(maxlen=_LOSSES)
        self._watch: asyncio.Task[None] | None = None
        self._abandoned: list[EngineTransport] = []  # given up, but perhaps still there
        self._past = Counters()  # of engines that are gone
        self.replaced = 0

    @property
    def running(self) -> bool:
        return self._engine is not None

    @property
    def tired(self) -> float:
        """Seconds for which no new engine is started, because too many were lost."""
        if len(self._losses) < _LOSSES or self._losses[-1] - self._losses[0] > _LOSS_WINDOW_S:
            return 0.0
        return max(0.0, self._losses[-1] + _REST_S - time.monotonic())

    def phase(self) -> str:
        return self._engine.pulse().phase if self._engine is not None else "off"

    def counters(self) -> Counters:
        now = self._engine.counters() if self._engine is not None else Counters()
        return _sum(self._past, now)

    def ticket(self, model: ModelFolder) -> Ticket:
        return Ticket(next(self._numbers), model)

    def submit(self, ticket: Ticket, request: ChatRequest) -> None:
        self._tickets[ticket.id] = ticket
        self._running_engine().post(Submit(ticket.id, ticket.model, request))

    def load(self, model: ModelFolder) -> None:
        self._running_engine().post(Load(model))

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more; safe at any time."""
        if ticket.over:
            return
        if self._engine is not None:
            self._engine.post(Cancel(ticket.id))
        self._end(ticket)

    async def close(self, deadline: float) -> bool:
        """Stop the engine until `deadline` (loop time); False when one did not end, a hung one included."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        engine, self._engine = self._engine, None
        self._refuse_all("the gateway is shutting down", Outcome.OVERLOADED)
        left = max(0.05, deadline - asyncio.get_running_loop().time())
        until = time.monotonic() + left
        leaving = [other for other in self._abandoned if other.alive]
        if engine is not None:
            engine.post(Stop())
            leaving.append(engine)

        def join() -> bool:
            return all(other.join(max(0.0, until - time.monotonic())) for other in leaving)

        return await asyncio.to_thread(join) if leaving else True

    def _running_engine(self) -> EngineTransport:
        if self._engine is None:
            loop = asyncio.get_running_loop()
            made: list[EngineTransport] = []

            def deliver(events: list[Event]) -> None:
                try:
                    loop.call_soon_threadsafe(self._route, made, events)
                except RuntimeError:  # the loop is closed: nobody is left to be told
                    log.debug("the engine spoke after the loop had closed")

            engine = self._make(deliver)
            made.append(engine)
            self._engine = engine
            if self._watch is None:
                self._watch = loop.create_task(self._watch_over(), name="local-watchdog")
        return self._engine

    def _route(self, source: list[EngineTransport], events: list[Event]) -> None:
        if not source or source[0] is not self._engine:
            return  # an engine that was given up; its requests have been answered
        for event in events:
            if isinstance(event, ModelChanged):
                self._listener.model_changed(event)
            elif isinstance(event, Gone):
                self._lose("the local engine has ended")
                return
            elif (ticket := self._tickets.get(event.id)) is not None:
                ticket.put(event)
                if isinstance(event, Began):
                    self._listener.began(ticket)
                elif isinstance(event, Finished | Refused):
                    self._end(ticket)

    async def _watch_over(self) -> None:
        """Look at the pulse again and again; give the engine up when it stands still or is gone."""
        pause = min(1.0, self._step_limit_s / 4)
        while True:
            await asyncio.sleep(pause)
            engine = self._engine
            if engine is None:
                continue
            pulse = engine.pulse()
            limit = self._step_limit_s + pulse.allowance_s
            if not engine.alive:
                self._lose("the local engine has died")
            elif pulse.phase != "idle" and time.monotonic() - pulse.since > limit:
                self._lose(f"the local engine hangs ({pulse.phase} for more than {limit:g} s)")

    def _lose(self, why: str) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        log.error("%s; it is replaced when it is needed next", why)
        engine.abandon()
        self._abandoned = [*(other for other in self._abandoned if other.alive), engine]
        self._past = _sum(self._past, engine.counters())
        self._losses.append(time.monotonic())
        self.replaced += 1
        self._refuse_all(why, Outcome.LOCAL_FAULT)
        self._listener.engine_lost()

    def _refuse_all(self, why: str, outcome: Outcome) -> None:
        failure = Failure(outcome=outcome, message=why, status=503, code="engine_failed")
        for ticket in list(self._tickets.values()):
            ticket.put(Refused(ticket.id, failure))
            self._end(ticket)

    def _end(self, ticket: Ticket) -> None:
        ticket.over = True
        if self._tickets.pop(ticket.id, None) is not None:
            self._listener.ended(ticket)


def _sum(one: Counters, other: Counters) -> Counters:
    return Counters(*(getattr(one, name) + getattr(other, name) for name in Counters.__struct_fields__))
