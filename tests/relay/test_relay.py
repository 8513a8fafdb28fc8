"""Where a request may go, and what is told of it when it is over."""

from __future__ import annotations

import asyncio
import io
import tempfile
from dataclasses import replace

import pytest

from gateway.errors import RequestError
from gateway.failover.breaker import Breakers
from gateway.failover.budget import RetryBudget
from gateway.failover.outcome import Outcome
from gateway.failover.policy import LOCAL_ONLY, Policy
from gateway.relay.exchange import Limits
from gateway.relay.inbound import Inbound
from gateway.relay.relay import Relay
from gateway.snapshot import AuthStyle, Credential, Snapshot
from gateway.wire.api import Api
from gateway.wire.body import JsonBody
from gateway.wire.dialect import Dialect
from tests.house import chat, rule, running, snapshot, upstream
from tests.relay.puppet import Answer, Puppet, local_stream


def relay_of(*, local: Puppet | None = None, default_upstream: str = "") -> Relay:
    return Relay(
        snapshot=Snapshot,
        local=local,
        cloud=Puppet(),
        breakers=Breakers(),
        budget=RetryBudget(),
        limits=Limits(heartbeat_s=15, write_s=60, reply_limit=1 << 20),
        default_upstream=default_upstream,
        jitter=lambda: 0.0,
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


def skipped(relay: Relay, asked: Inbound, known: Snapshot) -> tuple[str, Outcome | None]:
    way = relay.way(asked, known)
    assert way.plan.candidates == ()
    (only,) = way.plan.skipped
    return only.reason, only.outcome


async def test_a_request_goes_where_its_rule_says() -> None:
    known = snapshot(rules=[rule("m", "a:{model}-x", "b")], upstreams=[upstream("a"), upstream("b")])
    way = relay_of().way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["a/m-x", "b/m"]
    assert way.policy.name == "default"


async def test_who_names_an_upstream_gets_no_other() -> None:
    known = snapshot(rules=[rule("m", "b:other")], upstreams=[upstream("a"), upstream("b")])
    way = relay_of().way(inbound(to="a"), known)
    assert [each.label for each in way.plan.candidates] == ["a/m"]
    assert way.route.rule is None


async def test_without_a_model_it_is_the_default_upstream() -> None:
    known = snapshot(upstreams=[upstream("a")])
    way = relay_of(default_upstream="a").way(inbound(None), known)
    assert [each.label for each in way.plan.candidates] == ["a"]
    with pytest.raises(RequestError, match="names no model") as caught:
        relay_of().way(inbound(None), known)
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
            inbound(api=Api.MESSAGES),
            "translate",
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
    ids=["undefined", "disabled", "dialect", "no credential", "no model", "no path"],
)
async def test_what_can_not_be_asked_is_left_out_with_its_reason(
    known: Snapshot, asked: Inbound, words: str, outcome: Outcome
) -> None:
    reason, came = skipped(relay_of(local=Puppet(names=["there"])), asked, known)
    assert words in reason
    assert came is outcome


async def test_without_a_pool_nothing_is_local() -> None:
    reason, outcome = skipped(relay_of(), inbound(), snapshot(rules=[rule("m", "local")]))
    assert "switched off" in reason
    assert outcome is Outcome.MODEL_MISSING


@pytest.mark.parametrize(
    ("waiting", "wait_s", "full"),
    [(0, 0.0, False), (1, 0.5, False), (3, 0.5, True), (0, 6.0, True), (3, 0.0, False)],
)
async def test_a_pool_with_too_much_work_is_passed_over(waiting: int, wait_s: float, full: bool) -> None:
    pool = Puppet()
    pool.waiting, pool.wait = waiting, wait_s
    known = snapshot(
        rules=[rule("m", "local", policy="p")], policies=[Policy(name="p", max_queue=3, max_wait_s=5.0)]
    )
    way = relay_of(local=pool).way(inbound(), known)
    assert bool(way.plan.candidates) is not full
    if full:
        failure = way.plan.skipped[0].failure
        assert failure is not None
        assert failure.outcome is Outcome.OVERLOADED
        assert failure.retry_after_s == max(1.0, wait_s)


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
    way = relay_of().way(inbound(), known)
    assert [(each.credential, each.credential_id) for each in way.plan.candidates] == [("k1", 1), ("k3", 3)]


async def test_stay_local_leaves_nothing_that_is_elsewhere() -> None:
    known = snapshot(rules=[rule("m", "a", "local", policy=LOCAL_ONLY.name)], upstreams=[upstream("a")])
    way = relay_of(local=Puppet()).way(inbound(), known)
    assert [each.label for each in way.plan.candidates] == ["local/m"]
    assert way.plan.local_only


async def test_the_disk_is_looked_at_again_before_a_name_is_unknown() -> None:
    class New(Puppet):
        async def look(self) -> None:
            await super().look()
            self.names.add("m")

    pool = New(local_stream(), names=[])
    async with running(local=pool) as house:
        house.snapshot = snapshot(rules=[rule("m", "local")])
        for _ in range(2):
            async with house.http.post("/v1/chat/completions", json=chat("m", stream=True)) as reply:
                assert reply.status == 200
                await reply.read()
    assert pool.looked == 1


async def test_a_request_keeps_the_rules_it_started_with() -> None:
    gate = asyncio.Event()
    puppet = Puppet(Answer(head=[gate]))
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(rules=[rule("m", "a:one")], upstreams=[upstream("a")])

        async def ask() -> str:
            async with house.http.post("/v1/chat/completions", json=chat("m", stream=True)) as reply:
                await reply.read()
                return reply.headers["x-gateway-served-by"]

        first = asyncio.create_task(ask())
        await puppet.called()
        house.snapshot = snapshot()
        gate.set()
        assert await first == "a/one"


async def test_idle_waits_for_what_is_being_answered() -> None:
    gate = asyncio.Event()
    puppet = Puppet(Answer(head=[gate]))
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        await house.relay.idle(0.0)
        asking = asyncio.create_task(house.http.post("/v1/chat/completions", json=chat("m")))
        await puppet.called()
        assert house.relay.in_flight == 1
        await house.relay.idle(0.02)
        assert house.relay.in_flight == 1
        waiting = asyncio.create_task(house.relay.idle(5.0))
        gate.set()
        await waiting
        assert house.relay.in_flight == 0
        (await asking).release()


def form(model: str) -> io.BytesIO:
    """File first, so that it has to be held until the model is known."""
    field = f'name="model"\r\n\r\n{model}' if model else 'name="other"\r\n\r\nx'
    return io.BytesIO(
        b'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + b"x" * 3_000_000
        + f"\r\n--B\r\ncontent-disposition: form-data; {field}\r\n--B--\r\n".encode()
    )


MULTIPART = {"content-type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize("model", ["m", "", "unknown", "../etc"])
async def test_no_upload_leaves_its_temporary_file_behind(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload without a model, and without anybody to take it, stayed open until the garbage went."""
    made = []
    real = tempfile.TemporaryFile

    def spy(*args: object, **kwargs: object) -> object:
        made.append(real(*args, **kwargs))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", spy)
    async with running(cloud=Puppet(Answer([b"{}"], kind="application/json"))) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        async with house.http.post("/v1/audio/transcriptions", data=form(model), headers=MULTIPART) as reply:
            await reply.read()
            assert reply.status == (200 if model == "m" else 404 if model == "unknown" else 400)
    assert len(made) == 1
    assert made[0].closed
