"""The fields of a responses request, each in the chat's words, noted or refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.responses import asked, messages, refused, translator


def changed(**fields: Any) -> tuple[str, ...]:
    via = translator()
    asked(via=via, **fields)
    return via.changed


def test_plain_text() -> None:
    via = translator()
    assert asked(via=via) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert via.changed == ()


def test_zero_is_a_value_and_null_is_none() -> None:
    made = asked(temperature=0, top_p=0, max_output_tokens=None, tools=None, text=None, reasoning=None)
    assert made["temperature"] == made["top_p"] == 0
    assert made.keys() == {"model", "messages", "temperature", "top_p"}


def test_options_go_under_the_names_of_a_chat() -> None:
    made = asked(
        max_output_tokens=77,
        reasoning={"effort": "low"},
        text={"verbosity": "medium"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
    )
    del made["model"], made["messages"]
    assert made == {
        "max_completion_tokens": 77,
        "reasoning_effort": "low",
        "verbosity": "medium",
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }


def test_what_the_gateway_answers_for_stays_here() -> None:
    via = translator()
    made = asked(
        via=via,
        metadata={"a": "b"},
        store=False,
        truncation="disabled",
        service_tier="auto",
        background=False,
    )
    assert made.keys() == {"model", "messages"}
    assert via.changed == ()


def test_a_stream_tells_its_usage() -> None:
    made = asked(stream=True)
    assert made["stream"] is True
    assert made["stream_options"] == {"include_usage": True}
    assert "stream_options" not in asked(stream=False)


def test_fields_that_nobody_knows_are_for_the_target_to_judge() -> None:
    assert asked(top_k=3, stop=["x"])["top_k"] == 3
    assert asked(top_k=3, stop=["x"])["stop"] == ["x"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"truncation": "auto"}, "truncation"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"of next\nyear": 1}}, "reasoning"),
        ({"text": {"of next\nyear": 1}}, "text"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_is_dropped_is_noted(fields: dict[str, Any], name: str) -> None:
    assert changed(**fields) == (name,)
    assert name not in asked(**fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"previous_response_id": "resp_0"}, "previous_response_id"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"n": 2}, "n"),
        ({"messages": []}, "messages"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"id": "msg_1"}]}, "input[0].id"),
    ],
)
def test_what_a_chat_can_not_say_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert isinstance(refused(param, **fields), UntranslatableError)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"instructions": ["x"]}, "instructions"),
        ({"metadata": "x"}, "metadata"),
        ({"text": {"format": True}}, "text.format"),
        ({"reasoning": None, "include": {}}, "include"),
    ],
)
def test_what_is_wrong_for_any_target_is_no_inability(fields: dict[str, Any], param: str) -> None:
    assert not isinstance(refused(param, **fields), UntranslatableError)


def test_a_body_that_is_no_json() -> None:
    with pytest.raises(RequestError, match="not valid JSON"):
        translator().request(b'{"model":')
    with pytest.raises(RequestError, match="must be an object, not a list"):
        translator().request(b"[]")


def test_formats_of_the_text() -> None:
    schema = {"type": "object"}
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True, "description": None}
    assert asked(text={"format": form})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": schema, "strict": True},
    }
    assert asked(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in asked(text={"format": {"type": "text"}})


def test_logprobs_are_asked_for_in_two_ways() -> None:
    include = ["message.output_text.logprobs"]
    assert asked(include=include)["logprobs"] is True
    assert "top_logprobs" not in asked(include=include)
    assert asked(top_logprobs=2)["top_logprobs"] == 2
    assert asked(top_logprobs=2)["logprobs"] is True
    assert asked(include=include, top_logprobs=0)["top_logprobs"] == 0
    assert "logprobs" not in asked(top_logprobs=0)


def test_the_history_stands_between_instructions_and_input() -> None:
    history = [
        {"type": "message", "role": "user", "content": "old"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "answer"}]},
    ]
    via = translator(history=history)
    made = asked(via=via, instructions="be brief", previous_response_id="resp_0")
    assert [(said["role"], said["content"]) for said in made["messages"]] == [
        ("system", "be brief"),
        ("user", "old"),
        ("assistant", "answer"),
        ("user", "hi"),
    ]
    assert "previous_response_id" not in made
    assert [item["content"] for item in via.input_items] == [[{"type": "input_text", "text": "hi"}]]


def test_an_item_of_the_history_is_refused_by_the_field_that_names_it() -> None:
    via = translator(history=[{"type": "computer_call"}])
    with pytest.raises(UntranslatableError) as caught:
        asked(via=via, previous_response_id="resp_0")
    assert caught.value.param == "previous_response_id[0].type"


def test_a_reference_becomes_the_item() -> None:
    kept = {"type": "message", "id": "msg_1", "role": "user", "content": "kept"}
    for reference in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
        via = translator(referenced={"msg_1": kept})
        assert messages(reference, via=via) == [{"role": "user", "content": "kept"}]
        assert via.input_items[0]["id"] == "msg_1"


def test_items_of_the_input_are_kept_with_ids_and_parts() -> None:
    via = translator()
    messages(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": None},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
        {"type": "reasoning", "id": "rs_9", "summary": []},
        via=via,
    )
    items = via.input_items
    assert [item["type"] for item in items] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
    ]
    assert len({item["id"] for item in items}) == len(items)
    assert items[4]["id"] == "rs_9"
    assert items[0]["content"] == [{"type": "input_text", "text": "a"}]
    assert items[1]["content"] == [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}]
