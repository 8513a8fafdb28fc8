"""The demo model through the pool: real text, known beforehand."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.local.engine.demo import facts
from gateway.local.pool import LocalPool
from tests.local.asking import stream, text_of, whole

pytestmark = pytest.mark.asyncio(loop_scope="session")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def counted(to: int) -> str:
    return " ".join(str(n) for n in range(1, to + 1))


async def test_the_demo_says_honestly_what_it_is(pool: LocalPool) -> None:
    body = await whole(pool, "demo", "Who are you?", temperature=0)
    assert "demo model" in body["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_a_request_without_a_temperature_is_greedy(pool: LocalPool) -> None:
    """The first request that anyone makes by hand has none, and what is drawn at 1.0 is nonsense."""
    for _ in range(3):
        body = await whole(pool, "demo", "Tell me a long story.", max_tokens=400, temperature=None)
        assert body["choices"][0]["message"]["content"] == facts.STORY


async def test_counting_streamed_and_whole_and_eight_at_once(pool: LocalPool) -> None:
    alone = text_of(await stream(pool, "demo", "Count to 12", temperature=0))
    assert alone == counted(12)
    bodies = await asyncio.gather(
        *(whole(pool, "demo", f"Count to {n}", temperature=0) for n in range(5, 13))
    )
    assert [b["choices"][0]["message"]["content"] for b in bodies] == [counted(n) for n in range(5, 13)]


async def test_a_stop_string_cuts_real_text_exactly(pool: LocalPool) -> None:
    """stop="4 5" gave `1 2 3  6 7 8` in mlx_lm.server: stop deleted, answer went on (mlx.md B.5)."""
    for stop, expected in (
        ("4 5", "1 2 3 "),
        (" 5", "1 2 3 4"),
        ("0 1", counted(9) + " 1"),
        ("zebra", counted(12)),
    ):
        body = await whole(pool, "demo", "Count to 12", temperature=0, stop=stop)
        assert body["choices"][0]["message"]["content"] == expected
        assert text_of(await stream(pool, "demo", "Count to 12", temperature=0, stop=[stop])) == expected


async def test_the_demo_calls_a_tool(pool: LocalPool) -> None:
    body = await whole(pool, "demo", "What is the weather in Paris?", temperature=0, tools=[WEATHER])
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
