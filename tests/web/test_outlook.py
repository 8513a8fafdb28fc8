"""What `explain` says is what a request does: the same targets, with the same keys, in the same order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.failover.ability import Ability
from gateway.failover.breaker import Key
from gateway.failover.outcome import MEANING, Failure, Outcome
from gateway.failover.policy import MOVABLE, Policy
from gateway.local.forecast import Forecast
from gateway.snapshot import AuthStyle, Credential, Snapshot, Upstream
from gateway.web.outlook import outlook
from gateway.wire.dialect import Dialect
from tests.house import House, rule, running, snapshot, upstream
from tests.relay.puppet import Answer, Puppet

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
NAMES = ("a", "b", "c", "d")

# What every target says to this request. None of them is a reason to ask the same one again.
FAULTS = [
    Failure(outcome=Outcome.SLOW, message="slow"),
    Failure(outcome=Outcome.MODEL_MISSING, message="no such model"),
    Failure(outcome=Outcome.AUTH, message="no such key"),
    Failure(outcome=Outcome.BILLING, message="unpaid"),
    Failure(outcome=Outcome.RATE_LIMITED, message="too many", retry_after_s=30.0),
]
# What was said before, and how often: none is healthy, and told limits bar a target.
PASTS: list[tuple[int, Failure]] = [
    *[(0, FAULTS[0])] * 5,
    (5, Failure(outcome=Outcome.SERVER_FAULT, message="burst")),
    *((1, fault) for fault in FAULTS[1:]),
]
WEATHERS = [
    Forecast(),
    Forecast(load_s=60.0, ttft_s=60.0),
    Forecast(queue_s=20.0, ttft_s=20.0, queued=40),
    Forecast(failure=Failure(outcome=Outcome.CONTEXT_TOO_LONG, message="too long")),
    Forecast(failure=Failure(outcome=Outcome.LOCAL_FAULT, message="it does not load")),
]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "content": "many words " * 300}], "max_tokens": 500},
    {"messages": [{"role": "user", "content": [PICTURE]}]},
    {"messages": [], "tools": [{"type": "function", "function": {"name": "look"}}]},
]


@dataclass(frozen=True)
class World:
    """Rules, upstreams and how they stand, and one request."""

    upstreams: list[Upstream]
    credentials: dict[str, tuple[Credential, ...]]
    pasts: list[tuple[Key, tuple[int, Failure]]]
    targets: list[str]
    policy: Policy
    weather: Forecast
    known: bool
    path: str
    body: dict[str, Any]
    fault: Failure

    @property
    def snapshot(self) -> Snapshot:
        # A second rule that matches as well, and loses.
        rules = [rule("m", *self.targets, policy="p"), rule("m*", "d:other", number=2)]
        made = snapshot(rules=rules, upstreams=self.upstreams, policies=[self.policy])
        return replace(made, credentials=self.credentials)


def _mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([*[usual] * (4 * len(others)), *others])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    upstreams, credentials, pasts = [], {}, []
    pasts.append((Key("local", None, "m"), draw(st.sampled_from(PASTS))))
    for place, name in enumerate(NAMES):
        open_ = draw(st.booleans())
        made = upstream(
            name,
            dialect=draw(_mostly(Dialect.OPENAI, Dialect.ANTHROPIC)),
            enabled=draw(_mostly(True, False)),
            abilities=(
                Ability(
                    context=draw(_mostly(None, 100, 9000)),
                    vision=draw(_mostly(None, False, True)),
                    tools=draw(_mostly(None, False, True)),
                ),
            ),
        )
        upstreams.append(made if open_ else replace(made, auth=AuthStyle.BEARER))
        numbers = (
            [] if open_ else range(place * 10 + 1, place * 10 + 1 + draw(st.sampled_from([2, 1, 3, 2, 0])))
        )
        credentials[name] = tuple(
            Credential(
                id=number,
                upstream=name,
                name=f"key{number}",
                version=1,
                base_url=made.base_url,
                hint="",
                sealed=b"",
                enabled=draw(_mostly(True, False)),
            )
            for number in numbers
        )
        keys = [Key(name, None, "m")] if open_ else [Key(name, number, "m", 1) for number in numbers]
        pasts += [(key, draw(st.sampled_from(PASTS))) for key in keys]
    targets = draw(st.lists(st.sampled_from(["local", *NAMES]), min_size=2, max_size=5, unique=True))
    return World(
        upstreams=upstreams,
        credentials=credentials,
        pasts=pasts,
        targets=targets,
        policy=Policy(
            name="p",
            attempts=20,
            stay_local=draw(_mostly(False, True)),
            on=draw(_mostly(MOVABLE, MOVABLE - {Outcome.SLOW}, frozenset({Outcome.AUTH}))),
        ),
        weather=draw(st.sampled_from(WEATHERS)),
        known=draw(_mostly(True, False)),
        path=draw(_mostly(CHAT, MESSAGES)),
        body={**draw(st.sampled_from(BODIES)), "stream": draw(st.booleans())},
        fault=draw(st.sampled_from(FAULTS)),
    )


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_a_request_goes_where_it_was_said_to_go(world: World) -> None:
    asyncio.run(_holds(world))


async def _holds(world: World) -> None:
    puppet = Puppet(Answer(head=[world.fault]), names=["m"] if world.known else [])
    puppet.weather = world.weather
    async with running(local=puppet, cloud=puppet) as house:
        house.snapshot = world.snapshot
        now = asyncio.get_running_loop().time()
        for key, (often, failure) in world.pasts:
            for _ in range(often):
                house.breakers.record(key, failure, now)
        plan = await _explained(house, world)
        assert await _explained(house, world) == plan, "to explain changes nothing"
        assert puppet.calls == []
        async with house.http.post(world.path, json={"model": "m", **world.body}) as reply:
            assert reply.status >= 400
    asked = [
        (
            "local/m" if call.upstream is None else f"{call.upstream.name}/{call.model}",
            None if call.credential is None else call.credential.name,
        )
        for call in puppet.calls
    ]
    tried = [(each["target"], each["credential"]) for each in plan["try"]]
    if not asked and tried:
        # The only one left has said itself when it wants to be asked again.
        [only] = tried
        assert _barred(world, *only), plan
        return
    assert asked == _followed(tried, world)


async def _explained(house: House, world: World) -> dict[str, Any]:
    plans = await outlook(house.relay.planner, house.snapshot, "m", world.body, world.path)
    plan = plans[world.path]
    assert isinstance(plan, dict)
    return plan


def _followed(tried: list[tuple[str, str | None]], world: World) -> list[tuple[str, str | None]]:
    """Who is asked in turn when all say the same."""
    meaning, moves = MEANING[world.fault.outcome], world.fault.outcome in world.policy.on
    asked: list[tuple[str, str | None]] = []
    for target, credential in tried:
        known = any(target == before for before, _ in asked)
        if known and not meaning.next_credential:
            continue
        if asked and asked[-1][0] != target and not moves:
            continue
        asked.append((target, credential))
    return asked


def _barred(world: World, target: str, credential: str | None) -> bool:
    number = 0 if credential is None else int(credential.removeprefix("key"))
    for key, (often, failure) in world.pasts:
        if often and (f"{key.backend}/{key.model}", key.credential_id or 0) == (target, number):
            return failure.outcome in (Outcome.AUTH, Outcome.BILLING, Outcome.RATE_LIMITED)
    return False
