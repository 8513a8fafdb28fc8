"""What the model says arrives sorted: text, reasoning, tool calls. The tokens are scripted."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.local.pool import LocalPool
from tests.local.asking import PLAIN, calls_of, joined, stream, text_of, whole
from tests.local.conftest import MARKERS
from tests.local.puppets import Strings

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'


async def both(pool: LocalPool, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same answer, whole and streamed."""
    fields = {"logit_bias": PLAIN, "max_tokens": 500, **fields}
    body = await whole(pool, "thinker", **fields)
    return body["choices"][0], await stream(pool, "thinker", **fields)


async def test_a_tool_call_is_streamed_while_it_is_written(pool: LocalPool, strings: Strings) -> None:
    strings.say(f"Let me look.\n{CALL}\n", MARKERS)
    choice, chunks = await both(pool, tools=TOOLS)
    assert choice["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == text_of(chunks) == "Let me look."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Köln"}'}
    ((streamed),) = joined(chunks)
    assert streamed["function"] == call["function"]
    first, *rest = calls_of(chunks)
    assert first["function"] == {"name": "weather", "arguments": ""}
    assert len(rest) > 5
    assert all(set(delta) == {"index", "function"} for delta in rest)


async def test_parallel_calls_have_their_own_index_and_no_text_between(
    pool: LocalPool, strings: Strings
) -> None:
    strings.say(f"{CALL}\n{CALL}", MARKERS)
    choice, chunks = await both(pool, tools=TOOLS)
    assert choice["message"]["content"] is None
    assert len({c["id"] for c in choice["message"]["tool_calls"]}) == 2
    assert [call["function"] for call in joined(chunks)] == [
        call["function"] for call in choice["message"]["tool_calls"]
    ]
    assert [delta["index"] for delta in calls_of(chunks) if "id" in delta] == [0, 1]
    assert text_of(chunks) == ""


async def test_parallel_tool_calls_false_ends_after_the_first(pool: LocalPool, strings: Strings) -> None:
    strings.say(f"{CALL}\n{CALL}", MARKERS)
    choice, chunks = await both(pool, tools=TOOLS, parallel_tool_calls=False)
    assert len(choice["message"]["tool_calls"]) == len(joined(chunks)) == 1
    assert choice["finish_reason"] == "tool_calls"


async def test_a_call_that_is_cut_inside_its_arguments_stays_as_far_as_it_came(
    pool: LocalPool, strings: Strings
) -> None:
    strings.say('<tool_call>{"name": "weather", "arguments": {"city": "Kö', MARKERS)
    choice, chunks = await both(pool, tools=TOOLS)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == joined(chunks)[0]["function"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Kö'}


async def test_a_call_in_an_order_that_cannot_be_streamed_comes_at_once(
    pool: LocalPool, strings: Strings
) -> None:
    strings.say('<tool_call>{"arguments": {"city": "x"}, "name": "weather"}</tool_call>', MARKERS)
    choice, chunks = await both(pool, tools=TOOLS)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "x"}'}
    assert [delta["function"] for delta in calls_of(chunks)] == [
        {"name": "weather", "arguments": ""},
        {"arguments": '{"city": "x"}'},
    ]


@pytest.mark.parametrize("broken", ['<tool_call>{"name": </tool_call>', '<tool_call>{"name": "weath'])
async def test_a_call_that_is_broken_or_cut_is_given_as_text(
    pool: LocalPool, strings: Strings, broken: str
) -> None:
    """mlx_lm.server drops it with a line in its log (mlx.md B.17): the client saw an empty answer."""
    strings.say(broken, MARKERS)
    choice, chunks = await both(pool, tools=TOOLS)
    assert choice["message"]["content"] == text_of(chunks) == broken
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


async def test_without_tools_a_call_is_text(pool: LocalPool, strings: Strings) -> None:
    strings.say(CALL, MARKERS)
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice, chunks = await both(pool, **fields)
        assert choice["message"]["content"] == text_of(chunks) == CALL
        assert choice["finish_reason"] == "stop"


async def test_reasoning_is_split_out(pool: LocalPool, strings: Strings) -> None:
    strings.say("<think>\nHm, 2 < 3.\n</think>\n\nYes: 2 < 3. ", MARKERS)
    choice, chunks = await both(pool)
    assert choice["message"]["reasoning_content"] == text_of(chunks, "reasoning_content") == "Hm, 2 < 3."
    assert choice["message"]["content"] == text_of(chunks) == "Yes: 2 < 3. "


async def test_stop_strings_cut_the_text_but_not_the_reasoning_or_a_call(
    pool: LocalPool, strings: Strings
) -> None:
    strings.say(f"<think>a }} b</think>text{CALL} more }} tail", MARKERS)
    choice, chunks = await both(pool, tools=TOOLS, stop="}")
    assert choice["message"]["reasoning_content"] == "a } b"
    assert choice["message"]["content"] == text_of(chunks) == "textmore"
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("text", ["ends in <", "ends in <tool_ca", "ends in </thi", "a\n\n", "  b"])
async def test_what_only_looks_like_a_marker_is_not_lost(
    pool: LocalPool, strings: Strings, text: str
) -> None:
    """mlx_lm.server discards what it holds back when an answer ends (mlx.md B.6)."""
    strings.say(text, MARKERS)
    choice, chunks = await both(pool, tools=TOOLS)
    assert choice["message"]["content"] == text_of(chunks) == text.removeprefix(" ")


@pytest.mark.parametrize("text", ["naïve — 日本語 🙂", "cut 🙂"])
async def test_characters_of_several_tokens_arrive_whole(
    pool: LocalPool, strings: Strings, text: str
) -> None:
    tokens = strings.say(text)
    choice, chunks = await both(pool)
    assert choice["message"]["content"] == text_of(chunks) == text
    assert all("\ufffd" not in text_of([c]) for c in chunks)
    short, _ = await both(pool, max_tokens=tokens - 1)
    assert short["finish_reason"] == "length"
    assert text.startswith(short["message"]["content"])


async def test_arguments_reach_the_template_as_an_object_and_results_come_back(pool: LocalPool) -> None:
    body = await whole(
        pool,
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
