"""Items of a conversation as messages: who said what, in which order, in how many messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.responses import Json, messages, refused, translator


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def function_call(call_id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, said: Any = "ok") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def answer(text: str) -> Json:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def thought(text: str | None, **more: Any) -> Json:
    content = None if text is None else [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content, **more}


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_easy_messages_and_full_ones() -> None:
    assert messages(
        {"role": "user", "content": "a"},
        answer("b"),
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "c"}]},
    ) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


def test_what_stands_in_front_is_one_system_message() -> None:
    made = messages(
        {"role": "developer", "content": "b"},
        {"role": "system", "content": "c"},
        user("d"),
        {"role": "developer", "content": "e"},
        instructions="a",
    )
    assert made == [
        {"role": "system", "content": "a\n\nb\n\nc"},
        {"role": "user", "content": "d"},
        {"role": "system", "content": "e"},
    ]


def test_system_messages_of_parts_stay_apart() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    made = messages({"role": "system", "content": parts}, {"role": "system", "content": "c"}, user("d"))
    assert [said["role"] for said in made] == ["system", "system", "user"]


def test_parallel_calls_are_one_message_and_their_outputs_follow() -> None:
    made = messages(
        user("q"), function_call("a"), function_call("b", "g", '{"x":1}'), output("a", "1"), output("b", "2")
    )
    assert made[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [chat_call("a"), chat_call("b", "g", '{"x":1}')],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]


def test_calls_of_two_turns_are_two_messages() -> None:
    made = messages(function_call("a"), output("a"), function_call("b"), output("b"))
    assert [said["role"] for said in made] == ["assistant", "tool", "assistant", "tool"]


def test_text_in_front_of_a_call_belongs_to_it() -> None:
    made = messages(answer("let me see"), function_call("a"), output("a"), answer("done"))
    assert made == [
        {"role": "assistant", "content": "let me see", "tool_calls": [chat_call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
        {"role": "assistant", "content": "done"},
    ]


def test_nothing_comes_between_calls_and_their_outputs() -> None:
    via = translator(keeps_reasoning=True)
    made = messages(
        thought("one"),
        function_call("a"),
        answer("and"),
        thought("two"),
        function_call("b"),
        answer("also"),
        output("a"),
        output("b"),
        via=via,
    )
    assert made[0] == {
        "role": "assistant",
        "content": "and\n\nalso",
        "reasoning_content": "one\n\ntwo",
        "tool_calls": [chat_call("a"), chat_call("b")],
    }
    assert [said["role"] for said in made[1:]] == ["tool", "tool"]


def test_two_answers_in_a_row_stay_two() -> None:
    assert [said["content"] for said in messages(answer("a"), answer("b"))] == ["a", "b"]


def test_reasoning_goes_to_the_message_that_follows_where_the_target_takes_it() -> None:
    via = translator(keeps_reasoning=True)
    made = messages(user("q"), thought("hm"), answer("a"), thought("so"), answer("b"), user("r"), via=via)
    assert made[1:3] == [
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        {"role": "assistant", "content": "b", "reasoning_content": "so"},
    ]
    assert via.changed == ()


def test_a_summary_stands_for_reasoning_without_text() -> None:
    summary = [{"type": "summary_text", "text": "short"}, {"type": "summary_text", "text": "more"}, 7]
    via = translator(keeps_reasoning=True)
    made = messages(thought(None, summary=summary), answer("a"), via=via)
    assert made[0]["reasoning_content"] == "short\n\nmore"


def test_reasoning_that_a_target_does_not_take_is_noted() -> None:
    via = translator()
    assert messages(thought("hm"), answer("a"), via=via) == [{"role": "assistant", "content": "a"}]
    assert via.changed == ("input[].reasoning",)


def test_encrypted_reasoning_is_dropped_and_noted_once() -> None:
    via = translator(keeps_reasoning=True)
    sealed = thought(None, encrypted_content="gAAA")
    assert messages(user("q"), sealed, answer("a"), sealed, answer("b"), via=via)[1:] == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    assert via.changed == ("input[].encrypted_content",)


def test_a_thought_that_nothing_followed_is_dropped_and_noted() -> None:
    via = translator(keeps_reasoning=True)
    assert messages(user("q"), thought("hm"), user("r"), via=via) == [user("q"), user("r")]
    assert via.changed == ("input[].reasoning",)


def test_empty_reasoning_is_nothing() -> None:
    via = translator()
    assert messages(thought(None), answer("a"), via=via) == [{"role": "assistant", "content": "a"}]
    assert via.changed == ()


def test_a_refusal_is_the_assistants() -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    assert messages(user("q"), said)[1] == {"role": "assistant", "content": None, "refusal": "no"}


def test_a_phase_is_noted() -> None:
    via = translator()
    messages({**answer("a"), "phase": "commentary"}, user("q"), via=via)
    assert via.changed == ("input[].phase",)


def test_a_custom_tools_call_is_that_of_a_function() -> None:
    written = 'print("hi")\n'
    made = messages(
        {"type": "custom_tool_call", "call_id": "a", "name": "run", "input": written},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "hi"},
    )
    called = made[0]["tool_calls"][0]["function"]
    assert called["name"] == "run"
    assert json.loads(called["arguments"]) == {"input": written}
    assert made[1] == {"role": "tool", "tool_call_id": "a", "content": "hi"}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "web_search_call", "id": "ws_1"}, "input[0].type"),
        ({"type": "computer_call_output"}, "input[0].type"),
        ({"type": "compaction", "encrypted_content": "x"}, "input[0].type"),
        ({"type": "of_next_year"}, "input[0].type"),
        ({"type": 5}, "input[0].type"),
        ({"role": "critic", "content": "x"}, "input[0].role"),
        ({"type": "message", "role": None, "content": "x"}, "input[0].role"),
    ],
)
def test_items_that_a_chat_has_no_message_for(item: Json, param: str) -> None:
    assert isinstance(refused(param, input=[item]), UntranslatableError)


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "a", "arguments": "{}"}, "input[0].name"),
        ({"type": "custom_tool_call", "call_id": "a", "name": "f"}, "input[0].input"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "x"}, "input[0].output"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "assistant", "content": None}, "input[0].content"),
    ],
)
def test_items_that_are_not_whole(item: Json, param: str) -> None:
    assert not isinstance(refused(param, input=[item]), UntranslatableError)
