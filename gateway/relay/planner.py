"""Where a request may go: its route, what its targets can do, and the plan. Nothing is sent.

`explain` asks the same as a request does, so the two can't differ. What is known of the world comes
from the parts that know it: the pool says how long it would take, the breaker who is cooling, the
network whether it is there, and earlier refusals what a model can't do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.backend import Backend
from gateway.cloud import faults
from gateway.errors import RequestError
from gateway.failover.ability import NOTHING, Ability, ability_of, lacks
from gateway.failover.breaker import Breakers
from gateway.failover.learnt import Learnt
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import CredentialRef, Plan, make_plan
from gateway.failover.policy import DEFAULT, MidStream, Policy
from gateway.failover.spread import by_weight
from gateway.local.forecast import Forecast
from gateway.relay.inbound import Inbound
from gateway.relay.kept import Kept
from gateway.relay.speech import Speaker
from gateway.routing.rule import LOCAL
from gateway.routing.table import Aim, Route
from gateway.snapshot import AuthStyle, Snapshot, Spread, Upstream
from gateway.wire.body import JsonBody
from gateway.wire.needs import Needs, needs_of


class LocalBackend(Backend, Protocol):
    """The local pool as the relay sees it."""

    async def look(self) -> None:
        """Read the disk as it is now."""

    def knows(self, name: str) -> bool: ...

    async def load(self, name: str) -> object:
        """Have a model in memory; raises AttemptFailed when it can't be."""

    async def forecast(
        self, call_path: str, model: str | None, body: bytes | None, *, limit_s: float | None = None
    ) -> Forecast:
        """What would become of a call, and when; as exact as it takes to compare with `limit_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a request may go: the route its name resolved to, and the plan under its policy."""

    route: Route
    policy: Policy
    plan: Plan
    forecasts: Mapping[str, Forecast]  # of the local models that it may go to


class Planner:
    """Plans requests. `offline` says why an upstream can't be reached at all, None where it may be."""

    def __init__(
        self,
        *,
        local: LocalBackend | None,
        breakers: Breakers,
        learnt: Learnt,
        default_upstream: str,
        jitter: Callable[[], float],
        kept: Kept | None = None,
        offline: Callable[[Upstream], str | None] = lambda upstream: None,
    ) -> None:
        self._local = local
        self._breakers = breakers
        self._learnt = learnt
        self.default_upstream = default_upstream
        self._jitter = jitter
        self._offline = offline
        self.speaker = Speaker(kept or Kept())

    async def way(self, inbound: Inbound, snapshot: Snapshot) -> Way:
        """Plan a request without doing anything; `explain` asks the same."""
        route = self._route(inbound, snapshot)
        policy = snapshot.policies.get(route.policy_name, DEFAULT)
        if inbound.upstream is not None:
            route = Route(route.name, None, (Aim(inbound.upstream, inbound.model or ""),))
        forecasts = await self._forecasts(inbound, route, policy)
        request = _Request(
            self,
            inbound,
            snapshot=snapshot,
            policy=policy,
            forecasts=forecasts,
            now=asyncio.get_running_loop().time(),
        )
        plan = make_plan(
            route.aims,
            policy,
            credentials=self._refs(route.aims, snapshot),
            unusable=request.unusable,
            judge=request.judge,
            late=request.late,
            prefills=request.prefills,
        )
        return Way(route=route, policy=policy, plan=plan, forecasts=forecasts)

    async def _forecasts(self, inbound: Inbound, route: Route, policy: Policy) -> dict[str, Forecast]:
        names = {aim.model for aim in route.aims if aim.backend == LOCAL}
        if not names or self._local is None:
            return {}
        if any(not self._local.knows(name) for name in names):
            await self._local.look()  # it may have been put there a moment ago
        limit_s, known = _patience_s(policy), [name for name in names if self._local.knows(name)]
        found = {}
        for name in known:
            try:
                words = self.speaker.words(inbound, name, None, NOTHING)
            except RequestError as error:
                found[name] = Forecast(failure=_without_words(error))
                continue
            # As it will be opened, so that it is read once.
            data = words.body.data if words.body is not None else None
            found[name] = await self._local.forecast(words.path, name, data, limit_s=limit_s)
        return found

    def ability(self, backend: str, model: str, snapshot: Snapshot) -> Ability:
        """What is known of a model, by what was said and what was learnt."""
        upstream = snapshot.upstreams.get(backend)
        if upstream is None:
            return NOTHING
        now = asyncio.get_running_loop().time()
        return self._learnt.ability(backend, model, ability_of(model, upstream.abilities), now)

    def _route(self, inbound: Inbound, snapshot: Snapshot) -> Route:
        if inbound.model is not None:
            return snapshot.rules.resolve(inbound.model)
        upstream = inbound.upstream or self.default_upstream
        if not upstream:
            raise RequestError(
                "this request names no model; set routing.default_upstream to send such requests to "
                "an upstream, or use /upstreams/NAME/v1/...",
                status=400,
                code="model_required",
                param="model",
            )
        return Route("", None, (Aim(upstream, ""),))

    def _refs(self, aims: Sequence[Aim], snapshot: Snapshot) -> Mapping[str, Sequence[CredentialRef]]:
        """The usable credentials of each upstream; one that asks for none gets an empty place."""
        refs: dict[str, Sequence[CredentialRef]] = {}
        for aim in aims:
            upstream = snapshot.upstreams.get(aim.backend)
            if upstream is None or aim.backend in refs:
                continue
            known = [c for c in snapshot.credentials.get(aim.backend, ()) if c.enabled]
            if not known and upstream.auth is AuthStyle.NONE:
                continue
            if upstream.spread is Spread.WEIGHT and len(known) > 1:
                known = by_weight([(each, each.weight) for each in known], self._jitter)
            refs[aim.backend] = [CredentialRef(c.id, c.name, c.version) for c in known]
        return refs


