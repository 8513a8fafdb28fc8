"""Messages become what templates expect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.local.fields import Unsupported
from gateway.local.messages import read_messages
from tests.local.anything import json_values

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}


def test_a_conversation() -> None:
    assert read_messages(
        [
            {
                "role": "developer",
                "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}],
            },
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "annotations": [], "audio": None},
            {"role": "tool", "content": "5", "tool_call_id": "c", "cache_control": {}},
            {
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "no"}],
                "reasoning_content": "hm",
            },
            {"role": "assistant", "refusal": "never", "tool_calls": []},
        ]
    ) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi", "name": "ann"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"a": [1]}}, "id": "c"}
            ],
        },
        {"role": "tool", "content": "5", "tool_call_id": "c"},
        {"role": "assistant", "content": "no", "reasoning_content": "hm"},
        {"role": "assistant", "content": "never"},
    ]


def test_arguments_that_are_no_json_stay_text_and_none_are_an_empty_object() -> None:
    calls = [{"function": {"name": "f", "arguments": "oops"}}, {"function": {"name": "g"}}]
    (message,) = read_messages([{"role": "assistant", "content": "", "tool_calls": calls}])
    assert [c["function"]["arguments"] for c in message["tool_calls"]] == ["oops", {}]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (5, "messages[0]"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": 5, "content": "x"}, "messages[0].role"),
        ({"role": "wizard", "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": [5]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": "x", "name": 5}, "messages[0].name"),
        ({"role": "assistant", "tool_calls": 5}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [5]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls[0].function"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages[0].tool_calls[0].function.name"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": "f"}}]},
            "messages[0].tool_calls[0].id",
        ),
    ],
)
def test_what_is_wrong_names_its_place(message: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_messages([message])
    assert caught.value.param == param
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0]"),
        ({"role": "function", "name": "f", "content": "x"}, "messages[0]"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0]"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "messages[0].audio"),
    ],
)
def test_what_another_target_might_take_is_unsupported(message: Any, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        read_messages([message])
    assert caught.value.param == param


@pytest.mark.parametrize("messages", [[], {}, "hi", 5])
def test_no_messages_are_refused(messages: Any) -> None:
    with pytest.raises(RequestError, match="messages must be a list"):
        read_messages(messages)


keys = st.sampled_from(["role", "content", "tool_calls", "name", "refusal", "x"])
values = json_values | st.sampled_from(["user", "assistant", "tool"])


@given(st.lists(st.dictionaries(keys, values), max_size=3))
def test_no_message_does_anything_but_pass_or_be_refused(messages: list[Any]) -> None:
    try:
        read_messages(messages)
    except RequestError as error:
        assert error.status == 400
