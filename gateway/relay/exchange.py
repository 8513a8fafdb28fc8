"""One request from its plan to its last byte: failover decides, this does.

The loop is short: take the session's commands, do them, wait for the first thing that happens,
tell the session. Attempts run as tasks, so that several may race; what they report comes back
through one queue. After `Commit` only the pump is left, and there is no way back to the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from gateway.backend import Backend, Call
from gateway.failover.command import (
    Break,
    Cancel,
    ClientLeft,
    Command,
    Commit,
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
from gateway.relay.answer import Trail, broken_event, put_head, put_trail, refusal
from gateway.relay.attempt import Attempt
from gateway.relay.inbound import Inbound
from gateway.relay.pump import ClientStuck, Pump, RawResponse, event_response, is_over
from gateway.wire.sse import comment

_log = logging.getLogger(__name__)
_AT_ONCE = 1 << 16  # what a connection takes without being waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every exchange keeps to, from the configuration."""

    heartbeat_s: float
    write_s: float
    reply_limit: int


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
        call_for: Callable[[Candidate], tuple[Backend, Call]],
        supervise: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.inbound = inbound
        self.session = session
        self.rule = rule
        self.served: Attempt | None = None
        self.first_content_at: float | None = None
        self.failure: Failure | None = None  # why it broke after commit
        self._request = request
        self._limits = limits
        self._call_for = call_for
        self._supervise = supervise
        self._loop = asyncio.get_running_loop()
        self.started = self._loop.time()
        self._live: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._events: deque[Event] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._beat_at = self.started + limits.heartbeat_s
        self._response: EventSourceResponse | None = None  # when a heartbeat had to go out early
        self._stream: web.StreamResponse | None = None  # once its head is on its way
        self._pump: Pump | None = None
        self._interrupted: str | None = None

    async def run(self) -> web.StreamResponse:
        """Answer the request. Whatever happens, nothing that it started is left running."""
        try:
            commands: Iterable[Command] = self.session.start(self.started)
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
            if self._stream is None:
                raise  # the door has an answer for it
            _log.exception("request %s failed inside the gateway", self.inbound.request_id)
            return await self._apologise(self._stream)
        finally:
            self.session.step(ClientLeft(), self._loop.time())  # unless it is over already
            await self._stop_all()

    def interrupt(self, message: str) -> None:
        """End now with an error that the client can read (the drain limit has passed)."""
        self._interrupted = message
        if self._pump is not None:
            self._pump.interrupt(message)
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _obey(self, commands: Iterable[Command]) -> web.StreamResponse | None:
        for command in commands:
            match command:
                case Open():
                    self._open(command)
                case Cancel():
                    await self._cancel(command.number)
                case Commit():
                    return await self._commit(self._live[command.number][0])
                case GiveUp():
                    return await self._give_up(command.verdict)
                case Done() | Break():
                    raise AssertionError(f"{command} before commit")
        return None

    def _open(self, command: Open) -> None:
        backend, call = self._call_for(command.candidate)
        attempt = Attempt(
            command.number, command.candidate, call, backend, reply_limit=self._limits.reply_limit
        )
        task = self._loop.create_task(self._try(attempt, command.until), name=f"attempt-{command.number}")
        self._live[command.number] = (attempt, task)

    async def _try(self, attempt: Attempt, until: float) -> None:
        event = await attempt.until_content(self.inbound.api, deadline=until)
        try:
            if isinstance(event, Failed):
                await attempt.aclose()  # before the next is opened
        finally:
            self._events.append(event)
            if self._wake is not None and not self._wake.done():
                self._wake.set_result(None)

    async def _cancel(self, number: int) -> None:
        attempt, task = self._live[number]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await attempt.aclose()
        del self._live[number]  # only now: if this was cancelled, `_stop_all` has to close it

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
                await self._beat()
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

    async def _beat(self) -> None:
        if self._response is None:
            self._response = response = event_response()
            put_trail(response, self._trail())
            await self._start(response)
        await self._response.write(comment("waiting"))

    async def _commit(self, attempt: Attempt) -> web.StreamResponse:
        self.served = attempt
        now = self._loop.time()
        self.first_content_at = now
        if self._response is not None and attempt.watch is None:
            return await self._break_promise(attempt, self._response)
        if attempt.body is not None:
            return await self._commit_whole(attempt, attempt.body)
        stream = await self._prepared(attempt)
        self._pump = Pump(
            self._request,
            idle_s=self.session.policy.idle_s,
            heartbeat_s=self._limits.heartbeat_s,
            write_s=self._limits.write_s,
            deadline=self.session.deadline,
            supervise=self._supervise,
        )
        if self._interrupted is not None:
            self._pump.interrupt(self._interrupted)
        failure = await self._pump.carry(attempt, stream)
        now = self._loop.time()
        if failure is None:
            self.session.step(attempt.end(), now)
        else:
            self.failure = failure
            await self._break(attempt, failure, stream)
        return await self._finish(stream)

    async def _commit_whole(self, attempt: Attempt, body: bytes) -> web.StreamResponse:
        self.session.step(attempt.end(), self._loop.time())
        if len(body) <= _AT_ONCE:
            response = web.Response(body=body)
            put_head(response, attempt, self._trail())
            return response
        stream = RawResponse()
        put_head(stream, attempt, self._trail())
        stream.content_length = len(body)
        await self._start(stream)
        view = memoryview(body)
        for at in range(0, len(body), _AT_ONCE):
            await self._taken(stream.write(view[at : at + _AT_ONCE]))
        return await self._finish(stream)

    async def _break_promise(self, attempt: Attempt, stream: web.StreamResponse) -> web.StreamResponse:
        """The client was promised events; a target that ignored `stream` can't be passed on now."""
        self.failure = Failure(
            outcome=Outcome.SERVER_FAULT,
            message="the target answered a stream request with something else than events",
        )
        await self._break(attempt, self.failure, stream)
        return await self._finish(stream)

    async def _prepared(self, attempt: Attempt) -> web.StreamResponse:
        if self._response is not None:
            # The head is out since the first heartbeat; who answers in the end is told in a comment.
            await self._response.write(comment(f"served-by {attempt.candidate.label}"))
            return self._response
        stream: web.StreamResponse = RawResponse()
        if attempt.is_events:
            stream = self._response = event_response()
        put_head(stream, attempt, self._trail())
        await self._start(stream)
        return stream

    async def _start(self, stream: web.StreamResponse) -> None:
        if self._request.version < HttpVersion11 and stream.content_length is None:
            stream.force_close()  # nothing but the end of the connection tells where the body ends
        self._stream = stream
        await stream.prepare(self._request)

    async def _break(self, attempt: Attempt, failure: Failure, stream: web.StreamResponse) -> None:
        """After commit: one error event that says what happened, or a cut where events can't be sent."""
        for command in self.session.step(Failed(attempt.number, failure), self._loop.time()):
            if not isinstance(command, Break):
                continue
            await self._say(command.verdict, stream)

    async def _say(self, verdict: Verdict, stream: web.StreamResponse) -> None:
        if stream is self._response or (self.served is not None and self.served.watch is not None):
            await stream.write(self._error_event(verdict))
        else:
            # A half file must not look like a whole one: no terminating chunk, a cut.
            self._cut_off()

    async def _apologise(self, stream: web.StreamResponse) -> web.StreamResponse:
        """A fault of ours when the head is out: the client is told in band, as of any other break."""
        verdict = Verdict(
            status=500,
            kind="server_error",
            code=None,
            message="the gateway failed; its log has the reason",
        )
        self.failure = Failure(outcome=Outcome.SERVER_FAULT, message=verdict.message)
        if not is_over(stream):
            await self._say(verdict, stream)
        return await self._finish(stream)

    async def _give_up(self, verdict: Verdict) -> web.StreamResponse:
        if self._response is None:
            return refusal(self.inbound.dialect, verdict, self._trail())
        self.failure = Failure(outcome=Outcome.SERVER_FAULT, message=verdict.message)
        await self._response.write(self._error_event(verdict))
        return await self._finish(self._response)

    def _error_event(self, verdict: Verdict) -> bytes:
        return broken_event(self.inbound.dialect, verdict, self.inbound.request_id)

    async def _shut_down(self) -> web.StreamResponse:
        """The gateway ends: nobody's failure, and worth another try elsewhere or later."""
        self.session.step(ClientLeft(), self._loop.time())
        return await self._give_up(
            Verdict(
                status=503,
                kind="server_error",
                code="shutting_down",
                message=self._interrupted or "the gateway is shutting down",
                retry_after_s=1.0,
                should_retry=True,
            )
        )

    async def _finish(self, stream: web.StreamResponse) -> web.StreamResponse:
        transport = self._request.transport
        if transport is not None and not transport.is_closing() and not is_over(stream):
            await self._taken(stream.write_eof())
        return stream

    async def _taken(self, write: Awaitable[None]) -> None:
        """Wait until the client has taken what is written, but not for ever."""
        try:
            async with asyncio.timeout(self._limits.write_s):
                await write
        except TimeoutError:
            self._cut_off()
            raise ClientStuck from None

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def _trail(self) -> Trail:
        now = self._loop.time()
        served = self.served.candidate.label if self.served is not None else None
        return Trail(
            request_id=self.inbound.request_id,
            rule=self.rule,
            attempts=self.session.trace(now),
            served_by=served,
            local_only=self.session.plan.local_only,
            total_ms=(now - self.started) * 1000,
        )

    async def _stop_all(self) -> None:
        if self._response is not None and self._response.is_connected():
            self._response.stop_streaming()
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
