"""One request from its plan to its last byte: failover decides, this does.

The loop is short: take the session's commands, do them, wait for the first thing that happens,
tell the session. Attempts run as tasks, so that several may race; what they report comes back
through one queue. After the first `Commit` only the pump is left, and the loop runs again only where
a broken answer is gone on with.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from gateway.failover.command import (
    Break,
    Cancel,
    ClientLeft,
    Command,
    Commit,
    Continue,
    Done,
    Event,
    Failed,
    GiveUp,
    Open,
    Tick,
)
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Candidate
from gateway.failover.session import Session
from gateway.failover.verdict import Verdict
from gateway.relay.answer import Trail, refusal
from gateway.relay.attempt import Attempt, Opening
from gateway.relay.downstream import Downstream
from gateway.relay.inbound import Inbound
from gateway.relay.pump import Carried, ClientStuck, Pump
from gateway.relay.successor import Remains, Successor, remains
from gateway.wire.api import Api
from gateway.wire.spoken import Spoken

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every exchange keeps to, from the configuration."""

    heartbeat_s: float
    write_s: float
    reply_limit: int


# Whom to ask, what it has refused, and what of the answer has been said already.
OpeningFor = Callable[[Candidate, Sequence[str], Spoken | None], Opening]


class Exchange:
    """The answer to one request."""

    def __init__(
        self,
        request: web.Request,
        inbound: Inbound,
        session: Session,
        *,
        rule: str,
        limits: Limits,
        opening: OpeningFor,
        supervise: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.inbound = inbound
        self.session = session
        self.rule = rule
        self.served: Attempt | None = None  # who answers, the last one that went on
        self.opened: list[Attempt] = []
        self.first_content_at: float | None = None
        self.continued = False  # an answer that broke off has been gone on with
        self.failure: Failure | None = None  # why it broke after commit
        self._request = request
        self._limits = limits
        self._opening = opening
        self._supervise = supervise
        self._loop = asyncio.get_running_loop()
        self.started = self._loop.time()
        self._live: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._events: deque[Event] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._beat_at = self.started + limits.heartbeat_s
        self._client = Downstream(
            request,
            inbound.dialect,
            request_id=inbound.request_id,
            write_s=limits.write_s,
            numbered=inbound.api is Api.RESPONSES,
        )
        self._pump: Pump | None = None
        self._interrupted: str | None = None

    async def run(self) -> web.StreamResponse:
        """Answer the request. Whatever happens, nothing that it started is left running."""
        try:
            commands = self.session.start(self.started)
            while True:
                answer = await self._obey(commands)
                if answer is not None:
                    return answer
                event = await self._next()
                if event is None:
                    return await self._shut_down()
                commands = self.session.step(event, self._loop.time())
        except (ConnectionError, ClientStuck):
            raise
        except Exception:
            if self._client.stream is None:
                raise  # the door has an answer for it
            _log.exception("request %s failed inside the gateway", self.inbound.request_id)
            return await self._apologise()
        finally:
            self.session.step(ClientLeft(), self._loop.time())  # unless it is over already
            await self._stop_all()

    def interrupt(self, message: str) -> None:
        """End now with an error that the client can read (the drain limit has passed)."""
        self._interrupted = message
        if self._pump is not None:
            self._pump.interrupt(message)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- what the session orders

    async def _obey(self, commands: Sequence[Command]) -> web.StreamResponse | None:
        won = any(isinstance(command, Commit) for command in commands)
        for command in commands:
            match command:
                case Open():
                    self._open(command, self._opening(command.candidate, command.mend, None))
                case Cancel() if won:
                    self._supervise(self._loop.create_task(self._cancel(command.number), name="loser"))
                case Cancel():
                    await self._cancel(command.number)
                case Commit():
                    return await self._commit(self._live[command.number][0])
                case GiveUp():
                    return await self._give_up(command.verdict)
                case Continue() | Done() | Break():
                    raise AssertionError(f"{command} before commit")
        return None

    def _open(self, command: Open | Continue, way: Opening) -> None:
        attempt = Attempt(command.number, command.candidate, way, reply_limit=self._limits.reply_limit)
        task = self._loop.create_task(self._try(attempt, command.until), name=f"attempt-{command.number}")
        self.opened.append(attempt)
        self._live[command.number] = (attempt, task)

    async def _try(self, attempt: Attempt, until: float) -> None:
        event = await attempt.until_content(self.inbound.api, deadline=until)
        try:
            if isinstance(event, Failed):
                await attempt.aclose()  # before the next is opened
                if event.failure.mend:
                    mendable = self.inbound.may_do_without(event.failure.mend)
                    event = Failed(event.number, event.failure, mendable=mendable)
        finally:
            self._events.append(event)
            if self._wake is not None and not self._wake.done():
                self._wake.set_result(None)

    async def _cancel(self, number: int) -> None:
        if number not in self._live:
            return  # the answer was over before its loser's turn came, and `_stop_all` closes it
        attempt, task = self._live[number]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await attempt.aclose()
        self._live.pop(number, None)  # only now: if this was cancelled, `_stop_all` has to close it

    async def _next(self) -> Event | None:
        """The next thing that happened, None for an interrupt; meanwhile the client is kept alive."""
        while not self._events:
            if self._interrupted is not None:
                return None
            now = self._loop.time()
            timer = self.session.timer
            if timer is not None and now >= timer:
                return Tick()
            if self.inbound.stream and now >= self._beat_at:
                await self._client.beat(self._trail())
                self._beat_at = self._loop.time() + self._limits.heartbeat_s
                continue
            wakes = [at for at in (timer, self._beat_at if self.inbound.stream else None) if at is not None]
            await self._sleep(min(wakes) if wakes else None)
        return self._events.popleft()

    async def _sleep(self, until: float | None) -> None:
        self._wake = wake = self._loop.create_future()
        handle = None
        if until is not None:
            handle = self._loop.call_at(until, _wake_up, wake)
        try:
            await wake
        finally:
            self._wake = None
            if handle is not None:
                handle.cancel()

    # --- after commit

    async def _commit(self, attempt: Attempt) -> web.StreamResponse:
        self.served = attempt
        self.first_content_at = self._loop.time()
        if self._client.promised and attempt.watch is None:
            return await self._break_promise(attempt)
        attempt.commit()
        if attempt.body is not None:
            self.session.step(attempt.end(), self._loop.time())
            return await self._client.whole(attempt, attempt.body, self._trail())
        stream = await self._client.begin(attempt, self._trail())
        carried: Attempt | Successor = attempt
        while (failure := await self._carry(carried, stream)) is not None:
            successor = await self._succeed(carried, failure)
            if successor is None:
                return await self._client.finish()
            carried, self.served, self.continued = successor, successor.attempt, True
        self.session.step(self.served.end(), self._loop.time())
        return await self._client.finish()

    async def _carry(self, carried: Carried, stream: web.StreamResponse) -> Failure | None:
        self._pump = pump = Pump(
            self._request,
            idle_s=self.session.policy.idle_s,
            heartbeat_s=self._limits.heartbeat_s,
            write_s=self._limits.write_s,
            deadline=self.session.deadline,
            supervise=self._supervise,
        )
        if self._interrupted is not None:
            pump.interrupt(self._interrupted)
        return await pump.carry(carried, stream)

    async def _succeed(self, carried: Attempt | Successor, failure: Failure) -> Successor | None:
        """The committed attempt broke: find who goes on, or tell the client."""
        assert self.served is not None
        broken = self.served
        left = None if self._interrupted is not None else remains(self.inbound, carried)
        if left is not None:
            await broken.aclose()
            self._beat_at = self._loop.time() + self._limits.heartbeat_s
            if not broken.comments_are_safe:
                self._client.hush()
        event: Event | None = Failed(broken.number, failure, resumable=left is not None)
        began_with: Spoken | None = None
        while event is not None:
            for command in self.session.step(event, self._loop.time()):
                match command:
                    case Continue():
                        assert left is not None
                        began_with = self._go_on(command, left)
                    case Cancel():
                        await self._cancel(command.number)
                    case Commit():
                        assert left is not None
                        return Successor(self._live[command.number][0], left, began_with)
                    case Break():
                        self.failure = failure
                        await self._client.say(command.verdict)
                        return None
            event = await self._next()
        self.session.step(ClientLeft(), self._loop.time())
        self.failure = failure
        await self._client.say(self._shutting_down())
        return None

    def _go_on(self, command: Continue, left: Remains) -> Spoken | None:
        """Open the one that goes on; says how much of the answer is in its prompt."""
        began_with = left.prompt(exact=command.exact)
        way = self._opening(command.candidate, (), began_with)
        call = replace(way.call, resume=left.tokens(exact=command.exact))
        label, of = command.candidate.label, command.of
        _log.info("request %s: %s goes on where attempt %d broke", self.inbound.request_id, label, of)
        self._open(command, replace(way, call=call))
        return began_with

    async def _break_promise(self, attempt: Attempt) -> web.StreamResponse:
        """The client was promised events; a target that ignored `stream` can't be passed on now."""
        self.failure = Failure(
            outcome=Outcome.SERVER_FAULT,
            message="the target answered a stream request with something else than events",
        )
        for command in self.session.step(Failed(attempt.number, self.failure), self._loop.time()):
            if isinstance(command, Break):
                await self._client.say(command.verdict)
        return await self._client.finish()

    # --- how it ends without an answer

    async def _apologise(self) -> web.StreamResponse:
        """A fault of ours when the head is out: the client is told in band, as of any other break."""
        verdict = Verdict(
            status=500,
            kind="server_error",
            code=None,
            message="the gateway failed; its log has the reason",
        )
        self.failure = Failure(outcome=Outcome.SERVER_FAULT, message=verdict.message)
        await self._client.say(verdict)
        return await self._client.finish()

    async def _give_up(self, verdict: Verdict) -> web.StreamResponse:
        if not self._client.promised:
            return refusal(self.inbound.dialect, verdict, self._trail())
        self.failure = Failure(outcome=Outcome.SERVER_FAULT, message=verdict.message)
        await self._client.say(verdict)
        return await self._client.finish()

    async def _shut_down(self) -> web.StreamResponse:
        """The gateway ends: nobody's failure, and worth another try elsewhere or later."""
        self.session.step(ClientLeft(), self._loop.time())
        return await self._give_up(self._shutting_down())

    def _shutting_down(self) -> Verdict:
        return Verdict(
            status=503,
            kind="server_error",
            code="shutting_down",
            message=self._interrupted or "the gateway is shutting down",
            retry_after_s=1.0,
            should_retry=True,
        )

    def _trail(self) -> Trail:
        now = self._loop.time()
        served = self.served
        return Trail(
            request_id=self.inbound.request_id,
            rule=self.rule,
            attempts=self.session.trace(now),
            served_by=served.candidate.label if served is not None else None,
            changed=served.call.changed if served is not None else (),
            local_only=self.session.plan.local_only,
            total_ms=(now - self.started) * 1000,
        )

    async def _stop_all(self) -> None:
        self._client.release()
        live, self._live = self._live, {}
        for _, task in live.values():
            task.cancel()
        for attempt, task in live.values():
            if not task.done():
                await asyncio.gather(task, return_exceptions=True)
            await attempt.aclose()


def _wake_up(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
