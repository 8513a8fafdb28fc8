"""What the model says arrives sorted: text, reasoning, tool calls. The tokens are scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.local.pool import LocalPool
from tests.local.asking import closing, stream, text_of, whole
from tests.local.conftest import MARKERS, SETTINGS
from tests.local.puppets import puppet, script

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
NO_END = {"256": -100}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'


@pytest_asyncio.fixture
async def fresh(home: Path) -> AsyncIterator[LocalPool]:
    """A pool of its own, whose generators are made while the puppet holds them."""
    async with closing(LocalPool(SETTINGS, home)) as found:
        yield found


async def both(pool: LocalPool, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    fields = {"temperature": 0, "logit_bias": NO_END, "max_tokens": 500, **fields}
    body = await whole(pool, "thinker", **fields)
    return body["choices"][0], await stream(pool, "thinker", **fields)


def calls_of(chunks: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    deltas = [c["choices"][0]["delta"] for c in chunks]
    return [d["tool_calls"] for d in deltas if "tool_calls" in d]


async def test_a_tool_call_is_parsed_and_streamed_as_one_delta(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet(monkeypatch, script(f"Let me look.\n{CALL}\n", MARKERS))
    choice, chunks = await both(fresh, tools=TOOLS)
    assert choice["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == text_of(chunks) == "Let me look."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Köln"}
    ((streamed,),) = calls_of(chunks)
    assert streamed["index"] == 0
    assert streamed["function"] == call["function"]


async def test_parallel_calls_have_their_own_index_and_no_text_between(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet(monkeypatch, script(f"{CALL}\n{CALL}", MARKERS))
    choice, chunks = await both(fresh, tools=TOOLS)
    assert choice["message"]["content"] is None
    assert len({c["id"] for c in choice["message"]["tool_calls"]}) == 2
    assert [d[0]["index"] for d in calls_of(chunks)] == [0, 1]
    assert text_of(chunks) == ""


async def test_parallel_tool_calls_false_ends_after_the_first(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet(monkeypatch, script(f"{CALL}\n{CALL}", MARKERS))
    choice, chunks = await both(fresh, tools=TOOLS, parallel_tool_calls=False)
    assert len(choice["message"]["tool_calls"]) == len(calls_of(chunks)) == 1
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("broken", ['<tool_call>{"name": </tool_call>', '<tool_call>{"name": "weath'])
async def test_a_call_that_is_broken_or_cut_is_given_as_text(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """mlx_lm.server drops it with a line in its log (mlx.md B.17): the client saw an empty answer."""
    puppet(monkeypatch, script(broken, MARKERS))
    choice, chunks = await both(fresh, tools=TOOLS)
    assert choice["message"]["content"] == text_of(chunks) == broken
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


async def test_without_tools_a_call_is_text(fresh: LocalPool, monkeypatch: pytest.MonkeyPatch) -> None:
    puppet(monkeypatch, script(CALL, MARKERS))
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice, chunks = await both(fresh, **fields)
        assert choice["message"]["content"] == text_of(chunks) == CALL
        assert choice["finish_reason"] == "stop"


async def test_reasoning_is_split_out(fresh: LocalPool, monkeypatch: pytest.MonkeyPatch) -> None:
    puppet(monkeypatch, script("<think>\nHm, 2 < 3.\n</think>\n\nYes: 2 < 3. ", MARKERS))
    choice, chunks = await both(fresh)
    assert choice["message"]["reasoning_content"] == text_of(chunks, "reasoning_content") == "Hm, 2 < 3."
    assert choice["message"]["content"] == text_of(chunks) == "Yes: 2 < 3. "


async def test_stop_strings_cut_the_text_but_not_the_reasoning_or_a_call(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet(monkeypatch, script(f"<think>a }} b</think>text{CALL} more }} tail", MARKERS))
    choice, chunks = await both(fresh, tools=TOOLS, stop="}")
    assert choice["message"]["reasoning_content"] == "a } b"
    assert choice["message"]["content"] == text_of(chunks) == "textmore"
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("text", ["ends in <", "ends in <tool_ca", "ends in </thi", "a\n\n", "  b"])
async def test_what_only_looks_like_a_marker_is_not_lost(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """mlx_lm.server discards what it holds back when an answer ends (mlx.md B.6)."""
    puppet(monkeypatch, script(text, MARKERS))
    choice, chunks = await both(fresh, tools=TOOLS)
    assert choice["message"]["content"] == text_of(chunks) == text.removeprefix(" ")


@pytest.mark.parametrize("text", ["naïve — 日本語 🙂", "cut 🙂"])
async def test_characters_of_several_tokens_arrive_whole(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    tokens = script(text)
    puppet(monkeypatch, tokens)
    choice, chunks = await both(fresh)
    assert choice["message"]["content"] == text_of(chunks) == text
    assert all("\ufffd" not in text_of([c]) for c in chunks)
    short, _ = await both(fresh, max_tokens=len(tokens) - 1)
    assert short["finish_reason"] == "length"
    assert text.startswith(short["message"]["content"])


async def test_arguments_reach_the_template_as_an_object_and_results_come_back(fresh: LocalPool) -> None:
    body = await whole(
        fresh,
        "thinker",
        max_tokens=2,
        tools=TOOLS,
        messages=[
            {
                "role": "developer",
                "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}],
            },
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"x"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
    )
    assert body["usage"]["prompt_tokens"] > 20
