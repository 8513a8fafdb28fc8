"""Targets of another dialect that fail: the client hears of it in its own terms, or from the next target."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from gateway.failover.policy import MidStream
from tests import canned
from tests.canned import chat_chunk, data, named
from tests.lab import Lab
from tests.relay.dialects import (
    CHAT,
    MESSAGES,
    PATHS,
    RESPONSES,
    ends_well,
    error_in,
    events_of,
    front,
    hello,
    text_in,
    text_of,
)

FOREIGN = [(CHAT, "claude"), (MESSAGES, "gpt"), (RESPONSES, "claude")]
STREAM = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]

# What an upstream answers, and the status that the client gets of it.
ERRORS = [
    (Lab.error(400, "that is no way to ask"), 400),
    (Lab.error(401, "who are you?"), 502),
    (Lab.error(429, "slow down", retry_after=7), 429),
    (Lab.error(500, "oh no"), 502),
    (Lab.error(529, "too many", kind="overloaded_error"), 503),
]
KINDS = {400: "invalid_request_error", 429: "rate_limit_error"}


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize(("answer", "status"), ERRORS, ids=["400", "401", "429", "500", "529"])
@pytest.mark.parametrize(("path", "target"), FOREIGN)
async def test_errors_are_told_in_the_clients_dialect(
    path: str, target: str, answer: Any, status: int, stream: bool
) -> None:
    async with front(attempts=1) as f:
        f.lab(target).always(PATHS[target], answer)
        async with f.post(path, hello(path, target, stream=stream)) as reply:
            error = error_in(path, await reply.json())
            expected = 529 if status == 503 and path == MESSAGES else status
            assert reply.status == expected
            assert reply.content_type == "application/json"
            if status == 429:
                assert 1 <= int(reply.headers["retry-after"]) <= 7
            if status == 400:
                assert "that is no way to ask" in error["message"]
                assert reply.headers["x-should-retry"] == "false"
        assert error["type"] == KINDS.get(status, error["type"])
        assert "who are you?" not in error["message"] or status != 401


async def test_the_sdks_raise_what_they_raise_at_their_own_provider() -> None:
    async with front(attempts=1) as f:
        f.claude.always(MESSAGES, f.claude.error(429, retry_after=3))
        f.gpt.always(CHAT, f.gpt.error(429, retry_after=3))
        with pytest.raises(openai.RateLimitError) as chat:
            await f.openai.chat.completions.create(
                model="claude", messages=[{"role": "user", "content": "hi"}]
            )
        with pytest.raises(anthropic.RateLimitError) as message:
            await f.anthropic.messages.create(
                model="gpt", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            )
    assert int(chat.value.response.headers["retry-after"]) <= 3
    assert int(message.value.response.headers["retry-after"]) <= 3


# --- failover between dialects -----------------------------------------------------------------------

OVERLOADED = named(canned.anthropic_error(529, "busy"))
BREAKS: dict[str, dict[str, Any]] = {
    "500": {"gpt": Lab.error(500), "claude": Lab.error(500)},
    "529": {"gpt": Lab.error(529), "claude": Lab.error(529)},
    "reset": {"gpt": Lab.reset(), "claude": Lab.reset()},
    "error first": {
        "gpt": Lab.sse([canned.chat_role(), data(canned.openai_error(500, "oh no"))]),
        "claude": Lab.sse([canned.message_start(), canned.PING, OVERLOADED]),
    },
    "cut before content": {
        "gpt": Lab.sse([canned.chat_role()], cut="rst"),
        "claude": Lab.sse([canned.message_start(), canned.PING], cut="fin"),
    },
    "no end": {"gpt": Lab.sse([canned.chat_role()]), "claude": Lab.sse([canned.message_start()])},
    "a whole reply": {"gpt": Lab.json({"hello": 1}), "claude": Lab.json({"hello": 1})},
}


@pytest.mark.parametrize("breaks", BREAKS)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("first", ["gpt", "claude"])
async def test_another_dialect_takes_over_before_the_first_content(
    first: str, path: str, breaks: str
) -> None:
    second = "claude" if first == "gpt" else "gpt"
    async with front(attempts=3) as f:
        lab = f.lab(first)
        for asked in (CHAT, MESSAGES, RESPONSES):
            lab.always(asked, BREAKS[breaks][first])
        async with f.post(path, hello(path, f"{first}-first", stream=True)) as reply:
            assert reply.status == 200
            assert reply.headers["x-gateway-served-by"].startswith(f"{second}/")
            events = await events_of(reply)
    assert ends_well(path, events)
    assert text_of(path, events) == canned.TEXT
    assert not [event for event in events if event.get("type") == "error" or "error" in event]
    starts = {CHAT: "role", MESSAGES: "message_start", RESPONSES: "response.created"}[path]
    begun = [
        event
        for event in events
        if event.get("type") == starts
        or any("role" in choice["delta"] for choice in event.get("choices", ()))
    ]
    assert len(begun) == 1


async def test_whole_replies_fail_over_between_dialects_too() -> None:
    async with front() as f:
        f.gpt.always(CHAT, f.gpt.error(503))
        f.claude.always(MESSAGES, f.claude.messages("from the other side"))
        async with f.post(CHAT, hello(CHAT, "gpt-first")) as reply:
            assert text_in(CHAT, await reply.json()) == "from the other side"
            assert reply.headers["x-gateway-changed"] == "max_tokens"


# --- after the first content -------------------------------------------------------------------------

CUTS = {
    "reset": {"gpt": Lab.sse(canned.chat_stream()[:3], cut="rst")},
    "no end": {"gpt": Lab.sse(canned.chat_stream()[:3])},
    "error": {"gpt": Lab.sse([*canned.chat_stream()[:3], data(canned.openai_error(500, "oh no"))])},
}
CUTS["reset"]["claude"] = Lab.sse(canned.messages_stream()[:5], cut="rst")
CUTS["no end"]["claude"] = Lab.sse(canned.messages_stream()[:5])
CUTS["error"]["claude"] = Lab.sse([*canned.messages_stream()[:5], OVERLOADED])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("path", "target"), FOREIGN)
async def test_a_break_after_content_is_one_error_event_of_the_clients_dialect(
    path: str, target: str, cut: str
) -> None:
    async with front() as f:
        f.lab(target).always(PATHS[target], CUTS[cut][target])
        async with f.post(path, hello(path, target, stream=True)) as reply:
            assert reply.status == 200
            raw = (await reply.read()).decode()
            events = await events_of(reply)
    assert canned.TEXT.startswith(text_of(path, events)) and text_of(path, events)
    *before, last = events
    assert not [event for event in before if event.get("type") == "error" or event.get("error")]
    assert not ends_well(path, events)
    assert "[DONE]" not in raw
    match path:
        case "/v1/messages":
            error_in(path, last)
            assert raw.rpartition("event: ")[2].startswith("error\n")
        case "/v1/chat/completions":
            error_in(path, last)
        case _:
            assert raw.rpartition("event: ")[2].startswith("error\n")
            assert (last["type"], last["message"]) == ("error", error_in(path, last)["message"])
            assert last["sequence_number"] == before[-1]["sequence_number"] + 1


async def test_the_sdks_raise_for_a_translated_stream_that_breaks() -> None:
    async with front() as f:
        f.gpt.always(CHAT, CUTS["reset"]["gpt"])
        f.claude.always(MESSAGES, CUTS["reset"]["claude"])
        with pytest.raises(anthropic.APIError):
            async with f.anthropic.messages.stream(
                model="gpt", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            ) as message:
                await message.until_done()
        with pytest.raises(openai.APIError):
            async for _ in await f.openai.chat.completions.create(
                model="claude", messages=[{"role": "user", "content": "hi"}], stream=True
            ):
                pass
        with pytest.raises(openai.APIError):
            async for _ in await f.openai.responses.create(model="claude", input="hi", stream=True):
                pass


@pytest.mark.parametrize("split", [1, 7, 64])
@pytest.mark.parametrize(("path", "target"), FOREIGN)
async def test_it_does_not_matter_where_a_stream_is_cut_into_packets(
    path: str, target: str, split: int
) -> None:
    made = canned.chat_stream(usage=True) if target == "gpt" else canned.messages_stream()
    async with front() as f:
        lab = f.lab(target)
        lab.script(PATHS[target], lab.sse([b"".join(made)], segment=split))
        async with f.post(path, hello(path, target, stream=True)) as reply:
            events = await events_of(reply)
    assert text_of(path, events) == canned.TEXT
    assert ends_well(path, events)


# --- going on ----------------------------------------------------------------------------------------


async def test_a_break_is_gone_on_with_by_nobody_who_was_not_said_to_be_able_to() -> None:
    """A cloud takes no beginning of an answer unless its upstream says so: the client is told."""
    async with front(mid_stream=MidStream.CONTINUE) as f:
        f.gpt.always(CHAT, CUTS["reset"]["gpt"])
        async with f.post(MESSAGES, hello(MESSAGES, "gpt-first", stream=True)) as reply:
            events = await events_of(reply)
        assert f.claude.hits == 0
    assert error_in(MESSAGES, events[-1])


async def test_odd_chunks_of_a_chat_do_no_harm_to_a_message() -> None:
    wire = [
        canned.data({"id": "x", "choices": []}),
        canned.chat_role(),
        b": a comment\n\n",
        canned.data({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": None}]}),
        chat_chunk({"content": None}),
        chat_chunk({"content": "Fine."}),
        chat_chunk({}, finish="stop"),
        canned.DONE,
    ]
    async with front() as f:
        f.gpt.script(CHAT, f.gpt.sse(wire))
        async with f.anthropic.messages.stream(
            model="gpt", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            assert await stream.get_final_text() == "Fine."
