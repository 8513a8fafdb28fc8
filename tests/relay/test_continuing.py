"""A stream that breaks after its first words goes on from another target, as one answer."""

from __future__ import annotations

import asyncio
import json as _json

import pytest

from gateway.failover.outcome import Outcome
from gateway.failover.policy import MidStream, Policy
from tests import canned
from tests.house import House, chat
from tests.relay.puppet import Answer, Puppet, events, failure, local_stream
from tests.relay.test_exchange import FAST, PATH, attempts_left, events_of, house_of

GO_ON = Policy(name="p", mid_stream=MidStream.CONTINUE, deadline_s=20.0)
WORDS = canned.TEXT


def text_of(body: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events_of(body)
        for choice in event.get("choices", ())
    )


def said_in(stream: list[bytes]) -> str:
    return text_of(b"".join(stream))


async def told(house: House) -> bytes:
    request = {**chat("m", stream=True), "messages": [{"role": "user", "content": "Say it."}]}
    async with house.http.post(PATH, json=request) as reply:
        assert reply.status == 200
        return await reply.read()


def parts(count: int, *then: object) -> Answer:
    """A cloud's stream that breaks after so many events."""
    return Answer([*canned.chat_stream()[:count], *(then or (failure(),))])  # type: ignore[list-item]


@pytest.mark.parametrize("cut", [2, 3, 4])
async def test_a_local_model_goes_on_where_a_cloud_stopped(cut: int) -> None:
    said = said_in(canned.chat_stream()[:cut])
    rest = WORDS.removeprefix(said)
    puppet = Puppet(parts(cut), local_stream(*events(canned.chat_stream(rest))))
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        before = house.counted("continuations_total", backend="local")
        body = await told(house)
        line = await house.logged()
        assert house.counted("continuations_total", backend="local") == before + 1
    assert text_of(body) == WORDS
    ids = {event["id"] for event in events_of(body)}
    assert len(ids) == 1
    assert body.count(b'"role": "assistant"') == 1
    assert body.count(b"data: [DONE]") == 1
    assert body.endswith(b": continued-by local/m\n\n")
    assert line["by"] == "local/m"
    assert line["continued"] is True
    assert "broken" not in line
    # The local model was given what had been said, as the beginning of its own message.
    sent = puppet.calls[1].body
    assert sent is not None and sent.data is not None
    assert _json.loads(sent.data)["messages"][-1] == {"role": "assistant", "content": said}


async def test_a_local_model_goes_on_from_its_own_tokens() -> None:
    """It begins again with all it had said, which the client has already."""
    puppet = Puppet(local_stream(*events()[:3], failure(Outcome.LOCAL_FAULT)), local_stream())
    async with house_of(puppet, "local", policy=GO_ON) as house:
        puppet.trails = [(5, 6, 7)]
        body = await told(house)
    assert text_of(body) == WORDS
    assert puppet.calls[1].resume == (5, 6, 7)
    assert body.count(b"data: [DONE]") == 1
    assert body.endswith(b": continued-by local/m\n\n")


async def test_a_rest_that_comes_all_at_once_is_not_lost() -> None:
    """Its end was known before any of it had been sent, and the client's answer was ended there and then."""
    said = said_in(canned.chat_stream()[:2])
    puppet = Puppet(parts(2), Answer([b"".join(canned.chat_stream(WORDS.removeprefix(said)))]))
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        body = await told(house)
    assert text_of(body) == WORDS
    assert body.count(b"data: [DONE]") == 1


async def test_an_answer_that_breaks_twice_is_still_one() -> None:
    stream = canned.chat_stream()
    first, second = said_in(stream[:2]), said_in(stream[2:3])
    rest = WORDS.removeprefix(first + second)
    puppet = Puppet(
        parts(2),
        local_stream(*events(canned.chat_stream(second)[:2]), failure(Outcome.LOCAL_FAULT)),
        local_stream(*events(canned.chat_stream(second + rest))),
    )
    puppet.trails = [None, (9,)]
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        body = await told(house)
    assert text_of(body) == WORDS
    assert puppet.calls[2].resume == (9,)
    # Its prompt is still the one that began with the cloud's words.
    sent = puppet.calls[2].body
    assert sent is not None and sent.data is not None
    assert _json.loads(sent.data)["messages"][-1]["content"] == first


