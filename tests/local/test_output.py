"""The JSON of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.local.mailbox import Called, Finished, ToolCall
from gateway.local.output import DONE, Answer

CALL = ToolCall("call_1", "weather", '{"city":"x"}')


def answer(**fields: Any) -> Answer:
    return Answer(answer_id="chatcmpl-1", model='odd"name', created=7, fingerprint="fp_1", **fields)


@pytest.mark.parametrize("include_usage", [True, False])
def test_every_chunk_has_the_same_frame(include_usage: bool) -> None:
    frame = answer(include_usage=include_usage)
    chunks = [
        frame.role(),
        frame.content('a"\n\u2028🙂'),
        frame.reasoning("b"),
        frame.called(Called(1, 2, CALL)),
        frame.finished("stop"),
    ]
    for chunk in chunks:
        found = json.loads(chunk)
        assert b"\n" not in chunk
        assert ("usage" in found) == include_usage
        assert {k: found[k] for k in ("id", "object", "created", "model", "system_fingerprint")} == {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 7,
            "model": 'odd"name',
            "system_fingerprint": "fp_1",
        }
        (choice,) = found["choices"]
        assert choice["index"] == 0
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[1] == {"content": 'a"\n\u2028🙂'}
    assert deltas[2] == {"reasoning_content": "b"}
    assert deltas[3]["tool_calls"] == [
        {
            "index": 2,
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"x"}'},
        }
    ]
    assert deltas[4] == {}
    assert json.loads(chunks[4])["choices"][0]["finish_reason"] == "stop"
    assert DONE == b"[DONE]"


def test_usage_comes_with_no_choice() -> None:
    found = json.loads(answer(include_usage=True).usage(Finished(1, "stop", 5, 3)))
    assert found["choices"] == []
    assert found["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize(
    ("text", "reasoning", "calls", "expected"),
    [
        ("a", "", [], {"role": "assistant", "content": "a", "refusal": None}),
        ("", "", [], {"role": "assistant", "content": "", "refusal": None}),
        ("", "r", [], {"role": "assistant", "content": "", "refusal": None, "reasoning_content": "r"}),
    ],
)
def test_a_whole_answer(text: str, reasoning: str, calls: list[ToolCall], expected: dict[str, Any]) -> None:
    found = json.loads(answer().whole(text, reasoning, calls, Finished(1, "length", 5, 3)))
    assert found["object"] == "chat.completion"
    assert found["usage"]["total_tokens"] == 8
    assert found["choices"] == [
        {"index": 0, "message": expected, "logprobs": None, "finish_reason": "length"}
    ]


def test_a_whole_answer_with_calls_has_no_content() -> None:
    found = json.loads(answer().whole("", "", [CALL], Finished(1, "tool_calls", 5, 3)))
    message = found["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["id"] == "call_1"
    assert "index" not in message["tool_calls"][0]
