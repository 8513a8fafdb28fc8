"""The part of the daemon that answers requests for models: plans them, runs them, books them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from functools import partial

from aiohttp import web

from gateway.backend import AttemptFailed, Backend, Call
from gateway.failover.breaker import Breakers
from gateway.failover.budget import RetryBudget
from gateway.failover.learnt import Learnt
from gateway.failover.outcome import Outcome
from gateway.failover.plan import Candidate
from gateway.failover.policy import MidStream
from gateway.failover.session import Session
from gateway.relay.attempt import Opening
from gateway.relay.book import CLIENT_LEFT, finished
from gateway.relay.exchange import Exchange, Limits
from gateway.relay.inbound import RESPONSES_API, Inbound
from gateway.relay.planner import LocalBackend, Planner, Way
from gateway.relay.pump import ClientStuck
from gateway.snapshot import Credential, Snapshot
from gateway.telemetry import metrics
from gateway.telemetry.access import access
from gateway.telemetry.finished import Finished
from gateway.wire.body import JsonBody
from gateway.wire.needs import needs_of
from gateway.wire.spoken import Spoken

# What a target says of a request that it won't take may hold for the next one too.
_TEACHES = (Outcome.CONTEXT_TOO_LONG, Outcome.UNSUPPORTED, Outcome.CLIENT_FAULT)


class Relay:
    """Answers every request for a model, and tells telemetry of each when it is over."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        local: LocalBackend | None,
        cloud: Backend,
        planner: Planner,
        breakers: Breakers,
        learnt: Learnt,
        budget: RetryBudget,
        limits: Limits,
        note: Callable[[Finished], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._snapshot = snapshot
        self._local = local
        self._cloud = cloud
        self.planner = planner
        self._breakers = breakers
        self._learnt = learnt
        self._budget = budget
        self._limits = limits
        self._note = note
        self._jitter = jitter
        self._live: set[Exchange] = set()
        self._emptied = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: set[str] = set()  # local models that are loaded for requests to come

    @property
    def in_flight(self) -> int:
        return len(self._live)

    def interrupt(self, message: str) -> None:
        """End every request that is still running with an error that its client can read."""
        for exchange in tuple(self._live):
            exchange.interrupt(message)

    async def idle(self, within_s: float) -> None:
        """Wait until nothing is being answered, at most `within_s`."""
        if self._live:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._emptied.wait()

    async def answer(self, request: web.Request, inbound: Inbound) -> web.StreamResponse:
        """Answer one request, by whatever target its rule and the state of the world allow."""
        snapshot = self._snapshot()
        way = await self.planner.way(inbound, snapshot)
        self._warm(way)
        now = asyncio.get_running_loop().time()
        session = Session(
            way.plan,
            way.policy,
            stream=inbound.stream,
            breakers=self._breakers,
            budget=self._budget,
            jitter=self._jitter,
            started=now,
            replayable=inbound.replayable,
        )
        exchange = Exchange(
            request,
            inbound,
            session,
            rule=way.route.rule.pattern if way.route.rule is not None else "-",
            limits=self._limits,
            opening=lambda candidate, mend, said: self._opening(
                inbound, snapshot, way, candidate, mend, said
            ),
            supervise=self._supervise,
        )
        self._live.add(exchange)
        metrics.began()
        status = CLIENT_LEFT
        try:
            response = await exchange.run()
            status = response.status
        except (ConnectionError, ClientStuck):
            raise
        except Exception:
            status = 500
            raise
        finally:
            self._live.discard(exchange)
            if not self._live:
                self._emptied.set()
            now = asyncio.get_running_loop().time()
            self._learn(inbound, session, now)
            done = finished(exchange, status, now)
            metrics.ended(done)
            access(done)
            self._note(done)
        return response

    def _warm(self, way: Way) -> None:
        """Load what is passed by for now because it is not loaded: the next request finds it there."""
        if len(way.plan.candidates) < 2:
            return
        for candidate in way.plan.candidates:
            forecast = way.forecasts.get(candidate.model) if candidate.late and candidate.is_local else None
            if forecast is not None and forecast.load_s > 0 and candidate.model not in self._warming:
                self._warming.add(candidate.model)
                self._supervise(asyncio.create_task(self._load(candidate.model), name="warm"))

    async def _load(self, model: str) -> None:
        assert self._local is not None
        try:
            await self._local.load(model)
        except AttemptFailed:
            pass  # the pool has logged it, and says so to whoever asks next
        finally:
            self._warming.discard(model)

    def _opening(  # noqa: PLR0917 - the last three are the exchange's to say
        self,
        inbound: Inbound,
        snapshot: Snapshot,
        way: Way,
        candidate: Candidate,
        mend: Sequence[str],
        said: Spoken | None,
    ) -> Opening:
        local = candidate.is_local
        upstream = None if local else snapshot.upstreams[candidate.backend]
        ability = self.planner.ability(candidate.backend, candidate.model, snapshot)
        words = self.planner.speaker.words(inbound, candidate.model, upstream, ability, mend=mend, said=said)
        call = Call(
            request_id=inbound.request_id,
            method=inbound.method,
            path=words.path,
            query=words.query,
            dialect=words.dialect,
            headers=words.headers,
            body=words.body,
            model=candidate.model or None,
            stream=inbound.stream,
            upstream=upstream,
            credential=_credential(candidate, snapshot),
            keep=inbound.stream and way.policy.mid_stream is MidStream.CONTINUE,
            changed=words.changed,
            local_only=way.plan.local_only,
        )
        backend = self._local if local else self._cloud
        assert backend is not None
        # It is kept before the client sees its end: the next request may go on from it at once.
        keep = partial(self.planner.speaker.keep, inbound, words.translation)
        return Opening(backend, call, words.translation, keep)

    def _learn(self, inbound: Inbound, session: Session, now: float) -> None:
        """What a target said it can't do is remembered, so that the next request like it goes elsewhere."""
        for record in session.attempts:
            failure = record.failure
            if failure is None or failure.outcome not in _TEACHES or record.candidate.is_local:
                continue
            if failure.mend == RESPONSES_API:
                self._learnt.lacks_responses(record.candidate.backend, record.candidate.model, now)
                continue
            if isinstance(inbound.body, JsonBody):
                needs = needs_of(inbound.api, inbound.body.data)
                self._learnt.note(record.candidate.backend, record.candidate.model, failure, needs, now)

    def _supervise(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _credential(candidate: Candidate, snapshot: Snapshot) -> Credential | None:
    for credential in snapshot.credentials.get(candidate.backend, ()):
        if credential.id == candidate.credential_id:
            return credential
    return None