async def test_one_that_says_all_of_the_rest_at_once_is_heard() -> None:
    """It was over when its first content came, and so was the answer, without a word of it."""
    said = said_in(canned.chat_stream()[:3])
    puppet = Puppet(parts(3), Answer([b"".join(canned.chat_stream(WORDS.removeprefix(said)))]))
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        body = await told(house)
    assert text_of(body) == WORDS
    assert body.endswith(b"data: [DONE]\n\n: continued-by local/m\n\n")


async def test_what_does_not_fit_is_not_glued_on() -> None:
    puppet = Puppet(
        local_stream(*events()[:3], failure(Outcome.LOCAL_FAULT)),
        local_stream(*events(canned.chat_stream("Something else altogether, and longer than that."))),
    )
    puppet.trails = [(5, 6, 7), (5, 6, 7)]
    async with house_of(puppet, "local", policy=GO_ON) as house:
        body = await told(house)
    assert b"Something else" not in body
    assert b'"error"' in body
    assert b"[DONE]" not in body


async def test_an_error_is_the_default() -> None:
    puppet = Puppet(parts(3), local_stream())
    async with house_of(puppet, "a", "local") as house:
        body = await told(house)
    assert b'"error"' in body
    assert len(puppet.calls) == 1


async def test_a_tool_call_is_not_gone_on_with() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunk = canned.data({"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    puppet = Puppet(Answer([canned.chat_stream()[0], chunk, failure()]), local_stream())
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        body = await told(house)
    assert b'"error"' in body
    assert len(puppet.calls) == 1


async def test_the_client_is_kept_alive_until_somebody_goes_on() -> None:
    gate = asyncio.Event()
    puppet = Puppet(parts(3), Answer(events(), head=[gate], framing=local_stream().framing))
    async with house_of(puppet, "a", "local", policy=GO_ON, limits=FAST) as house:
        request = {**chat("m", stream=True), "messages": [{"role": "user", "content": "Say it."}]}
        async with house.http.post(PATH, json=request) as reply:
            seen = b""
            while b": waiting" not in seen:
                seen += await reply.content.readany()
            gate.set()
            seen += await reply.read()
    assert b"data: [DONE]" in seen


async def test_who_goes_on_may_be_slow_only_so_long() -> None:
    policy = Policy(name="p", mid_stream=MidStream.CONTINUE, first_token_s=0.05)
    slow = Answer(events(), head=[asyncio.Event()], framing=local_stream().framing)
    puppet = Puppet(parts(3), slow)
    async with house_of(puppet, "a", "local", policy=policy) as house:
        body = await told(house)
        line = await house.logged()
    assert b"the puppet says no" in body  # why the answer broke, not why nobody went on
    assert "a/m=server_fault" in str(line["attempts"])
    assert "local/m=slow" in str(line["attempts"])


async def test_a_client_that_leaves_meanwhile_stops_who_was_to_go_on() -> None:
    puppet = Puppet(parts(3), Answer(events(), head=[asyncio.Event()], framing=local_stream().framing))
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        asking = asyncio.create_task(told(house))
        await puppet.called(2)
        asking.cancel()
        async with asyncio.timeout(1):
            while attempts_left():
                await asyncio.sleep(0)
        line = await house.logged()
    assert line.status == 499
    assert puppet.all_closed


async def test_a_drain_ends_it_with_an_error_event() -> None:
    puppet = Puppet(parts(3), Answer(events(), head=[asyncio.Event()], framing=local_stream().framing))
    async with house_of(puppet, "a", "local", policy=GO_ON) as house:
        asking = asyncio.create_task(told(house))
        await puppet.called(2)
        house.relay.interrupt("the gateway is shutting down")
        body = await asking
    assert b"shutting down" in body


async def test_one_that_idles_is_gone_on_with() -> None:
    policy = Policy(name="p", mid_stream=MidStream.CONTINUE, idle_s=0.05)
    stream = canned.chat_stream()
    said = said_in(stream[:3])
    puppet = Puppet(
        parts(3, asyncio.Event()), local_stream(*events(canned.chat_stream(WORDS.removeprefix(said))))
    )
    async with house_of(puppet, "a", "local", policy=policy) as house:
        assert text_of(await told(house)) == WORDS
    assert puppet.all_closed
