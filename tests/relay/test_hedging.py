"""Two targets race: the first content is the client's, the loser stops at once."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.failover.policy import Policy
from gateway.telemetry.finished import Finished
from tests import canned
from tests.house import chat
from tests.relay.puppet import Answer, Puppet, json, whole
from tests.relay.test_exchange import PATH, asked, attempts_left, house_of

HEDGE = Policy(name="p", hedge_after_s=0.02, deadline_s=20.0)


async def test_the_one_that_speaks_first_answers_and_the_other_is_closed() -> None:
    gate = asyncio.Event()
    puppet = Puppet(Answer([CHAT_ROLE, gate]), Answer())
    async with house_of(puppet, "a", "b", policy=HEDGE) as house:
        async with house.http.post(PATH, json=chat("m", stream=True)) as reply:
            assert reply.headers["x-gateway-served-by"] == "b/m"
            trail = reply.headers["x-gateway-attempts"]
            assert trail.startswith("a/m=cancelled;dur=")
            assert "b/m=ok" in trail
            body = await reply.read()
        assert body.endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(1):
            while not puppet.all_closed:
                await asyncio.sleep(0)
        assert attempts_left() == []


async def test_a_whole_reply_is_raced_for_too() -> None:
    gate = asyncio.Event()
    puppet = Puppet(Answer(head=[gate], kind="application/json"), json())
    async with house_of(puppet, "a", "b", policy=HEDGE) as house:
        status, body = await asked(house, stream=False)
        assert (status, body) == (200, whole())
        assert len(puppet.calls) == 2


async def test_a_loser_whose_race_is_over_already_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """A whole reply is sent without a pause, so that its loser is closed before its own turn to be cancelled."""
    gate = asyncio.Event()
    puppet = Puppet(Answer(head=[gate], kind="application/json"), json())
    async with house_of(puppet, "a", "b", policy=HEDGE) as house:
        await asked(house, stream=False)
        async with asyncio.timeout(1):
            while not puppet.all_closed:
                await asyncio.sleep(0)
    gc.collect()  # a task that failed and that nobody asked says so only then
    assert "never retrieved" not in caplog.text


async def test_the_winner_does_not_wait_for_a_loser_that_is_slow_to_stop() -> None:
    never = asyncio.Event()

    async def clings() -> None:
        try:
            await never.wait()
        except asyncio.CancelledError:
            await never.wait()

    puppet = Puppet(Answer(head=[clings]), Answer())
    async with house_of(puppet, "a", "b", policy=HEDGE) as house:
        async with asyncio.timeout(2):
            status, body = await asked(house)
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n")
        never.set()


async def test_a_client_that_leaves_a_race_stops_both() -> None:
    puppet = Puppet(Answer(head=[asyncio.Event()]))
    async with house_of(puppet, "a", "b", policy=HEDGE) as house:
        asking = asyncio.create_task(asked(house))
        await puppet.called(2)
        asking.cancel()
        async with asyncio.timeout(1):
            while attempts_left():
                await asyncio.sleep(0)


async def test_what_the_loser_cost_is_booked() -> None:
    """Anthropic and some others tell the tokens of the prompt before the first word."""
    told: list[Finished] = []
    counted = canned.data({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}})
    puppet = Puppet(Answer([counted, asyncio.Event()]), Answer())
    async with house_of(puppet, "a", "b", policy=HEDGE) as house:
        house.relay._note = told.append
        await asked(house)
    assert told[0].served_by == "b/m"
    assert told[0].other_usage is not None
    assert told[0].other_usage.input_tokens == 7


CHAT_ROLE = canned.chat_stream()[0]
