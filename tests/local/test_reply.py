"""What the engine says becomes the items of a reply, one after the other or all at once."""

from __future__ import annotations

import array
import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from gateway.backend import AttemptFailed, Framing
from gateway.failover.outcome import Failure, Outcome
from gateway.local.mailbox import (
    Accepted,
    Began,
    CallBegan,
    CallDelta,
    Delta,
    Ended,
    Finished,
    Likely,
    ModelFolder,
    Refused,
    TicketEvent,
    TokenProb,
    Vectors,
)
from gateway.local.output import ChatAnswer, TextAnswer
from gateway.local.reply import Embedding, LocalReply, Reader, Stream, Whole
from gateway.local.worker import Ticket

MODEL = ModelFolder(name="m", path="/m", size_bytes=1, fingerprint="f")
FAILURE = Failure(outcome=Outcome.LOCAL_FAULT, message="broken")
DONE = Finished(id=1, prompt_tokens=5, completion_tokens=3)
VALUES: dict[str, Any] = {"answer_id": "x", "created": 1, "model": "m", "system_fingerprint": "f"}
A, B, C = (TokenProb(Likely(text, text.encode(), -1.0)) for text in "abc")


def ticket(*events: TicketEvent) -> Ticket:
    found = Ticket(1, MODEL, 1)
    for event in events:
        found.put(event)
    return found


async def items(reader: Reader, *events: TicketEvent) -> list[Any]:
    """All items, as JSON where they are."""
    found = [item async for item in reader.items(ticket(*events))]
    return [json.loads(item) if item != b"[DONE]" else "DONE" for item in found]


def chat(
    *, choices: int = 1, probs: bool = False, include_usage: bool = False, stream: bool = True
) -> Reader:
    answer = ChatAnswer(stream=stream, include_usage=include_usage, probs=probs, **VALUES)
    if stream:
        return Stream(answer, choices=choices, include_usage=include_usage)
    return Whole(answer, choices=choices)


def text(*, choices: int = 1, probs: bool = False, stream: bool = True) -> Reader:
    answer = TextAnswer(stream=stream, include_usage=False, probs=probs, **VALUES)
    return Stream(answer, choices=choices, include_usage=False) if stream else Whole(answer, choices=choices)


async def test_a_stream_is_opened_told_and_closed() -> None:
    found = await items(
        chat(include_usage=True),
        Accepted(1, 5),
        Began(1),
        Delta(1, "r", reasoning=True),
        Delta(1, "a"),
        Ended(1, "stop"),
        DONE,
    )
    assert found.pop() == "DONE"
    assert found.pop()["usage"]["total_tokens"] == 8
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert deltas == [{"role": "assistant", "content": ""}, {"reasoning_content": "r"}, {"content": "a"}, {}]
    without = await items(chat(), Ended(1, "stop"), DONE)
    assert "usage" not in without[-2]


async def test_the_trail_is_never_behind_the_chunks_and_outlives_them() -> None:
    found = ticket(Accepted(1, 5))
    found.trail = [7]  # what it was resumed with
    reply = LocalReply(found, chat(), cancel=lambda _: None)
    for text, *tokens in (("r", 8), ("a", 9, 10), ("b", 11)):
        found.put(Delta(1, text, text == "r", tokens=tuple(tokens)))
    found.put(Refused(1, FAILURE))
    assert reply.trail == (7, 8, 9, 10, 11)
    with pytest.raises(AttemptFailed):
        _ = [chunk async for chunk in reply.chunks()]
    assert reply.trail == (7, 8, 9, 10, 11)
    assert LocalReply(ticket(Delta(1, "a")), chat(), cancel=lambda _: None).trail is None


async def test_pieces_that_are_joined_keep_their_tokens() -> None:
    found = ticket(
        Delta(1, "b", tokens=(2, 3)), Delta(1, "c"), Delta(1, "d", tokens=(4,)), Delta(1, "e", True)
    )
    joined = found.more(Delta(1, "a", tokens=(1,)))
    assert (joined.text, joined.tokens) == ("abcd", (1, 2, 3, 4))


async def test_what_has_come_meanwhile_is_told_in_one_chunk() -> None:
    found = await items(
        chat(choices=2, probs=True),
        Delta(1, "a", probs=(A,)),
        Delta(1, "b", probs=(B,)),
        Delta(1, "c", choice=1, probs=(C,)),
        Delta(1, "d", choice=1, reasoning=True),
        Delta(1, "e", choice=1),
        DONE,
    )
    told = [chunk["choices"][0] for chunk in found[2:-1]]
    assert [(c["index"], *c["delta"].values()) for c in told] == [(0, "ab"), (1, "c"), (1, "d"), (1, "e")]
    assert [prob["token"] for prob in told[0]["logprobs"]["content"]] == ["a", "b"]


