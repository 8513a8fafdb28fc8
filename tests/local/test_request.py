"""What the engine is asked for, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.local.request import Chat, Count, Embed, Generate, Text, Tokens, Tooling

USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("last", "prefill"),
    [
        (USER, False),
        ({"role": "assistant", "content": "y"}, True),
        ({"role": "assistant", "content": "", "tool_calls": []}, True),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, False),
    ],
)
def test_an_answer_that_is_begun_goes_on_unless_it_was_a_call(last: dict[str, Any], prefill: bool) -> None:
    assert Chat(messages=[USER, last]).prefill is prefill


def test_each_answer_takes_a_place() -> None:
    assert Generate(prompts=(Text("a"), Tokens([1])), n=3).rows == 6
    assert Embed(inputs=(Text("a"), Text("b"))).rows == 1
    assert Count(work=Embed(inputs=(Text("a"),))).rows == 0


def test_what_a_choice_of_tools_means() -> None:
    tools = [{"type": "function"}]
    forced = {
        choice: Tooling(tools=tools, choice=choice).forced for choice in ("auto", "none", "required", "named")
    }
    assert forced == {"auto": False, "none": False, "required": True, "named": True}
    assert Tooling(tools=tools).offered == tools
    assert Tooling(tools=tools, choice="none").offered == []
