"""A stream that breaks at any of its bytes: before the content the next target answers as if nothing had
been, behind it the client gets one error in its dialect. Never a silent end, never half an event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import anthropic
import openai
import pytest

from gateway.failover.ability import Ability
from gateway.failover.budget import RetryBudget
from gateway.failover.policy import MidStream, Policy
from gateway.wire.dialect import Dialect
from tests import canned
from tests.behaviours import Cut, Framing
from tests.house import House, rule, running, snapshot, upstream
from tests.lab import Lab
from tests.peer import Exchange

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
TEXT = "one two"
OTHER = "quite another answer"
ASKED: dict[str, Any] = {"stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
Path = Literal["/v1/chat/completions", "/v1/messages"]

# How a connection may end in the middle of a body; the first two tell nobody that it was the middle.
CUTS: list[tuple[Framing, Cut]] = [
    ("close", "fin"),
    ("close", "rst"),
    ("chunked", "fin"),
    ("chunked", "rst"),
    ("length", "fin"),
]


class Plenty(RetryBudget):
    """A gateway whose every request fails over is no usual one."""

    def withdraw(self, now: float) -> bool:
        return True


class Torn:
    """A house whose first target breaks; every request has a name of its own, so none is left alone."""

    def __init__(self, house: House, path: Path, first: Lab, second: Lab) -> None:
        self.house, self.path, self.first, self.second = house, path, first, second
        self.spoken = canned.chat_stream if path == CHAT else canned.messages_stream
        self.events = self.spoken(TEXT)
        self.wire = b"".join(self.events)
        self.other = b"".join(self.spoken(OTHER))
        self.content = self.wire.index(b"one") + self.wire[self.wire.index(b"one") :].index(b"\n\n") + 2
        self._count = 0

    def model(self) -> str:
        self._count += 1
        return f"m-{self._count}"

    def breaks(self, at: int, framing: Framing, cut: Cut) -> asyncio.Event | None:
        """The next stream breaks off after so many bytes, but not before the client has its content."""
        gate = asyncio.Event() if at >= self.content else None
        pieces = [self.wire] if gate is None else [self.wire[: self.content], gate, self.wire[self.content :]]
        self.first.script(self.path, self.first.sse(pieces, framing=framing, cut=cut, cut_at=at))
        return gate

    async def asked(self, at: int, framing: Framing, cut: Cut) -> tuple[str, bytes]:
        """Who answered, and with what."""
        gate = self.breaks(at, framing, cut)
        async with self.house.http.post(self.path, json={"model": self.model(), **ASKED}) as reply:
            assert reply.status == 200
            data = b""
            async for part in reply.content.iter_any():
                data += part
                if gate is not None:
                    gate.set()
            return reply.headers["x-gateway-served-by"].partition("/")[0], data


@asynccontextmanager
async def torn(path: Path, mid_stream: MidStream = MidStream.ERROR) -> AsyncIterator[Torn]:
    dialect = Dialect.OPENAI if path == CHAT else Dialect.ANTHROPIC
    async with Lab() as first, Lab() as second, running() as house:
        house.relay._budget = Plenty()
        answer = second.chat(OTHER) if path == CHAT else second.messages(OTHER)
        second.always(path, answer)
        house.snapshot = snapshot(
            rules=[rule("m-*", "a", "b:gpt-lab", policy="p")],
            upstreams=[
                upstream("a", first, dialect=dialect),
                upstream("b", second, dialect=dialect, abilities=(Ability(prefill=True),)),
            ],
            policies=[Policy(name="p", mid_stream=mid_stream)],
        )
        yield Torn(house, path, first, second)


def errors_in(path: Path, data: bytes) -> int:
    """How many error events a client of this dialect sees; anything it could not parse raises."""
    count = 0
    for event in data.split(b"\n\n"):
        lines = event.splitlines()
        told = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
        if not told or told == [b"[DONE]"]:
            continue
        value = json.loads(told[0])
        if path == MESSAGES:
            assert lines[0] == b"event: " + value["type"].encode()
            count += value["type"] == "error"
        else:
            count += "error" in value
    return count


def whole_events(torn: Torn, at: int) -> list[bytes]:
    """What of the wire is whole events when it breaks after so many bytes."""
    size, whole = 0, []
    for event in torn.events:
        size += len(event)
        if size > at:
            break
        whole.append(event)
    return whole


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_every_byte_of_a_stream_is_a_place_to_break(path: Path) -> None:
    async with torn(path) as it, asyncio.timeout(120):
        last = len(it.wire) - len(it.events[-1])
        for at in range(len(it.wire)):
            # Every way at the last event, where it shows whether the end was told; else one after the other.
            for framing, cut in CUTS if at >= last else [CUTS[at % len(CUTS)]]:
                await _break(it, at, framing, cut)


async def _break(it: Torn, at: int, framing: Framing, cut: Cut) -> None:
    by, data = await it.asked(at, framing, cut)
    if at < it.content:
        assert (by, data) == ("b", it.other), at
        return
    assert by == "a", at
    # An event that only lacks its line breaks is there; more than that is never made up.
    if at >= len(it.wire) - 2 and data.endswith(it.events[-1]):
        assert errors_in(it.path, data) == 0, (at, data)
        return
    kept = b"".join(whole_events(it, at))
    assert data.startswith(kept), (at, data)
    assert not data.endswith(it.events[-1]), (at, data)
    assert errors_in(it.path, data[len(kept) :]) == errors_in(it.path, data) == 1, (at, data)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_every_byte_is_a_place_to_go_on_from(path: Path) -> None:
    """However the rest comes: at once, event by event, or in a few bytes each."""
    segments: list[int | None] = [None, 7, 1 << 16]

    async def rest(exchange: Exchange) -> None:
        *_, last = exchange.seen.json["messages"]
        said = last["content"] if isinstance(last["content"], str) else last["content"][-1]["text"]
        assert TEXT.startswith(said)
        events = it.spoken(TEXT.removeprefix(said))
        segment = segments[it.second.hits % 3]
        await Lab.sse([b"".join(events)] if segment is None else events, segment=segment)(exchange)

    async with torn(path, MidStream.CONTINUE) as it, asyncio.timeout(60):
        it.second.always(path, rest)
        # Once the reason for the end is told there is nothing to go on with.
        mark = b'"finish_reason": "stop"' if path == CHAT else b'"stop_reason": "end_turn"'
        for number, at in enumerate(range(it.content, it.wire.index(mark) + len(mark), 5)):
            by, data = await it.asked(at, *CUTS[number % len(CUTS)])
            assert by == "a"
            assert errors_in(path, data) == 0, (at, data)
            assert _text(path, data) == TEXT, (at, data)
            assert data.count(it.events[-1]) == 1, (at, data)
            assert data.endswith(b": continued-by b/gpt-lab\n\n"), (at, data)


def _text(path: Path, data: bytes) -> str:
    values = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    if path == CHAT:
        return "".join(c["delta"].get("content") or "" for v in values for c in v["choices"])
    return "".join(v["delta"].get("text", "") for v in values if v["type"] == "content_block_delta")


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_sdks_raise_wherever_a_stream_breaks(path: Path) -> None:
    """Both SDKs take a silent end for a whole answer; the text so far is intact, and nothing is said twice."""
    async with torn(path) as it, asyncio.timeout(60):
        for number, at in enumerate(range(it.content, len(it.wire) - 2, 41)):
            gate = it.breaks(at, *CUTS[number % len(CUTS)])
            assert gate is not None
            texts: list[str] = []
            with pytest.raises((openai.APIError, anthropic.APIError)):
                async for text in _texts(it, gate):
                    texts += [text]
            assert TEXT.startswith("".join(texts))
            assert texts


async def _texts(it: Torn, gate: asyncio.Event) -> AsyncIterator[str]:
    if it.path == CHAT:
        async with openai.AsyncOpenAI(base_url=f"{it.house.base}/v1", api_key="sk", max_retries=0) as client:
            stream = await client.chat.completions.create(model=it.model(), messages=[], stream=True)
            async for chunk in stream:
                gate.set()
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
        return
    async with (
        anthropic.AsyncAnthropic(base_url=it.house.base, api_key="sk", max_retries=0) as other,
        other.messages.stream(model=it.model(), max_tokens=9, messages=ASKED["messages"]) as told,
    ):
        async for event in told:
            gate.set()
            if event.type == "text":
                yield event.text
