"""Keeps one engine alive and brings its events to those who wait for them.

It starts the engine with the first command, watches its pulse, and replaces it when it hangs or
ends; every request that was with it is told so at once. An engine that is lost again and again
is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure, Outcome
from gateway.local.mailbox import (
    Began,
    Cancel,
    Command,
    Counters,
    Delta,
    EngineTransport,
    Event,
    Finished,
    Gone,
    ModelChanged,
    ModelFolder,
    Refused,
    Stop,
    Submit,
    TicketEvent,
)
from gateway.local.request import Generate, Work

E = TypeVar("E")

log = logging.getLogger(__name__)

_LOSSES = 3  # within
_LOSS_WINDOW_S = 300.0  # this time an engine is left alone for
_REST_S = 60.0
_PARTING_S = 5.0


class Ticket:
    """One request at the engine, as the event loop sees it. `trail` are the tokens of its answer so far,
    if they are told: of all that was taken from here, and perhaps of more.
    """

    __slots__ = ("_events", "_wake", "id", "model", "over", "rows", "trail")

    def __init__(self, number: int, model: ModelFolder, rows: int) -> None:
        self.id, self.model, self.rows = number, model, rows
        self.over = False  # no event will follow
        self.trail: list[int] | None = None
        self._events: deque[TicketEvent] = deque()
        self._wake = asyncio.Event()

    def put(self, event: TicketEvent) -> None:
        if self.trail is not None and isinstance(event, Delta):
            self.trail += event.tokens
        self._events.append(event)
        self._wake.set()

    async def take(self) -> TicketEvent:
        """The next event; those that have come already are taken without a turn of the loop."""
        while not self._events:
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()

    async def until(self, kind: type[E]) -> E:
        """Wait for an event of this kind; raise what the engine refuses with."""
        while True:
            event = await self.take()
            if isinstance(event, kind):
                return event
            if isinstance(event, Refused):
                raise AttemptFailed(event.failure)

    def more(self, first: Delta) -> Delta:
        """`first` together with all deltas of its kind that have come behind it."""
        events = self._events
        if not events:
            return first
        parts, probs, tokens = [first.text], first.probs, list(first.tokens)
        while (
            events
            and isinstance(after := events[0], Delta)
            and after.reasoning is first.reasoning
            and after.choice == first.choice
        ):
            parts.append(after.text)
            probs += after.probs
            tokens += after.tokens
            events.popleft()
        return Delta(first.id, "".join(parts), first.reasoning, first.choice, probs, tuple(tokens))


class Listener(Protocol):
    """Who is told what became of requests and models."""

    def began(self, ticket: Ticket) -> None: ...

    def finished(self, ticket: Ticket, event: Finished) -> None: ...

    def ended(self, ticket: Ticket) -> None: ...

    def model_changed(self, event: ModelChanged) -> None: ...

    def engine_lost(self, path: str | None) -> None:
        """All models of that engine are gone; a path where it had but this one."""


Deliver = Callable[[list[Event]], None]


class Worker:
    """One engine, its tickets and its watchdog. `path` names its only model, if it has but one."""

    def __init__(
        self,
        make: Callable[[Deliver], EngineTransport],
        listener: Listener,
        *,
        step_limit_s: float,
        path: str | None = None,
    ) -> None:
        self._make, self._listener, self._step_limit_s, self._path = make, listener, step_limit_s, path
        self._engine: EngineTransport | None = None
        self._tickets: dict[int, Ticket] = {}
        self._losses: deque[float] = deque(maxlen=_LOSSES)
        self._watch: asyncio.Task[None] | None = None
        self._leaving: list[EngineTransport] = []  # given up or sent away, but perhaps still there
        self._partings: set[asyncio.Task[None]] = set()
        self._past = Counters()  # of engines that are gone
        self.replaced = 0

    @property
    def tired(self) -> float:
        """Seconds for which no new engine is started, because too many were lost."""
        if len(self._losses) < _LOSSES or self._losses[-1] - self._losses[0] > _LOSS_WINDOW_S:
            return 0.0
        return max(0.0, self._losses[-1] + _REST_S - time.monotonic())

    @property
    def running(self) -> bool:
        """Is there an engine?"""
        return self._engine is not None

    @property
    def spare(self) -> bool:
        """Is nothing asked of its engine?"""
        return not self._tickets

    @property
    def pid(self) -> int | None:
        """The process that its engine has for itself, if any."""
        return self._engine.pid if self._engine is not None else None

    def grown(self, measure: Callable[[int | None], int]) -> int:
        """The bytes by which its process grew since the engine began, without a model."""
        if self._engine is None or not (base := self._engine.counters().base_bytes):
            return 0
        return max(0, measure(self._engine.pid) - base)

    def phase(self) -> str:
        return self._engine.pulse().phase if self._engine is not None else "off"

    def counters(self) -> Counters:
        now = self._engine.counters() if self._engine is not None else Counters()
        return add(self._past, now)

    def submit(self, ticket: Ticket, work: Work) -> None:
        self._tickets[ticket.id] = ticket
        if isinstance(work, Generate) and work.trail:
            ticket.trail = list(work.resume)
        self.post(Submit(ticket.id, ticket.model, work))

    def post(self, command: Command) -> None:
        """Hand over a command; an engine is started for it if there is none."""
        self._running_engine().post(command)

    def tell(self, command: Command) -> None:
        """Hand over a command that is of no use to an engine that does not run."""
        if self._engine is not None:
            self._engine.post(command)

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more; safe at any time."""
        if ticket.over:
            return
        self.tell(Cancel(ticket.id))
        self._end(ticket)

    def dismiss(self, done: Callable[[], None]) -> None:
        """Let the engine go, which has nothing to do; `done` is called when it has ended."""
        engine, self._engine = self._engine, None
        if engine is None:
            done()
            return
        counted = _without_holdings(engine.counters())
        counted.unloads = counted.loads  # what it has loaded goes with it
        self._past = add(self._past, counted)
        engine.post(Stop())
        self._leaving.append(engine)

        async def part() -> None:
            if not await asyncio.to_thread(engine.join, _PARTING_S):
                engine.abandon()
                await asyncio.to_thread(engine.join, 1.0)
            self._leaving = [other for other in self._leaving if other is not engine]
            done()

        task = asyncio.get_running_loop().create_task(part(), name="local-parting")
        self._partings.add(task)
        task.add_done_callback(self._partings.discard)

    async def close(self, deadline: float) -> bool:
        """Stop the engine until `deadline` (loop time); False when one did not end, a hung one included."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        engine, self._engine = self._engine, None
        self._refuse_all("the gateway is shutting down", Outcome.OVERLOADED)
        left = max(0.05, deadline - asyncio.get_running_loop().time())
        until = time.monotonic() + left
        leaving = [other for other in self._leaving if other.alive]
        if engine is not None:
            engine.post(Stop())
            leaving.append(engine)

        def join() -> bool:
            return all(_join(other, until) for other in leaving)

        ended = await asyncio.to_thread(join) if leaving else True
        if self._partings:
            await asyncio.wait(self._partings)
        return ended

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
        tickets, failed = self._tickets, False
        for event in events:
            if isinstance(event, ModelChanged):
                self._listener.model_changed(event)
                failed |= event.state == "failed"
            elif isinstance(event, Gone):
                self._lose("the local engine has ended")
                return
            elif (ticket := tickets.get(event.id)) is not None:
                ticket.put(event)
                if isinstance(event, Began):
                    self._listener.began(ticket)
                elif isinstance(event, Finished):
                    self._listener.finished(ticket, event)
                    self._end(ticket)
                elif isinstance(event, Refused):
                    self._end(ticket)
        if failed and self._path is not None and not tickets:
            self.dismiss(lambda: None)  # it has its process for nothing

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
        self._leaving = [*(other for other in self._leaving if other.alive), engine]
        self._past = add(self._past, _without_holdings(engine.counters()))
        self._losses.append(time.monotonic())
        self.replaced += 1
        self._refuse_all(why, Outcome.LOCAL_FAULT)
        self._listener.engine_lost(self._path)

    def _refuse_all(self, why: str, outcome: Outcome) -> None:
        failure = Failure(outcome=outcome, message=why, status=503, code="engine_failed")
        for ticket in list(self._tickets.values()):
            ticket.put(Refused(ticket.id, failure))
            self._end(ticket)

    def _end(self, ticket: Ticket) -> None:
        ticket.over = True
        if self._tickets.pop(ticket.id, None) is not None:
            self._listener.ended(ticket)


def _join(engine: EngineTransport, until: float) -> bool:
    """Wait for its end; a process that does not end is killed, a thread can't be."""
    if engine.join(max(0.0, until - time.monotonic())):
        return True
    engine.abandon()
    return engine.pid is not None and engine.join(1.0)


def add(one: Counters, other: Counters) -> Counters:
    """What two engines have done and hold together."""
    return Counters(*(getattr(one, name) + getattr(other, name) for name in Counters.__struct_fields__))


def _without_holdings(counters: Counters) -> Counters:
    """What an engine has done; what it held is gone with it."""
    return msgspec.structs.replace(counters, prompt_cache_bytes=0, active_bytes=0, base_bytes=0)
