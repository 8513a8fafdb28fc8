"""What a request asks for, found cheaply and never wrong where it lets a target be passed over."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.api import Api
from gateway.wire.needs import Needs, needs_of

CHAT, MESSAGES, RESPONSES = Api.CHAT, Api.MESSAGES, Api.RESPONSES


def of(api: Api, **body: Any) -> Needs:
    return needs_of(api, json.dumps({"model": "m", **body}, ensure_ascii=False).encode())


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


PNG = "data:image/png;base64," + "A" * 1000
IMAGE_URL = {"type": "image_url", "image_url": {"url": PNG}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1000}}


@pytest.mark.parametrize(
    ("api", "body", "wanted"),
    [
        (CHAT, {"messages": user(IMAGE_URL)}, {"images"}),
        (CHAT, {"messages": user({"type": "input_audio", "input_audio": {"data": "A" * 900}})}, {"audio"}),
        (CHAT, {"messages": [], "modalities": ["text", "audio"], "audio": {"voice": "a"}}, {"audio"}),
        (CHAT, {"messages": user({"type": "file", "file": {"file_data": "A" * 900}})}, {"files"}),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
        (CHAT, {"functions": [{"name": "f"}]}, {"tools"}),
        (CHAT, {"tools": [], "functions": None}, set()),
        (CHAT, {"response_format": {"type": "json_object"}}, {"json"}),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, {"json"}),
        (CHAT, {"response_format": {"type": "text"}}, set()),
        (CHAT, {"logprobs": True}, {"logprobs"}),
        (CHAT, {"logprobs": False, "top_logprobs": None}, set()),
        (
            CHAT,
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            {"prefill"},
        ),
        (
            CHAT,
            {"messages": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]},
            set(),
        ),
        (CHAT, {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]}]}, set()),
        (Api.COMPLETIONS, {"prompt": "x", "logprobs": 0}, {"logprobs"}),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]},
            {"images"},
        ),
        (
            RESPONSES,
            {
                "input": [
                    {"type": "function_call_output", "output": [{"type": "input_image", "image_url": PNG}]}
                ]
            },
            {"images"},
        ),
        (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_data": PNG}]}]}, {"files"}),
        (RESPONSES, {"input": "x", "text": {"format": {"type": "json_schema"}}}, {"json"}),
        (RESPONSES, {"input": "x", "text": {"format": {"type": "text"}}}, set()),
        (RESPONSES, {"input": "x", "include": ["message.output_text.logprobs"]}, {"logprobs"}),
        (RESPONSES, {"input": [{"role": "assistant", "content": "x"}]}, set()),
        (MESSAGES, {"messages": user(IMAGE)}, {"images"}),
        (MESSAGES, {"messages": user({"type": "tool_result", "content": [IMAGE]})}, {"images"}),
        (MESSAGES, {"messages": user({"type": "document", "source": {"data": "A" * 900}})}, {"files"}),
        (MESSAGES, {"output_config": {"format": {"type": "json_schema"}}}, {"json"}),
        (
            MESSAGES,
            {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "{"}]}]},
            {"prefill"},
        ),
        (Api.OTHER, {"messages": user(IMAGE)}, {"images"}),
    ],
)
def test_what_is_asked_for(api: Api, body: dict[str, Any], wanted: set[str]) -> None:
    needs = of(api, **body)
    flags = ("images", "audio", "files", "tools", "json", "logprobs", "prefill")
    assert {flag for flag in flags if getattr(needs, flag)} == wanted
    assert needs.size < 300  # pictures, sound and files do not count


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_output_tokens": 7}, 7),
        ({"max_tokens": 9, "max_completion_tokens": 8}, 8),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": "5", "max_output_tokens": True}, None),
        ({"max_tokens": 1.5}, None),
    ],
)
def test_how_long_the_answer_may_be(body: dict[str, Any], tokens: int | None) -> None:
    assert of(CHAT, **body).max_tokens == tokens


def test_how_many_answers_are_wanted() -> None:
    assert of(CHAT).choices == 1
    assert of(CHAT, n=3).choices == 3
    assert of(CHAT, n=0).choices == 1
    assert of(Api.COMPLETIONS, prompt="a", n=2).choices == 2
    assert of(Api.COMPLETIONS, prompt=["a", "b"], n=2).choices == 4
    assert of(Api.COMPLETIONS, prompt=[1, 2, 3]).choices == 1
    assert of(Api.COMPLETIONS, prompt=[[1, 2, 3], [4]]).choices == 2


def test_words_are_a_bound_of_tokens() -> None:
    text = "the quick brown fox " * 50
    assert of(CHAT, messages=[{"role": "user", "content": text}]).least_tokens == 199
    assert of(CHAT, messages=user({"type": "text", "text": text})).least_tokens == 199
    assert of(RESPONSES, input=text, instructions="be kind").least_tokens == 200
    assert of(Api.COMPLETIONS, prompt=text).least_tokens == 199
    assert of(Api.COMPLETIONS, prompt=["a", text, 5]).least_tokens == 199
    assert of(Api.COMPLETIONS, prompt=[7] * 60).least_tokens == 60
    result = {"type": "tool_result", "content": [{"type": "text", "text": text}]}
    assert of(MESSAGES, system=[{"type": "text", "text": text}], messages=user(result)).least_tokens == 398


@pytest.mark.parametrize(
    "text",
    [" " * 9000, "- " * 900, "\n \n " * 900, "\t " * 900, "漢字" * 900, "=" * 9000, "\xa0 \u3000 " * 900],
)
def test_what_one_token_may_cover_counts_nothing(text: str) -> None:
    assert of(CHAT, messages=[{"role": "user", "content": text}]).least_tokens == 0
    ascii_body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    assert needs_of(CHAT, ascii_body).least_tokens == 0


def test_what_the_target_may_leave_out_counts_nothing() -> None:
    text = "one two three"
    thought = {"role": "assistant", "content": f"<think>{text}</think> well"}
    assert of(CHAT, messages=[thought, {"role": "user", "content": text}]).least_tokens == 2
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": text}]}
    assert of(RESPONSES, input=[reasoning]).least_tokens == 0
    assert of(RESPONSES, input=text, truncation="auto").least_tokens == 0
    assert of(RESPONSES, input=text, truncation="disabled").least_tokens == 2
    assert of(CHAT, messages=[{"content": text}], transforms=["middle-out"]).least_tokens == 0
    assert of(Api.COMPLETIONS, prompt=text, truncate_prompt_tokens=5).least_tokens == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"a":' * 4000])
def test_what_cannot_be_read_asks_for_nothing(body: bytes) -> None:
    for api in Api:
        assert needs_of(api, body) == Needs(size=len(body))


KEYS = ["messages", "input", "prompt", "content", "type", "role", "text", "source", "image_url", "tools", "n"]
KEYS += ["system", "response_format", "format", "logprobs", "max_tokens", "output", "include", "truncation"]
WORDS = ["image", "text", "assistant", "tool_result", "document", "json_schema", "a b c"]
odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), odd, max_size=6), st.sampled_from(list(Api)))
def test_odd_types_never_raise(body: dict[str, Any], api: Api) -> None:
    data = json.dumps(body).encode()
    needs = needs_of(api, data)
    assert 0 <= needs.size <= len(data)
    assert needs.choices >= 1


@given(st.text(alphabet=st.sampled_from('ab1 .\n\té漢"\\ '), max_size=60), st.booleans())
def test_no_piece_between_blanks_is_counted_twice(text: str, ascii_only: bool) -> None:
    # Every tokenizer needs at least one token for each of these pieces.
    body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only).encode()
    assert needs_of(CHAT, body).least_tokens <= len(re.findall(r"\S+", text))
