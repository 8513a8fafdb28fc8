"""Many requests at one moment, over real sockets on both sides."""

from __future__ import annotations

import asyncio
import json
import random

from gateway.failover.ability import Ability
from gateway.failover.breaker import Key, State
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.policy import MidStream, Policy
from tests import canned
from tests.house import House, chat, rule, running, snapshot, upstream
from tests.lab import Lab
from tests.peer import Exchange

PATH = "/v1/chat/completions"


async def served(house: House) -> str:
    async with house.http.post(PATH, json=chat("m", stream=True)) as reply:
        assert reply.status == 200
        assert (await reply.read()).endswith(canned.DONE)
        return reply.headers["x-gateway-served-by"].partition("/")[0]


async def test_of_fifty_at_the_end_of_a_cooldown_one_tries() -> None:
    """They all came at once, and what had just got up again was down."""
    gate = asyncio.Event()
    async with Lab() as first, Lab() as second, running() as house:
        house.snapshot = snapshot(
            rules=[rule("m", "a", "b")], upstreams=[upstream("a", first), upstream("b", second)]
        )
        loop, key = asyncio.get_running_loop(), Key("a", None, "m")
        told = Failure(outcome=Outcome.RATE_LIMITED, message="enough", status=429, retry_after_s=30.0)
        house.breakers.record(key, told, loop.time() - 30.0)
        assert house.breakers.judge(key, loop.time()).state is State.COOLING
        events = canned.chat_stream()
        first.script(PATH, first.sse([events[0], gate, *events[1:]]))
        asking = [asyncio.ensure_future(served(house)) for _ in range(50)]
        done: set[asyncio.Future[str]] = set()
        async with asyncio.timeout(20):
            while len(done) < 49:
                more, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                done |= more
                asking = [each for each in asking if not each.done()]
        assert {each.result() for each in done} == {"b"}
        assert (first.hits, second.hits) == (1, 49)
        assert house.breakers.judge(key, loop.time()).state is State.PROBING
        gate.set()
        [probe] = asking
        assert await probe == "a"
        assert await served(house) == "a", "it is well again"
        assert first.hits == 2


async def test_a_dead_primary_is_left_alone_and_found_again() -> None:
    """Two hundred requests, a few of them at a time: it is asked at most ten times."""
    async with Lab() as first, Lab() as second, running() as house:
        house.snapshot = snapshot(
            rules=[rule("m", "a", "b")], upstreams=[upstream("a", first), upstream("b", second)]
        )
        first.always(PATH, first.error(500))
        for _ in range(50):
            assert await asyncio.gather(*(served(house) for _ in range(4))) == ["b"] * 4
        assert first.hits <= 10
        assert second.hits == 200
        first.always(PATH, first.chat())
        house.breakers.reset("a")
        assert await served(house) == "a"


async def test_whatever_happens_each_client_gets_one_answer_or_one_error() -> None:
    """Races, breaks and those who go on, many at once; nothing of ours ends unheard."""
    chance, complaints = random.Random(7), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def anyhow(exchange: Exchange) -> None:
        *_, last = exchange.seen.json["messages"]
        said = last["content"] if last["role"] == "assistant" else ""
        events = canned.chat_stream(canned.TEXT.removeprefix(said))
        part = events[: chance.randrange(len(events))]
        fates = [
            Lab.sse(events),
            Lab.sse(events),
            Lab.sse(events, pace=0.01),
            Lab.sse(part, cut="fin", framing="close"),
            Lab.sse(part, cut="rst"),
            Lab.sse(part, cut="stall"),
            Lab.error(500),
            Lab.hang(),
        ]
        await chance.choice(fates)(exchange)

    policy = Policy(
        name="p",
        mid_stream=MidStream.CONTINUE,
        hedge_after_s=0.05,
        first_token_s=0.5,
        idle_s=0.5,
        retry_base_s=0.01,
    )
    async with Lab() as first, Lab() as second, running() as house:
        labs = {"a": first, "b": second}
        able = (Ability(prefill=True),)
        house.snapshot = snapshot(
            rules=[rule("m-*", *labs, policy="p")],
            upstreams=[upstream(name, each, abilities=able) for name, each in labs.items()],
            policies=[policy],
        )
        for each in labs.values():
            each.always(PATH, anyhow)
        ends = []
        for wave in range(4):
            ends += await asyncio.gather(*(_one_answer(house, f"m-{wave}-{each}") for each in range(12)))
        assert "whole" in ends
        for number in range(1, len(ends) + 1):
            assert "pending" not in (await house.logged(number))["attempts"]
    assert not complaints


async def _one_answer(house: House, model: str) -> str:
    request = {**chat(model, stream=True), "messages": [{"role": "user", "content": "hi"}]}
    async with house.http.post(PATH, json=request) as reply:
        data = await reply.read()
        if reply.status != 200:
            return "refused"
    events = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    text = "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices", ()))
    assert canned.TEXT.startswith(text), data
    whole, errors = data.count(canned.DONE), sum("error" in event for event in events)
    assert (whole, errors) in ((1, 0), (0, 1)), data
    assert not whole or text == canned.TEXT, data
    return "whole" if whole else "error"