async def test_a_call_is_streamed_in_pieces() -> None:
    found = await items(
        chat(),
        CallBegan(1, 0, "c", "f"),
        CallDelta(1, 0, '{"a'),
        CallDelta(1, 0, '":1}'),
        Ended(1, "tool_calls"),
        DONE,
    )
    calls = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in found[1:4]]
    assert [call[0]["function"] for call in calls] == [
        {"name": "f", "arguments": ""},
        {"arguments": '{"a'},
        {"arguments": '":1}'},
    ]
    assert found[4]["choices"][0]["finish_reason"] == "tool_calls"


EVENTS: tuple[TicketEvent, ...] = (
    Delta(1, "a", probs=(A,)),
    Delta(1, "c", choice=1, probs=(C,)),
    Delta(1, "b", probs=(B,)),
    Ended(1, "length", 1),
    Ended(1, "stop"),
    DONE,
)


async def test_choices_that_come_in_any_order_are_whole_in_theirs() -> None:
    (found,) = await items(chat(choices=2, probs=True, stream=False), *EVENTS)
    said = [(c["index"], c["message"]["content"], c["finish_reason"]) for c in found["choices"]]
    assert said == [(0, "ab", "stop"), (1, "c", "length")]
    assert [p["token"] for p in found["choices"][0]["logprobs"]["content"]] == ["a", "b"]
    (plain,) = await items(text(choices=2, probs=True, stream=False), *EVENTS)
    assert [(c["index"], c["text"]) for c in plain["choices"]] == [(0, "ab"), (1, "c")]
    assert plain["choices"][0]["logprobs"]["text_offset"] == [0, 1]


async def test_a_call_is_whole_at_its_end() -> None:
    (found,) = await items(
        chat(stream=False), CallBegan(1, 0, "c", "f"), CallDelta(1, 0, '{"a'), CallDelta(1, 0, '":1}'), DONE
    )
    (call,) = found["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


async def test_a_completion_is_streamed_without_an_opening() -> None:
    found = await items(text(choices=2, probs=True), *EVENTS)
    told = [chunk["choices"][0] for chunk in found[:-1]]
    assert [(c["index"], c["text"], c["finish_reason"]) for c in told] == [
        (0, "a", None),
        (1, "c", None),
        (0, "b", None),
        (1, "", "length"),
        (0, "", "stop"),
    ]
    assert [c["logprobs"]["text_offset"] for c in told[:3]] == [[0], [0], [1]]


async def test_vectors_as_they_are_asked_for() -> None:
    data = (array.array("f", [0.5, 1.0]).tobytes(), array.array("f", [2.0, 3.0]).tobytes())
    events = (Began(1), Vectors(1, data), DONE)
    (found,) = await items(Embedding("m", packed=False), *events)
    assert [item["embedding"] for item in found["data"]] == [[0.5, 1.0], [2.0, 3.0]]
    assert found["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    (packed,) = await items(Embedding("m", packed=True), *events)
    assert struct.unpack("<2f", base64.b64decode(packed["data"][1]["embedding"])) == (2.0, 3.0)


@pytest.mark.parametrize("reader", [chat(), chat(stream=False), text(), Embedding("m", packed=False)])
async def test_what_the_engine_refuses_breaks_any_reply(reader: Reader) -> None:
    with pytest.raises(AttemptFailed) as caught:
        await items(reader, Began(1), Refused(1, FAILURE))
    assert caught.value.failure is FAILURE


async def test_a_reply_waits_for_what_has_not_come_and_can_be_given_up() -> None:
    given_up: list[Ticket] = []
    asked = ticket()
    reply = LocalReply(asked, chat(), cancel=given_up.append)
    assert (reply.status, reply.framing, reply.headers) == (
        200,
        Framing.EVENTS,
        (("content-type", "text/event-stream"),),
    )
    whole = LocalReply(asked, chat(stream=False), cancel=given_up.append)
    assert (whole.framing, whole.headers) == (Framing.WHOLE, (("content-type", "application/json"),))
    chunks = reply.chunks()
    await anext(chunks)
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    assert not waiting.done()
    asked.put(Delta(1, "late"))
    assert b"late" in await waiting
    await reply.aclose()
    assert given_up == [asked]
