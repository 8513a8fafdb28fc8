"""The body of /v1/completions, field by field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.local.completion import DEFAULT_MAX_TOKENS, read_completion, read_texts
from gateway.local.fields import Unsupported
from gateway.local.options import Asked
from gateway.local.request import Generate, Sampling, Text, Tokens
from tests.local.anything import json_values


def asked(**fields: Any) -> Asked:
    return read_completion(json.dumps({"prompt": "x", **fields}).encode())


def read(**fields: Any) -> Generate:
    work = asked(**fields).work
    assert isinstance(work, Generate)
    return work


def test_the_least_request_is_as_long_as_openai_says() -> None:
    assert asked() == Asked(work=Generate(prompts=(Text("x"),), max_tokens=16))
    assert DEFAULT_MAX_TOKENS == 16
    assert read(max_tokens=500).max_tokens == 500
    assert read(min_tokens=40).max_tokens == 40, "or as long as it has to be"


def test_everything_that_is_honoured() -> None:
    found = asked(
        model="m",
        temperature=0.5,
        seed=3,
        max_tokens=4,
        stop="a",
        n=2,
        best_of=2,
        logprobs=5,
        echo=False,
        suffix="",
        stream=True,
        stream_options={"include_usage": True},
        user="u",
    )
    work = Generate(
        prompts=(Text("x"),),
        sampling=Sampling(temperature=0.5, seed=3),
        stop=("a",),
        max_tokens=4,
        n=2,
        top_logprobs=5,
    )
    assert found == Asked(work=work, stream=True, include_usage=True)
    assert read(echo=True).echo
    assert read(logprobs=0).top_logprobs == 0
    assert read(logprobs=None).top_logprobs is None


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", (Text("a"),)),
        (["a", "b"], (Text("a"), Text("b"))),
        ([1, 2], (Tokens([1, 2]),)),
        ([[1], [2, 3]], (Tokens([1]), Tokens([2, 3]))),
        (["a", [5]], (Text("a"), Tokens([5]))),
        ([7] * 5000, (Tokens([7] * 5000),)),
    ],
)
def test_a_prompt_is_text_or_tokens_or_several(prompt: Any, expected: tuple[Text | Tokens, ...]) -> None:
    assert read_texts("prompt", prompt) == expected
    assert read(prompt=prompt).rows == len(expected)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"),
        ("", "prompt"),
        ([], "prompt"),
        (5, "prompt"),
        ({"a": 1}, "prompt"),
        (["a", ""], "prompt[1]"),
        (["a", 5], "prompt[1]"),
        ([[1], []], "prompt[1]"),
        ([[1, "a"]], "prompt[0][1]"),
        ([1, -1], "prompt[1]"),
        ([True, False], "prompt[0]"),
        (["a"] * 2049, "prompt"),
    ],
)
def test_a_prompt_that_is_none_is_refused_where_it_is_wrong(prompt: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(prompt=prompt)
    assert not isinstance(caught.value, Unsupported)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"messages": []}, "messages"),
        ({"tools": []}, "tools"),
    ],
)
def test_what_another_target_might_do_is_unsupported(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        read(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": 1}, "echo"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 0}, "best_of"),
        ({"suffix": 5}, "suffix"),
        ({"n": 65, "prompt": ["a", "b"]}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_is_wrong_is_the_clients_fault_and_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert not isinstance(caught.value, Unsupported)
    assert (caught.value.status, caught.value.param) == (400, param)


NAMES = ["prompt", "n", "best_of", "echo", "logprobs", "suffix", "max_tokens", "stream", "x"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_no_body_does_anything_but_pass_or_be_refused(fields: dict[str, Any]) -> None:
    try:
        read_completion(msgspec.json.encode({"prompt": "x", **fields}))
    except RequestError as error:
        assert error.status == 400
