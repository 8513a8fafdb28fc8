"""Every field is honoured or refused by name, with the words that help."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.local.chat import read_chat
from gateway.local.fields import Unsupported
from gateway.local.options import Asked
from gateway.local.request import Chat, Format, Generate, Sampling, Tooling
from tests.local.anything import json_values

USER = [{"role": "user", "content": "x"}]
OPEN = [*USER, {"role": "assistant", "content": "y"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def asked(**fields: Any) -> Asked:
    return read_chat(json.dumps({"messages": USER, **fields}).encode())


def read(**fields: Any) -> Generate:
    work = asked(**fields).work
    assert isinstance(work, Generate)
    return work


def test_the_least_request() -> None:
    assert asked() == Asked(work=Generate(prompts=(Chat(messages=USER),)))
    assert read().rows == 1


def test_everything_that_is_honoured() -> None:
    found = asked(
        model="m",
        temperature=0,
        top_p=0.5,
        top_k=0,
        min_p=0,
        seed=0,
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1.1,
        logit_bias={"5": -100, "6": 1.5},
        min_tokens=4,
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=False,
        stop=["a", "b", "a"],
        max_tokens=5,
        n=3,
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_object"},
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        reasoning_effort="low",
        chat_template_kwargs={"enable_thinking": False, "style": "x"},
    )
    sampling = Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=0,
        min_p=0.0,
        seed=0,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        repetition_penalty=1.1,
        logit_bias=((5, -100.0), (6, 1.5)),
        min_tokens=4,
    )
    args = {"enable_thinking": False, "style": "x"}
    assert found.work == Generate(
        prompts=(Chat(messages=USER, reasoning_effort="low", template_args=args),),
        sampling=sampling,
        tooling=Tooling(tools=[TOOL], parallel=False),
        format=Format("json_object"),
        stop=("a", "b"),
        max_tokens=5,
        n=3,
        top_logprobs=2,
    )
    assert (found.stream, found.include_usage, found.work.rows) == (True, True, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}},
        {"min_tokens": 0, "tool_choice": "auto", "parallel_tool_calls": False},
        {"modalities": ["text"], "verbosity": "medium"},
        {"tools": None, "user": "u", "stream_options": {}, "stream": False},
        {"tools": []},
        {"tools": [], "tool_choice": "none"},
    ],
)
def test_what_has_no_effect_is_accepted_by_name(fields: dict[str, Any]) -> None:
    assert asked(**fields) == Asked(work=Generate(prompts=(Chat(messages=USER),)))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", Tooling(tools=[TOOL])),
        ("none", Tooling(tools=[TOOL], choice="none")),
        ("required", Tooling(tools=[TOOL], choice="required")),
        ({"type": "function", "function": {"name": "f"}}, Tooling(tools=[TOOL], choice="named", name="f")),
    ],
)
def test_how_tools_are_chosen(choice: Any, expected: Tooling) -> None:
    tooling = read(tools=[TOOL], tool_choice=choice).tooling
    assert tooling == expected
    assert tooling.forced == (choice not in ("auto", "none"))
    assert tooling.offered == ([] if choice == "none" else [TOOL])


def test_strict_tools_and_tools_without_parameters_are_taken() -> None:
    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    assert read(tools=tools).tooling.tools == tools


def test_an_answer_that_is_begun_goes_on_unless_it_was_a_call() -> None:
    def prefill(messages: list[dict[str, Any]]) -> bool:
        (prompt,) = read(messages=messages).prompts
        assert isinstance(prompt, Chat)
        return prompt.prefill

    assert prefill(OPEN)
    assert not prefill(USER)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert not prefill([*USER, {"role": "assistant", "content": "", "tool_calls": [call]}])


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Format("json_object")),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, Format("json_schema", {})),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}},
            Format("json_schema", SCHEMA, strict=True),
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": None}},
            Format("json_schema", SCHEMA),
        ),
    ],
)
def test_the_form_of_an_answer(response_format: dict[str, Any], expected: Format | None) -> None:
    assert read(response_format=response_format).format == expected


def test_log_probabilities_are_asked_for_with_or_without_those_beside() -> None:
    assert read(logprobs=True).top_logprobs == 0
    assert read(logprobs=True, top_logprobs=20).top_logprobs == 20
    assert read(logprobs=False, top_logprobs=0).top_logprobs is None


def test_thinking_is_switched_in_either_way() -> None:
    (prompt,) = read(enable_thinking=False, chat_template_kwargs={"a": 1}).prompts
    assert prompt == Chat(messages=USER, template_args={"a": 1, "enable_thinking": False})


def test_both_names_of_the_length_limit_and_stop_as_one_string() -> None:
    assert read(max_completion_tokens=7).max_tokens == 7
    assert read(stop="x").stop == ("x",)


def test_a_forced_call_may_have_a_format_that_it_never_comes_to() -> None:
    """Some clients send every tool's schema as the format too."""
    work = read(tools=[TOOL], tool_choice="required", response_format={"type": "json_object"})
    assert work.tooling.forced


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"verbosity": "low"}, "verbosity"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": "required", "messages": OPEN}, "tool_choice"),
    ],
)
def test_what_another_target_might_do_is_unsupported(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        read(**fields)
    assert caught.value.param == param
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]},
            "tools[0].function.strict",
        ),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        ({"enable_thinking": "yes"}, "enable_thinking"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"a b": True}}, "chat_template_kwargs"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": "x"}}},
            "response_format.json_schema.strict",
        ),
        ({"modalities": "text"}, "modalities"),
    ],
)
def test_what_is_wrong_is_the_clients_fault_and_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert not isinstance(caught.value, Unsupported)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert re.split(r"[\[.]", param)[0] in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"messages": null}'])
def test_what_is_no_chat_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_chat(body)
    assert caught.value.code in ("invalid_json", "missing_required_parameter")


NAMES = [
    "messages",
    "temperature",
    "stop",
    "tools",
    "tool_choice",
    "logit_bias",
    "stream_options",
    "n",
    "seed",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
    "enable_thinking",
]
NAMES += ["response_format", "max_tokens", "chat_template_kwargs", "modalities", "verbosity", "x"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_no_body_does_anything_but_pass_or_be_refused(fields: dict[str, Any]) -> None:
    body = msgspec.json.encode({"messages": USER, **fields})
    try:
        read_chat(body)
    except RequestError as error:
        assert error.status == 400


def test_the_rest_of_a_message_takes_no_form_and_no_call() -> None:
    for fields, param in (
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
    ):
        with pytest.raises(Unsupported) as caught:
            read_chat(json.dumps({"messages": OPEN, **fields}).encode())
        assert caught.value.param == param
