"""A translated attempt: however the target's bytes are cut into packets, the client gets the same bytes."""

from __future__ import annotations

import asyncio
import json as _json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backend import Call
from gateway.failover.command import Content
from gateway.failover.plan import Candidate
from gateway.relay.attempt import Attempt, Opening
from gateway.wire.api import Api
from gateway.wire.dialect import Dialect
from gateway.wire.translate.chain import Chain
from gateway.wire.translate.chat_to_messages import ChatToMessages
from gateway.wire.translate.messages_to_chat import MessagesToChat
from gateway.wire.translate.responses_to_chat import ResponsesToChat
from gateway.wire.translate.translation import Translation
from tests.relay.puppet import Answer, Puppet, local_stream
from tests.relay.test_dialects import BUSY_CLAUDE, BUSY_GPT

SAID = [{"role": "user", "content": "hi"}]
CHAT = {"model": "m", "stream": True, "messages": SAID, "stream_options": {"include_usage": True}}


def from_responses() -> ResponsesToChat:
    return ResponsesToChat(response_id="resp_1", created=7)


# Who translates, what the client asks, in which API, and what the target streams.
PAIRS: dict[str, tuple[Callable[[], Translation], dict[str, object], Api, list[bytes]]] = {
    "chat to messages": (lambda: ChatToMessages(created=7), CHAT, Api.CHAT, BUSY_CLAUDE),
    "messages to chat": (
        lambda: MessagesToChat(local=False),
        {"model": "m", "stream": True, "max_tokens": 9, "messages": SAID},
        Api.MESSAGES,
        BUSY_GPT,
    ),
    "responses to chat": (
        from_responses,
        {"model": "m", "stream": True, "input": "hi"},
        Api.RESPONSES,
        BUSY_GPT,
    ),
    "responses to messages": (
        lambda: Chain(from_responses(), ChatToMessages(created=7)),
        {"model": "m", "stream": True, "input": "hi"},
        Api.RESPONSES,
        BUSY_CLAUDE,
    ),
}


async def told(pair: str, answer: Answer) -> bytes:
    """What the client gets of a target's stream."""
    make, asked, api, _ = PAIRS[pair]
    translation = make()
    translation.request(_json.dumps(asked).encode())
    call = Call(
        request_id="r",
        method="POST",
        path=translation.path,
        query="",
        dialect=Dialect.OPENAI,
        headers=(),
        body=None,
        model="m",
        stream=True,
    )
    opening = Opening(Puppet(answer), call, translation)
    tried = Attempt(1, Candidate(0, "lab", "m"), opening, reply_limit=1 << 20)
    event = await tried.until_content(api, deadline=asyncio.get_running_loop().time() + 5)
    assert isinstance(event, Content), event
    held = b"".join(tried.held)
    made = held + b"".join([part async for part in tried.rest()])
    assert tried.ended
    return made


def pieces(wire: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % len(wire) for cut in cuts} | {len(wire)})
    return [wire[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


@pytest.mark.parametrize("pair", PAIRS)
@given(cuts=st.lists(st.integers(0, 1 << 16), max_size=60))
@settings(max_examples=40)
def test_any_split_of_the_targets_bytes_gives_the_client_the_same(pair: str, cuts: list[int]) -> None:
    wire = b"".join(PAIRS[pair][3])
    expected = asyncio.run(told(pair, Answer([wire])))
    assert expected
    assert asyncio.run(told(pair, Answer(pieces(wire, cuts)))) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", ["messages to chat", "responses to chat"])
async def test_events_of_the_local_pool_are_told_as_those_of_a_cloud(pair: str) -> None:
    wire = PAIRS[pair][3]
    local = [event.removeprefix(b"data: ").removesuffix(b"\n\n") for event in wire]
    assert await told(pair, local_stream(*local)) == await told(pair, Answer([b"".join(wire)]))
