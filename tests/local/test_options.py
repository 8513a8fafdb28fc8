"""The fields that chats and completions share: each is honoured or refused by its name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.local.fields import Unsupported, text
from gateway.local.options import (
    COMMON,
    WITHOUT_EFFECT,
    only,
    read_fields,
    read_object,
    required,
    tokens_limit,
    whole,
)
from gateway.local.request import Sampling
from tests.local.anything import json_values

READERS = {**COMMON, "max_completion_tokens": tokens_limit}
NOTHING = {"max_tokens": None, "sampling": Sampling()}


def read(**fields: Any) -> dict[str, Any]:
    return read_fields(read_object(msgspec.json.encode(fields)), READERS)


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b'{"messages": NaN}', b"\xff{}", b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_object(body)
    assert caught.value.code == "invalid_json"


def test_null_is_nothing_and_0_is_something() -> None:
    assert read_object(b'{"a": null, "b": 0, "c": "", "d": false}') == {"b": 0, "c": "", "d": False}


def test_what_must_be_there_is_taken_or_missed() -> None:
    asked = {"prompt": "", "n": 1}
    assert required(asked, "prompt", "send a text") == ""
    assert asked == {"n": 1}
    with pytest.raises(RequestError, match="prompt is missing; send a text") as caught:
        required(asked, "prompt", "send a text")
    assert caught.value.param == "prompt"


def test_fields_of_sampling_become_one_value() -> None:
    found = read(
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
    )
    assert found["sampling"] == Sampling(
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


def test_the_others_keep_their_names() -> None:
    options = {"include_usage": True, "include_obfuscation": False, "later": None}
    found = read(model="m", stream=True, stream_options=options, stop=["a", "b", "a"], n=3)
    assert found == {**NOTHING, "stream": True, "include_usage": True, "stop": ("a", "b"), "n": 3}
    assert read(stop="x", stream_options={}) == {**NOTHING, "stop": ("x",), "include_usage": False}


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": 1}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "prediction": {"type": "content"}},
        {"max_tokens": None, "stop": None, "stream_options": None, "whatever": None},
    ],
)
def test_what_has_no_effect_is_accepted_by_name(fields: dict[str, Any]) -> None:
    assert read(**fields) == NOTHING


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_of_the_right_type_all_the_same(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**{name: 5})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 5),
        ({"max_tokens": 5, "min_tokens": 5}, 5),
        ({"min_tokens": 99}, None),
    ],
)
def test_the_older_and_the_newer_limit_are_both_kept_to(fields: dict[str, int], limit: int | None) -> None:
    found = read(**fields)
    assert found["max_tokens"] == limit
    assert "max_completion_tokens" not in found


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"frobnicate": 1}, "frobnicate"), ({"stream_options": {"odd": 1}}, "stream_options.odd")],
)
def test_what_another_target_might_do_is_unsupported(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        read(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"seed": 2**63}, "seed"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
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
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"1234567890": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": "1"}, "n"),
    ],
)
def test_what_is_wrong_is_the_clients_fault_and_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert not isinstance(caught.value, Unsupported)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param.partition(".")[0] in str(caught.value)


def test_a_field_of_which_only_some_values_can_be_honoured() -> None:
    reader = only(lambda value: value == "", text, "there is none")
    assert reader("suffix", "") == {}
    with pytest.raises(Unsupported, match="suffix: there is none"):
        reader("suffix", "x")
    with pytest.raises(RequestError, match="a string"):
        reader("suffix", 5)
    assert whole(1, 3)("best_of", 3) == 3


@given(st.dictionaries(st.sampled_from([*READERS, *WITHOUT_EFFECT, "seed", "logit_bias", "x"]), json_values))
def test_no_field_does_anything_but_pass_or_be_refused(fields: dict[str, Any]) -> None:
    try:
        read_fields(fields, READERS)
    except RequestError as error:
        assert error.status == 400
