"""Where a request may go."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from gateway.errors import RequestError
from gateway.failover.ability import Ability
from gateway.failover.breaker import Breakers
from gateway.failover.learnt import Learnt
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.policy import LOCAL_ONLY, Policy
from gateway.local.forecast import Forecast
from gateway.relay.inbound import Inbound
from gateway.relay.planner import Planner
from gateway.snapshot import AuthStyle, Credential, Snapshot, Spread
from gateway.wire.api import Api
from gateway.wire.body import JsonBody, read_json
from gateway.wire.dialect import Dialect
from tests.house import rule, snapshot, upstream
from tests.relay.puppet import Puppet


def planner_of(*, local: Puppet | None = None, default_upstream: str = "") -> Planner:
    return Planner(
        local=local,
        breakers=Breakers(),
        learnt=Learnt(),
        default_upstream=default_upstream,
        jitter=lambda: 0.5,
    )


PATHS = {
    Api.CHAT: "/v1/chat/completions",
    Api.COMPLETIONS: "/v1/completions",
    Api.MESSAGES: "/v1/messages",
    Api.OTHER: "/v1/new/thing",
}


def inbound(model: str | None = "m", *, api: Api = Api.CHAT, to: str | None = None) -> Inbound:
    anthropic = api is Api.MESSAGES
    return Inbound(
        request_id="r",
        method="POST",
        path=PATHS[api],
        query="",
        dialect=Dialect.ANTHROPIC if anthropic else Dialect.OPENAI,
        api=api,
        headers=(),
        body=JsonBody(data=b"{}", model=model, span=None, stream=False) if model is not None else None,
        upstream=to,
    )


async def skipped(planner: Planner, asked: Inbound, known: Snapshot) -> tuple[str, Outcome | None]:
    way = await planner.way(asked, known)
    assert way.plan.candidates == ()
    (only,) = way.plan.skipped
    return only.reason, only.outcome


async def test_a_request_goes_where_its_rule_says() -> None:
    known = snapshot(rules=[rule("m", "a:{model}-x", "b")], upstreams=[upstream("a"), upstream("b")])
    way = await planner_of().way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["a/m-x", "b/m"]
    assert way.policy.name == "default"


async def test_who_names_an_upstream_gets_no_other() -> None:
    known = snapshot(rules=[rule("m", "b:other")], upstreams=[upstream("a"), upstream("b")])
    way = await planner_of().way(inbound(to="a"), known)
    assert [each.label for each in way.plan.candidates] == ["a/m"]
    assert way.route.rule is None


async def test_without_a_model_it_is_the_default_upstream() -> None:
    known = snapshot(upstreams=[upstream("a")])
    way = await planner_of(default_upstream="a").way(inbound(None), known)
    assert [each.label for each in way.plan.candidates] == ["a"]
    with pytest.raises(RequestError, match="names no model") as caught:
        await planner_of().way(inbound(None), known)
    assert (caught.value.status, caught.value.param) == (400, "model")


@pytest.mark.parametrize(
    ("known", "asked", "words", "outcome"),
    [
        (snapshot(rules=[rule("m", "a")]), inbound(), "not defined", Outcome.MODEL_MISSING),
        (
            snapshot(rules=[rule("m", "a")], upstreams=[upstream("a", enabled=False)]),
            inbound(),
            "disabled",
            Outcome.MODEL_MISSING,
        ),
        (
            snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")]),
            replace(inbound(api=Api.MESSAGES), path="/v1/messages/batches", api=Api.OTHER),
            "nothing like POST /v1/messages/batches",
            Outcome.UNSUPPORTED,
        ),
        (
            snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")]),
            replace(inbound(api=Api.MESSAGES), body=read_json(b'{"model":"m","mcp_servers":[{}]}')),
            "mcp_servers can't be translated",
            Outcome.UNSUPPORTED,
        ),
        (
            snapshot(rules=[rule("m", "a")], upstreams=[replace(upstream("a"), auth=AuthStyle.BEARER)]),
            inbound(),
            "no credential",
            Outcome.AUTH,
        ),
        (snapshot(rules=[rule("m", "local:x")]), inbound(), "no local model 'x'", Outcome.MODEL_MISSING),
        (
            snapshot(rules=[rule("m", "local:there")]),
            inbound(api=Api.OTHER),
            "/v1/new/thing",
            Outcome.UNSUPPORTED,
        ),
    ],
    ids=["undefined", "disabled", "path of a dialect", "no words", "no credential", "no model", "no path"],
)
async def test_what_can_not_be_asked_is_left_out_with_its_reason(
    known: Snapshot, asked: Inbound, words: str, outcome: Outcome
) -> None:
    reason, came = await skipped(planner_of(local=Puppet(names=["there"])), asked, known)
    assert words in reason
    assert came is outcome


async def test_without_a_pool_nothing_is_local() -> None:
    reason, outcome = await skipped(planner_of(), inbound(), snapshot(rules=[rule("m", "local")]))
    assert "switched off" in reason
    assert outcome is Outcome.MODEL_MISSING


@pytest.mark.parametrize(("queued", "queue_s", "full"), [(0, 0.0, False), (3, 0.5, True), (3, 0.0, False)])
async def test_a_pool_whose_queue_is_full_is_passed_over(queued: int, queue_s: float, full: bool) -> None:
    pool = Puppet()
    pool.weather = Forecast(queued=queued, queue_s=queue_s, ttft_s=queue_s)
    known = snapshot(rules=[rule("m", "local", policy="p")], policies=[Policy(name="p", max_queue=3)])
    way = await planner_of(local=pool).way(inbound(), known)
    assert bool(way.plan.candidates) is not full
    if full:
        failure = way.plan.skipped[0].failure
        assert failure is not None
        assert failure.outcome is Outcome.OVERLOADED
        assert failure.retry_after_s == 1.0


@pytest.mark.parametrize(
    ("weather", "word"),
    [
        (Forecast(ttft_s=21.0, load_s=18.0, prefill_s=3.0), "slow"),
        (Forecast(ttft_s=7.0, queue_s=6.0, prefill_s=1.0), "overloaded"),
    ],
)
async def test_a_pool_that_would_take_too_long_comes_after_the_others(weather: Forecast, word: str) -> None:
    pool = Puppet()
    pool.weather = weather
    known = snapshot(
        rules=[rule("m", "local", "a", policy="p")],
        policies=[Policy(name="p", max_wait_s=5.0)],
        upstreams=[upstream("a")],
    )
    way = await planner_of(local=pool).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["a/m", "local/m"]
    late = way.plan.candidates[1].late
    assert late is not None
    assert late.outcome == word
    assert "the policy waits 5.0 s" in late.message
    # What is in time stands where the rule has it.
    pool.weather = Forecast(ttft_s=4.9)
    way = await planner_of(local=pool).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["local/m", "a/m"]


async def test_a_limit_on_the_first_token_is_one_on_the_prediction_too() -> None:
    pool = Puppet()
    pool.weather = Forecast(ttft_s=3.0, load_s=3.0)
    known = snapshot(
        rules=[rule("m", "local", "a", policy="p")],
        policies=[Policy(name="p", first_token_s=2.0)],
        upstreams=[upstream("a")],
    )
    way = await planner_of(local=pool).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["a/m", "local/m"]


async def test_what_is_certain_to_fail_is_left_out_unless_it_is_the_clients_fault() -> None:
    pool = Puppet()
    known = snapshot(rules=[rule("m", "local")])
    pool.weather = Forecast(failure=Failure(outcome=Outcome.CONTEXT_TOO_LONG, message="too long"))
    assert await skipped(planner_of(local=pool), inbound(), known) == ("too long", Outcome.CONTEXT_TOO_LONG)
    pool.weather = Forecast(failure=Failure(outcome=Outcome.CLIENT_FAULT, message="no messages"))
    way = await planner_of(local=pool).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["local/m"]


async def test_what_a_model_cannot_do_leaves_it_out() -> None:
    known = snapshot(
        rules=[rule("m", "a:gpt-3.5-turbo", "b")],
        upstreams=[upstream("a", abilities=(Ability(pattern="gpt-3.5*", vision=False),)), upstream("b")],
    )
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [picture]}]}).encode()
    way = await planner_of().way(replace(inbound(), body=read_json(body)), known)
    assert [each.label for each in way.plan.candidates] == ["b/m"]
    assert way.plan.skipped[0].outcome is Outcome.UNSUPPORTED
    way = await planner_of().way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["a/gpt-3.5-turbo", "b/m"]


async def test_an_upstream_that_is_out_of_reach_is_left_out() -> None:
    planner = planner_of()
    planner._offline = lambda upstream: "no route" if upstream.name == "a" else None
    known = snapshot(rules=[rule("m", "a", "b")], upstreams=[upstream("a"), upstream("b")])
    way = await planner.way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["b/m"]
    assert way.plan.skipped[0].reason == "this machine is offline: no route"


async def test_credentials_are_spread_by_their_weight_where_the_upstream_says_so() -> None:
    def key(number: int, weight: int) -> Credential:
        return Credential(
            id=number,
            upstream="a",
            name=f"k{number}",
            version=1,
            base_url="",
            hint="",
            sealed=b"",
            weight=weight,
        )

    known = snapshot(
        rules=[rule("m", "a")],
        upstreams=[replace(upstream("a"), auth=AuthStyle.BEARER, spread=Spread.WEIGHT)],
    )
    known = replace(known, credentials={"a": (key(1, 1), key(2, 9))})
    planner = planner_of()
    planner._jitter = random.Random(3).random
    first = Counter([(await planner.way(inbound(), known)).plan.candidates[0].credential for _ in range(300)])
    assert 5 < first["k2"] / first["k1"] < 16


async def test_every_credential_is_a_candidate_of_its_own() -> None:
    keys = tuple(
        Credential(
            id=number,
            upstream="a",
            name=f"k{number}",
            version=1,
            base_url="",
            hint="",
            sealed=b"",
            enabled=number != 2,
        )
        for number in (1, 2, 3)
    )
    known = snapshot(rules=[rule("m", "a")], upstreams=[replace(upstream("a"), auth=AuthStyle.BEARER)])
    known = replace(known, credentials={"a": keys})
    way = await planner_of().way(inbound(), known)
    assert [(each.credential, each.credential_id) for each in way.plan.candidates] == [("k1", 1), ("k3", 3)]


async def test_stay_local_leaves_nothing_that_is_elsewhere() -> None:
    known = snapshot(rules=[rule("m", "a", "local", policy=LOCAL_ONLY.name)], upstreams=[upstream("a")])
    way = await planner_of(local=Puppet()).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["local/m"]
    assert way.plan.local_only


async def test_a_model_that_comes_while_the_request_is_planned_may_be_asked() -> None:
    class Coming(Puppet):
        """The disk is read by somebody else in the midst of it."""

        async def forecast(
            self, call_path: str, model: str | None, body: bytes | None, *, limit_s: float | None = None
        ) -> Forecast:
            self.names.add("new")
            return self.weather

    known = snapshot(rules=[rule("m", "local:there", "local:new")])
    way = await planner_of(local=Coming(names=["there"])).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["local/there", "local/new"]