class _Request:
    """What `make_plan` asks about the targets of one request."""

    def __init__(
        self,
        planner: Planner,
        inbound: Inbound,
        *,
        snapshot: Snapshot,
        policy: Policy,
        forecasts: Mapping[str, Forecast],
        now: float,
    ) -> None:
        self._planner = planner
        self._inbound = inbound
        self._snapshot = snapshot
        self._policy = policy
        self._forecasts = forecasts
        self._needs: Needs | None = None
        self.judge = lambda key: planner._breakers.judge(key, now)

    def unusable(self, aim: Aim) -> Failure | None:
        """Why an aim can't answer this request."""
        if aim.backend == LOCAL:
            return self._unusable_local(aim)
        upstream = self._snapshot.upstreams.get(aim.backend)
        if upstream is None or not upstream.enabled:
            state = "disabled" if upstream is not None else "not defined"
            return _failure(Outcome.MODEL_MISSING, f"the upstream {aim.backend} is {state}")
        reason = self._planner._offline(upstream)
        return faults.offline(reason) if reason is not None else self._unable(aim, upstream)

    def late(self, aim: Aim) -> Failure | None:
        """Why an aim should be tried after the others."""
        forecast = self._forecasts.get(aim.model) if aim.backend == LOCAL else None
        limit_s = _patience_s(self._policy)
        if forecast is None or forecast.ttft_s <= limit_s:
            return None
        queue = forecast.queue_s > limit_s
        return Failure(
            outcome=Outcome.OVERLOADED if queue else Outcome.SLOW,
            message=f"local model {aim.model} would answer in about {_seconds(forecast.ttft_s)} "
            f"({_parts(forecast)}), and the policy waits {_seconds(limit_s)}",
            code="predicted_wait",
            status=503,
            retry_after_s=forecast.queue_s if queue else None,
        )

    def prefills(self, aim: Aim) -> bool:
        """Can an aim go on from text that was sent already?"""
        goes_on = self._policy.mid_stream is MidStream.CONTINUE and aim.backend != LOCAL
        return goes_on and self._ability(aim).prefill is True

    def _unusable_local(self, aim: Aim) -> Failure | None:
        local = self._planner._local
        if local is None:
            return _failure(Outcome.MODEL_MISSING, "local models are switched off (local.enabled)")
        if not local.knows(aim.model):
            return _failure(
                Outcome.MODEL_MISSING,
                f"there is no local model {aim.model!r}; `mlx-gateway models list` shows those there are",
            )
        forecast = self._forecasts.get(aim.model)
        if forecast is None:
            return None  # it came after the others were foreseen
        # What is wrong with the request itself is for the target to say: it would be wrong everywhere.
        if forecast.failure is not None and forecast.failure.outcome is not Outcome.CLIENT_FAULT:
            return forecast.failure
        if forecast.queue_s > 0 and forecast.queued >= self._policy.max_queue:
            return Failure(
                outcome=Outcome.OVERLOADED,
                message=f"{forecast.queued} requests wait for local model {aim.model}, about "
                f"{_seconds(forecast.queue_s)} of work",
                code="queue_full",
                status=503,
                retry_after_s=max(1.0, forecast.queue_s),
            )
        return None

    def _unable(self, aim: Aim, upstream: Upstream) -> Failure | None:
        ability, speaker = self._ability(aim), self._planner.speaker
        try:
            speaker.check(self._inbound, aim.model, upstream, ability)
        except RequestError as error:
            return _without_words(error)
        if ability is NOTHING:
            return None
        if self._needs is None:
            body = self._inbound.body
            self._needs = needs_of(self._inbound.api, body.data if isinstance(body, JsonBody) else b"")
        return lacks(self._needs, ability)

    def _ability(self, aim: Aim) -> Ability:
        return self._planner.ability(aim.backend, aim.model, self._snapshot)


def _without_words(error: RequestError) -> Failure:
    """There is no way to ask a target this."""
    return Failure(
        outcome=Outcome.UNSUPPORTED,
        message=error.message,
        status=error.status,
        code=error.code,
        param=error.param,
    )


def _patience_s(policy: Policy) -> float:
    """The longest predicted time to the first content for which local still comes in its turn."""
    limit_s = policy.max_wait_s
    return limit_s if policy.first_token_s is None else min(limit_s, policy.first_token_s)


def _parts(forecast: Forecast) -> str:
    """What the time is made of, the greatest first."""
    parts = {"load": forecast.load_s, "queue": forecast.queue_s, "prompt": forecast.prefill_s}
    told = sorted(((s, word) for word, s in parts.items() if s >= 0.05), reverse=True)
    return ", ".join(f"{word} {_seconds(s)}" for s, word in told) or "no time at all"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def _failure(outcome: Outcome, message: str) -> Failure:
    return Failure(outcome=outcome, message=message)
