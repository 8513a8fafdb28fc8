"""The part of the daemon that answers requests for models: plans them, runs them, books them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from gateway.backend import Backend, Call
from gateway.errors import RequestError
from gateway.failover.breaker import Breakers
from gateway.failover.budget import RetryBudget
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Candidate, CredentialRef, Plan, make_plan
from gateway.failover.policy import DEFAULT, Policy
from gateway.failover.session import Session
from gateway.local.paths import PATHS as LOCAL_PATHS
from gateway.relay.book import CLIENT_LEFT, finished
from gateway.relay.exchange import Exchange, Limits
from gateway.relay.inbound import Inbound
from gateway.relay.pump import ClientStuck
from gateway.routing.rule import LOCAL
from gateway.routing.table import Aim, Route
from gateway.snapshot import AuthStyle, Credential, Snapshot
from gateway.telemetry import metrics
from gateway.telemetry.access import access
from gateway.telemetry.finished import Finished


class LocalBackend(Backend, Protocol):
    """The local pool as the relay sees it."""

    async def look(self) -> None:
        """Read the disk as it is now."""

    def knows(self, name: str) -> bool: ...

    def queued(self, name: str) -> int:
        """Requests that wait for a place at this model."""

    def wait_s(self, name: str) -> float:
        """How long one more would probably wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a request may go: the route its name resolved to, and the plan under its policy."""

    route: Route
    policy: Policy
    plan: Plan


class Relay:
    """Answers every request for a model, and tells telemetry of each when it is over."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        local: LocalBackend | None,
        cloud: Backend,
        breakers: Breakers,
        budget: RetryBudget,
        limits: Limits,
        default_upstream: str,
        note: Callable[[Finished], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._snapshot = snapshot
        self._local = local
        self._cloud = cloud
        self._breakers = breakers
        self._budget = budget
        self._limits = limits
        self._default_upstream = default_upstream
        self._note = note
        self._jitter = jitter
        self._live: set[Exchange] = set()
        self._emptied = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

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
        way = self.way(inbound, snapshot)
        if self._local is not None and any(
            a.backend == LOCAL and not self._local.knows(a.model) for a in way.route.aims
        ):
            await self._local.look()  # it may have been put there a moment ago
            way = self.way(inbound, snapshot)
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
            call_for=lambda candidate: self._call_for(inbound, snapshot, candidate),
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
            done = finished(exchange, status, asyncio.get_running_loop().time())
            metrics.ended(done)
            access(done)
            self._note(done)
        return response

    def way(self, inbound: Inbound, snapshot: Snapshot) -> Way:
        """Plan a request without doing anything; `explain` asks the same."""
        route = self._route(inbound, snapshot)
        policy = snapshot.policies.get(route.policy_name, DEFAULT)
        if inbound.upstream is not None:
            route = Route(route.name, None, (Aim(inbound.upstream, inbound.model or ""),))
        now = asyncio.get_running_loop().time()
        plan = make_plan(
            route.aims,
            policy,
            credentials=_refs(route.aims, snapshot),
            unusable=lambda aim: self._unusable(aim, policy, inbound, snapshot),
            judge=lambda key: self._breakers.judge(key, now),
        )
        return Way(route=route, policy=policy, plan=plan)

    def _route(self, inbound: Inbound, snapshot: Snapshot) -> Route:
        if inbound.model is not None:
            return snapshot.rules.resolve(inbound.model)
        upstream = inbound.upstream or self._default_upstream
        if not upstream:
            raise RequestError(
                "this request names no model; set routing.default_upstream to send such requests to "
                "an upstream, or use /upstreams/NAME/v1/...",
                status=400,
                code="model_required",
                param="model",
            )
        return Route("", None, (Aim(upstream, ""),))

    def _unusable(self, aim: Aim, policy: Policy, inbound: Inbound, snapshot: Snapshot) -> Failure | None:
        if aim.backend == LOCAL:
            return self._unusable_local(aim, policy, inbound)
        upstream = snapshot.upstreams.get(aim.backend)
        if upstream is None or not upstream.enabled:
            state = "disabled" if upstream is not None else "not defined"
            return _failure(Outcome.MODEL_MISSING, f"the upstream {aim.backend} is {state}")
        # Who names the upstream, or no model, knows what it speaks: some speak both, on paths of their own.
        chosen = inbound.upstream is not None or inbound.model is None
        if upstream.dialect is not inbound.dialect and not chosen:
            return _failure(
                Outcome.UNSUPPORTED,
                f"{aim.backend} speaks the {upstream.dialect} dialect and {inbound.path} the "
                f"{inbound.dialect} one; this release does not translate between them",
            )
        return None

    def _unusable_local(self, aim: Aim, policy: Policy, inbound: Inbound) -> Failure | None:
        if self._local is None:
            return _failure(Outcome.MODEL_MISSING, "local models are switched off (local.enabled)")
        if not self._local.knows(aim.model):
            return _failure(
                Outcome.MODEL_MISSING,
                f"there is no local model {aim.model!r}; `mlx-gateway models list` shows those there are",
            )
        if inbound.path not in LOCAL_PATHS or inbound.method != "POST":
            return _failure(Outcome.UNSUPPORTED, f"local models don't answer {inbound.method} {inbound.path}")
        wait_s = self._local.wait_s(aim.model)
        full = wait_s > 0 and self._local.queued(aim.model) >= policy.max_queue
        if full or wait_s > policy.max_wait_s:
            message = f"local model {aim.model} has about {wait_s:.0f} s of work before this request"
            return Failure(
                outcome=Outcome.OVERLOADED, message=message, status=503, retry_after_s=max(1.0, wait_s)
            )
        return None

    def _call_for(self, inbound: Inbound, snapshot: Snapshot, candidate: Candidate) -> tuple[Backend, Call]:
        local = candidate.is_local
        upstream = None if local else snapshot.upstreams[candidate.backend]
        call = Call(
            request_id=inbound.request_id,
            method=inbound.method,
            path=inbound.path,
            query=inbound.query,
            dialect=inbound.dialect,
            headers=inbound.headers,
            body=inbound.body_for(candidate.model),
            model=candidate.model or None,
            stream=inbound.stream,
            upstream=upstream,
            credential=_credential(candidate, snapshot),
        )
        backend = self._local if local else self._cloud
        assert backend is not None
        return backend, call

    def _supervise(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refs(aims: Sequence[Aim], snapshot: Snapshot) -> Mapping[str, Sequence[CredentialRef]]:
    """The usable credentials of each upstream; one that asks for none gets an empty place."""
    refs: dict[str, Sequence[CredentialRef]] = {}
    for aim in aims:
        upstream = snapshot.upstreams.get(aim.backend)
        if upstream is None:
            continue
        known = [c for c in snapshot.credentials.get(aim.backend, ()) if c.enabled]
        if not known and upstream.auth is AuthStyle.NONE:
            continue
        refs[aim.backend] = [CredentialRef(c.id, c.name, c.version) for c in known]
    return refs


def _credential(candidate: Candidate, snapshot: Snapshot) -> Credential | None:
    for credential in snapshot.credentials.get(candidate.backend, ()):
        if credential.id == candidate.credential_id:
            return credential
    return None


def _failure(outcome: Outcome, message: str) -> Failure:
    return Failure(outcome=outcome, message=message)
