"""A chat request for Anthropic: everything that maps is mapped, the rest is refused by name or listed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.wire.translate.chat_to_messages import ChatToMessages
from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.sdk import request

OLD, NEW, NEWEST = "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-4-8"
EFFORT = ("reasoning_effort",)
PNG = base64.b64encode(b"\x89PNG....").decode()
PDF = base64.b64encode(b"%PDF-1.7 ...").decode()
HI = {"role": "user", "content": "hi"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def send(*messages: Any, model: str = OLD, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    translation = ChatToMessages(created=1)
    asked = {"model": model, "max_tokens": 100, "messages": list(messages) or [HI], **fields}
    return request(translation, asked), translation.changed


def refused(*messages: Any, **fields: Any) -> str | None:
    with pytest.raises(UntranslatableError) as raised:
        send(*messages, **fields)
    assert raised.value.status == 400
    assert raised.value.param is not None
    assert raised.value.param.split(".")[0] in str(raised.value)
    return raised.value.param


def call(name: str, call_id: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_plain_chat_is_a_plain_message():
    made, changed = send({"role": "system", "content": "be brief"}, HI)
    assert made == {
        "model": OLD,
        "max_tokens": 100,
        "system": "be brief",
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert changed == ()


def test_text_parts_stay_parts_and_no_character_is_invented():
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": ", world"}]
    made, changed = send({"role": "user", "content": parts})
    assert made["messages"] == [{"role": "user", "content": parts}]
    assert changed == ()


def test_all_system_messages_at_the_front_are_the_system_prompt():
    made, changed = send(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        HI,
    )
    assert made["system"] == [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert changed == ()


def test_a_later_system_message_stays_where_the_model_takes_it():
    talk = [{"role": "system", "content": "one"}, HI, {"role": "system", "content": "two"}]
    made, changed = send(*talk, model=NEWEST)
    assert made["system"] == "one"
    assert made["messages"] == [HI, {"role": "system", "content": "two"}]
    assert changed == ()


@pytest.mark.parametrize("model", [OLD, NEWEST])
def test_a_system_message_before_the_users_joins_the_prompt(model: str):
    answer = {"role": "assistant", "content": "hello"}
    made, changed = send(HI, answer, {"role": "system", "content": "two"}, HI, model=model)
    assert made["system"] == "two"
    assert [message["role"] for message in made["messages"]] == ["user", "assistant", "user"]
    assert changed == ("messages.role",)


def test_pictures_and_files():
    made, changed = send(
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
                {"type": "image_url", "image_url": {"url": "https://lab/a.jpg"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                },
                {"type": "file", "file": {"file_data": PDF}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aGkh"}},
                {"type": "text", "text": "what is this?"},
            ],
        }
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    assert made["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://lab/a.jpg"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": pdf},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi!"}},
        {"type": "text", "text": "what is this?"},
    ]
    assert changed == ("detail",)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image_url.url"),
        ({"type": "image_url", "image_url": "https://lab/a.jpg"}, "image_url"),
        ({"type": "image_url"}, "image_url"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,####"}}, "file.file_data"),
        ({"type": "file", "file": {"file_data": "data:audio/wav;base64,AAAA"}}, "file.file_data"),
        ({"type": "file"}, "file"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "type"),
        ({"type": "text"}, "text"),
        ({"text": "x"}, "type"),
    ],
)
def test_parts_that_can_not_be_said(part: Any, param: str):
    assert refused({"role": "user", "content": [part]}) == f"messages[0].content[0].{param}"


def test_parallel_calls_are_one_message_and_their_results_another():
    made, changed = send(
        HI,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("weather", "a", '{"city": "Bern"}'), call("time", "b", "")],
        },
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "12:00"}]},
        {"role": "user", "content": "and?"},
        tools=[WEATHER, TIME],
    )
    assert made["messages"] == [
        HI,
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "b", "name": "time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "12:00"}]},
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    assert made["tools"] == [
        {
            "name": "weather",
            "description": "of a city",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
            "strict": True,
        },
        {"name": "time", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert changed == ()


def test_what_a_model_wrote_wrongly_is_wrapped_and_strange_ids_fit():
    made, changed = send(
        HI,
        {"role": "assistant", "content": "", "tool_calls": [call("time", "functions.time:0", '{"a":')]},
        {"role": "tool", "tool_call_id": "functions.time:0", "content": "?"},
    )
    use, result = made["messages"][1]["content"][0], made["messages"][2]["content"][0]
    assert use["input"] == {"INVALID_JSON": '{"a":'}
    assert use["id"] == result["tool_use_id"] == "functions_2etime_3a0"
    assert changed == ("tool_call_id", "arguments")


def test_an_empty_answer_is_left_out_and_said():
    made, changed = send(HI, {"role": "assistant", "content": None}, {"role": "user", "content": "there?"})
    assert made["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there?"}]}
    ]
    assert changed == ("messages",)


def test_thinking_goes_back_to_its_issuer_with_its_signature():
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "eHg="}
    made, changed = send(
        HI,
        {
            "role": "assistant",
            "content": "yes",
            "reasoning_content": "hm",
            "thinking_blocks": [{**thought, "index": 0}, hidden],
        },
        HI,
    )
    assert made["messages"][1]["content"] == [thought, hidden, {"type": "text", "text": "yes"}]
    assert changed == ()


def test_thinking_without_a_signature_is_left_out_and_said():
    answer = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    made, changed = send(HI, answer, HI)
    assert made["messages"][1] == {"role": "assistant", "content": "yes"}
    assert changed == ("reasoning_content",)
    unsigned = [{"type": "thinking", "thinking": "hm", "signature": ""}]
    made, changed = send(HI, {**answer, "thinking_blocks": unsigned}, HI)
    assert made["messages"][1] == {"role": "assistant", "content": "yes"}
    assert changed == ("thinking_blocks", "reasoning_content")


def test_white_space_alone_is_no_text():
    blank = {"type": "text", "text": "\n "}
    made, changed = send(
        {"role": "system", "content": ""},
        {"role": "user", "content": [blank, {"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "\n", "tool_calls": [call("time", "a", "{}")]},
    )
    assert "system" not in made
    assert made["messages"][0]["content"] == [{"type": "text", "text": "hi"}]
    assert [block["type"] for block in made["messages"][1]["content"]] == ["tool_use"]
    assert changed == ("content",)


def test_a_refusal_was_said():
    made, changed = send(HI, {"role": "assistant", "content": None, "refusal": "no", "annotations": []}, HI)
    assert made["messages"][1]["content"] == [{"type": "text", "text": "no"}]
    assert changed == ("refusal",)


@pytest.mark.parametrize(
    ("choice", "parallel", "made_of_it"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", True, {"type": "any"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"type": "function", "function": {"name": "time"}},
            False,
            {"type": "tool", "name": "time", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice(choice: Any, parallel: bool | None, made_of_it: Any):
    made, changed = send(tools=[WEATHER, TIME], tool_choice=choice, parallel_tool_calls=parallel)
    assert made.get("tool_choice") == made_of_it
    assert changed == ()


def test_allowed_tools_are_all_that_is_sent():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    made, _ = send(tools=[WEATHER, TIME], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool["name"] for tool in made["tools"]] == ["time"]
    assert made["tool_choice"] == {"type": "any"}


def test_zero_is_a_value():
    made, changed = send(temperature=0, top_k=0)
    assert (made["temperature"], made["top_k"]) == (0, 0)
    assert changed == ()
    made, _ = send(top_p=0)
    assert made["top_p"] == 0


def test_sampling_beyond_what_anthropic_takes():
    made, changed = send(temperature=1.7, model="claude-3-7-sonnet-20250219", top_p=0.5)
    assert (made["temperature"], made["top_p"]) == (1, 0.5)
    assert changed == ("temperature",)
    made, changed = send(temperature=0.3, top_p=0.5)  # from 4.1 on one of them only
    assert "top_p" not in made
    assert changed == ("top_p",)
    made, changed = send(temperature=0.3, top_p=0.5, top_k=3, model=NEWEST)
    assert not {"temperature", "top_p", "top_k"} & set(made)
    assert changed == ("temperature", "top_p", "top_k")
    assert send(temperature=1, top_p=1, model=NEWEST)[1] == ()


@pytest.mark.parametrize(
    ("model", "effort", "limit", "expected", "changed"),
    [
        (OLD, "high", 64000, {"thinking": {"type": "enabled", "budget_tokens": 16384}}, ()),
        (OLD, "high", 8192, {"thinking": {"type": "enabled", "budget_tokens": 4096}}, EFFORT),
        (OLD, "low", 2000, {}, EFFORT),
        (OLD, "none", 2000, {}, ()),
        (NEW, "none", 2000, {"thinking": {"type": "disabled"}}, ()),
        (NEW, "max", 2000, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, ()),
        (NEW, "xhigh", 2000, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, EFFORT),
        (NEWEST, "xhigh", 2000, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, ()),
        (
            NEWEST,
            "minimal",
            2000,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            EFFORT,
        ),
        (NEWEST, "none", 2000, {"output_config": {"effort": "low"}}, EFFORT),
        ("kimi-k2", "medium", 32000, {"thinking": {"type": "enabled", "budget_tokens": 8192}}, ()),
    ],
)
def test_effort(model: str, effort: str, limit: int, expected: dict[str, Any], changed: tuple[str, ...]):
    made, listed = send(model=model, reasoning_effort=effort, max_tokens=limit)
    assert {key: made[key] for key in ("thinking", "output_config") if key in made} == expected
    assert listed == changed


def test_thinking_leaves_sampling_alone():
    made, changed = send(reasoning_effort="low", max_tokens=8000, temperature=0.2, top_p=0.5, top_k=4)
    assert not {"temperature", "top_p", "top_k"} & set(made)
    assert changed == ("temperature", "top_p", "top_k")
    made, changed = send(reasoning_effort="low", max_tokens=8000, temperature=1, top_p=0.95)
    assert (made["top_p"], changed) == (0.95, ())


def test_a_forced_call_leaves_no_thinking():
    for model, left in ((OLD, None), (NEW, {"effort": "low"})):
        made, changed = send(
            model=model, reasoning_effort="low", max_tokens=8000, tools=[TIME], tool_choice="required"
        )
        assert "thinking" not in made
        assert made.get("output_config") == left
        assert changed == ("reasoning_effort",)


def test_a_budget_is_not_sent_when_the_calls_came_without_their_thinking():
    talk = [
        HI,
        {"role": "assistant", "tool_calls": [call("time", "a", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "12"},
    ]
    made, changed = send(*talk, reasoning_effort="low", max_tokens=8000)
    assert "thinking" not in made
    assert changed == ("reasoning_effort",)
    talk[1]["thinking_blocks"] = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]
    made, changed = send(*talk, reasoning_effort="low", max_tokens=8000)
    assert made["thinking"]["budget_tokens"] == 2048
    assert changed == ()


def test_without_a_limit_one_is_set_and_said():
    made, changed = send(max_tokens=None)
    assert (made["max_tokens"], changed) == (16384, ("max_tokens",))
    made, _ = send(max_tokens=None, reasoning_effort="high")
    assert made["max_tokens"] == 16384 + 16384
    made, changed = send(max_tokens=50, max_completion_tokens=40)
    assert (made["max_tokens"], changed) == (40, ())


@pytest.mark.parametrize(
    ("stop", "stops"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([], None), (None, None)]
)
def test_stop(stop: Any, stops: Any):
    made, changed = send(stop=stop)
    assert made.get("stop_sequences") == stops
    assert changed == ()


def test_a_schema_is_kept_and_any_object_is_refused():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    made, changed = send(response_format=wanted, model=NEW, reasoning_effort="low")
    assert made["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert changed == ()
    assert send(response_format={"type": "text"})[1] == ()
    assert refused(response_format={"type": "json_object"}) == "response_format"


def test_user_tier_and_stream():
    made, changed = send(
        user="u1", service_tier="default", stream=True, stream_options={"include_usage": True}
    )
    assert made["metadata"] == {"user_id": "u1"}
    assert (made["service_tier"], made["stream"]) == ("standard_only", True)
    assert changed == ()
    made, changed = send(safety_identifier="u2" * 200, service_tier="flex")
    assert len(made["metadata"]["user_id"]) == 64
    assert changed == ("safety_identifier", "service_tier")
    made, changed = send(user="u1", safety_identifier="u2")
    assert made["metadata"] == {"user_id": "u1"}
    assert changed == ("safety_identifier",)


def test_marks_of_the_cache_pass():
    mark = {"type": "ephemeral"}
    made, changed = send(
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": mark}]},
        tools=[{**TIME, "cache_control": mark}],
    )
    assert made["messages"][0]["content"][0]["cache_control"] == mark
    assert made["tools"][0]["cache_control"] == mark
    assert changed == ()


def test_what_is_dropped_is_said():
    made, changed = send(
        {**HI, "name": "ann"},
        seed=1,
        logit_bias={"1": 2},
        presence_penalty=0.5,
        frequency_penalty=0,
        metadata={"a": "b"},
        store=True,
        **{"a b\r\nx-evil: 1": 1, "top_a": 0.5},
    )
    assert set(made) == {"model", "max_tokens", "messages"}
    assert changed == (
        "name",
        "seed",
        "logit_bias",
        "presence_penalty",
        "metadata",
        "store",
        "unknown",
        "top_a",
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"functions": []}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"stop": [" \n"]}, "stop"),
        ({"stop": 7}, "stop"),
        ({"temperature": "0"}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"user": 5}, "user"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "function_call": {}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}]},
            "messages[0].tool_calls[0].type",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [TIME], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": {"type": "custom"}}, "tool_choice.type"),
        ({"tools": [TIME], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_what_can_not_be_said_is_refused_by_its_name(fields: dict[str, Any], param: str):
    assert refused(**fields) == param


def test_a_body_that_is_no_object_is_refused():
    with pytest.raises(UntranslatableError):
        ChatToMessages(created=1).request(json.dumps([1]).encode())


def test_long_lists_of_dropped_fields_end():
    _, changed = send(**{f"x{number}": 1 for number in range(100)})
    assert len(changed) == 32
