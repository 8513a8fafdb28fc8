"""Every field is honoured or refused by name, with the words that help."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.local.fields import Unsupported
from gateway.local.request import ChatRequest, Sampling, read_chat

USER = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def read(**fields: Any) -> ChatRequest:
    return read_chat(json.dumps({"messages": USER, **fields}).encode())


def test_the_least_request() -> None:
    assert read() == ChatRequest(messages=USER)
    assert not read().prefill


def test_everything_that_is_honoured() -> None:
    request = read(
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
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=False,
        stop=["a", "b", "a"],
        max_tokens=5,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        reasoning_effort="low",
        chat_template_kwargs={"enable_thinking": False},
    )
    assert request.sampling == Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=0,
        min_p=0.0,
        seed=0,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        repetition_penalty=1.1,
        logit_bias=((5, -100.0), (6, 1.5)),
    )
    assert (request.tools, request.parallel_tool_calls, request.stop) == ([TOOL], False, ("a", "b"))
    assert (request.max_tokens, request.stream, request.include_usage) == (5, True, True)
    assert (request.reasoning_effort, request.template_args) == ("low", {"enable_thinking": False})


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": 1}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "prediction": {"type": "content"}},
        {"n": 1, "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}},
        {"modalities": ["text"], "verbosity": "medium"},
        {"max_tokens": None, "stop": None, "tools": None, "stream_options": None, "whatever": None},
        {"stream_options": {}, "stream": False},
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": []},
    ],
)
def test_what_has_no_effect_is_accepted_by_name(fields: dict[str, Any]) -> None:
    assert read(**fields) == ChatRequest(messages=USER)


def test_both_names_of_the_length_limit_and_stop_as_one_string() -> None:
    assert read(max_completion_tokens=7).max_tokens == 7
    assert read(stop="x").stop == ("x",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"verbosity": "low"}, "verbosity"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
            "tools[0].function.strict",
        ),
        ({"stream_options": {"odd": 1}}, "stream_options.odd"),
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
        ({"model": 5}, "model"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": [str(n) for n in range(17)]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"a b": True}}, "chat_template_kwargs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"logprobs": 1}, "logprobs"),
        ({"response_format": "json"}, "response_format"),
        ({"modalities": "text"}, "modalities"),
    ],
)
def test_what_is_wrong_is_the_clients_fault_and_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert not isinstance(caught.value, Unsupported)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert re.split(r"[\[.]", param)[0] in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b'{"messages": NaN}', b"\xff{}", b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_chat(body)
    assert caught.value.code == "invalid_json"


def test_values_are_shown_shortly() -> None:
    for value, shown in (
        ({"a": 1}, "an object"),
        ([1], "a list"),
        (True, "true"),
        (False, "false"),
        ("x" * 99, "..."),
    ):
        with pytest.raises(RequestError, match=r"temperature must be a number, not") as caught:
            read(temperature=value)
        assert shown in str(caught.value)
        assert len(str(caught.value)) < 100
    with pytest.raises(RequestError, match="not null"):
        read_chat(b'{"messages": [{"role": "user"}]}')


def test_not_a_number_is_out_of_every_range() -> None:
    from gateway.local.fields import number

    with pytest.raises(RequestError):
        number("x", math.nan, low=0, high=1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
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
]
NAMES += ["response_format", "max_tokens", "chat_template_kwargs", "modalities", "verbosity", "x"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_no_body_does_anything_but_pass_or_be_refused(fields: dict[str, Any]) -> None:
    body = msgspec.json.encode({"messages": USER, **fields})
    try:
        read_chat(body)
    except RequestError as error:
        assert error.status == 400
