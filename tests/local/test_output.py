"""The JSON of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.local.mailbox import CallBegan, CallDelta, Delta, Ended, Finished, Likely, TokenProb
from gateway.local.output import DONE, ChatAnswer, Collected, TextAnswer

BEGAN = CallBegan(1, 0, "call_1", "weather")
END = Finished(id=1, prompt_tokens=5, completion_tokens=3, cached_tokens=2, reasoning_tokens=1)
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
HEAD = {"id": "x-1", "created": 7, "model": 'odd"name', "system_fingerprint": "fp_1"}
PROB = TokenProb(
    Likely("é", b"\xc3\xa9", -0.5), (Likely("é", b"\xc3\xa9", -0.5), Likely("\ufffd", b"\xff", -2.0))
)
PLAIN = TokenProb(Likely("b", b"b", -1.0))
CHAT_PROBS = {
    "content": [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [
                {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                {"token": "\ufffd", "logprob": -2.0, "bytes": [255]},
            ],
        },
        {"token": "b", "logprob": -1.0, "bytes": [98], "top_logprobs": []},
    ],
    "refusal": None,
}


def chat(*, stream: bool = True, include_usage: bool = False, probs: bool = False) -> ChatAnswer:
    values: dict[str, Any] = {**HEAD, "answer_id": HEAD["id"]}
    del values["id"]
    return ChatAnswer(stream=stream, include_usage=include_usage, probs=probs, **values)


def text(*, stream: bool = True, include_usage: bool = False, probs: bool = False) -> TextAnswer:
    values: dict[str, Any] = {**HEAD, "answer_id": HEAD["id"]}
    del values["id"]
    return TextAnswer(stream=stream, include_usage=include_usage, probs=probs, **values)


def collected(*events: Delta | CallBegan | CallDelta | Ended) -> Collected:
    found = Collected()
    for event in events:
        found.take(event)
    return found


# --- chats ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("include_usage", [True, False])
def test_every_chunk_of_a_chat_has_the_same_frame(include_usage: bool) -> None:
    answer = chat(include_usage=include_usage)
    chunks = [
        *answer.opening(1),
        answer.delta(Delta(1, 'a"\n\u2028🙂')),
        answer.delta(Delta(1, "b", reasoning=True)),
        answer.delta(Delta(1, "éb", probs=(PROB, PLAIN))),
        answer.call_began(CallBegan(1, 2, "call_1", "weather")),
        answer.call_delta(CallDelta(1, 2, '{"city"')),
        answer.ended(Ended(1, "stop")),
    ]
    found = [json.loads(chunk) for chunk in chunks]
    for chunk, raw in zip(found, chunks, strict=True):
        assert b"\n" not in raw
        (choice,) = chunk.pop("choices")
        assert choice["index"] == 0
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
        assert chunk == {**HEAD, "object": "chat.completion.chunk"} | (
            {"usage": None} if include_usage else {}
        )
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": 'a"\n\u2028🙂'},
        {"reasoning_content": "b"},
        {"content": "éb"},
        {
            "tool_calls": [
                {
                    "index": 2,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 2, "function": {"arguments": '{"city"'}}]},
        {},
    ]
    assert [choice["logprobs"] for choice in choices] == [None, None, None, CHAT_PROBS, None, None, None]
    assert [choice["finish_reason"] for choice in choices] == [None] * 6 + ["stop"]
    assert DONE == b"[DONE]"


def test_a_chat_tells_by_which_string_it_was_stopped() -> None:
    told = Ended(1, "stop", 0, "END")
    (streamed,) = json.loads(chat().ended(told))["choices"]
    (whole,) = json.loads(chat(stream=False).whole([collected(told)], END))["choices"]
    assert (streamed["finish_reason"], streamed["stop_reason"]) == ("stop", "END")
    assert (whole["finish_reason"], whole["stop_reason"]) == ("stop", "END")


def test_each_choice_of_a_chat_has_its_own_opening_and_index() -> None:
    answer = chat()
    assert [json.loads(chunk)["choices"][0]["index"] for chunk in answer.opening(3)] == [0, 1, 2]
    for event in (Delta(1, "a", choice=2), Delta(1, "a", choice=2, probs=(PLAIN,))):
        assert json.loads(answer.delta(event))["choices"][0]["index"] == 2
    for raw in (
        answer.call_began(CallBegan(1, 0, "c", "f", 1)),
        answer.call_delta(CallDelta(1, 0, "{}", 1)),
        answer.ended(Ended(1, "length", 1)),
    ):
        assert json.loads(raw)["choices"][0]["index"] == 1


def test_usage_comes_with_no_choice() -> None:
    for answer in (chat(include_usage=True), text(include_usage=True)):
        found = json.loads(answer.usage(END))
        assert found["choices"] == []
        assert found["usage"] == USAGE


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([Delta(1, "a"), Delta(1, "b")], {"content": "ab"}),
        ([], {"content": ""}),
        ([Delta(1, "r", reasoning=True)], {"content": "", "reasoning_content": "r"}),
        (
            [BEGAN, CallDelta(1, 0, '{"city"'), CallDelta(1, 0, ':"x"}')],
            {
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"x"}'},
                    }
                ],
            },
        ),
    ],
)
def test_a_whole_chat(events: list[Any], expected: dict[str, Any]) -> None:
    found = json.loads(chat(stream=False).whole([collected(*events, Ended(1, "length"))], END))
    assert found == {
        **HEAD,
        "object": "chat.completion",
        "usage": USAGE,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None, **expected},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
    }


def test_a_whole_chat_with_several_choices_and_their_probabilities() -> None:
    answers = [collected(Delta(1, "éb", probs=(PROB, PLAIN)), Ended(1, "stop")), collected()]
    found = json.loads(chat(stream=False, probs=True).whole(answers, END))["choices"]
    assert [choice["index"] for choice in found] == [0, 1]
    assert found[0]["logprobs"] == CHAT_PROBS
    assert found[1]["logprobs"] == {"content": [], "refusal": None}


# --- completions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("include_usage", [True, False])
def test_every_chunk_of_a_completion_has_the_same_frame(include_usage: bool) -> None:
    answer = text(include_usage=include_usage)
    assert answer.opening(3) == []
    chunks = [answer.delta(Delta(1, 'a"', choice=1)), answer.ended(Ended(1, "length", 1))]
    found = [json.loads(chunk) for chunk in chunks]
    choices = [chunk.pop("choices") for chunk in found]
    assert found == [
        {**HEAD, "object": "text_completion"} | ({"usage": None} if include_usage else {}) for _ in chunks
    ]
    assert choices == [
        [{"index": 1, "text": 'a"', "logprobs": None, "finish_reason": None}],
        [{"index": 1, "text": "", "logprobs": None, "finish_reason": "length"}],
    ]


def test_offsets_of_a_streamed_completion_go_on_through_its_chunks() -> None:
    answer = text(probs=True)
    answer.delta(Delta(1, "other", choice=1))
    first = json.loads(answer.delta(Delta(1, "éb", probs=(PROB, PLAIN))))["choices"][0]["logprobs"]
    assert first == {
        "tokens": ["é", "b"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"é": -0.5, "\ufffd": -2.0}, {}],
        "text_offset": [0, 1],
    }
    second = json.loads(answer.delta(Delta(1, "b", probs=(PLAIN,))))["choices"][0]["logprobs"]
    assert second["text_offset"] == [2]


def test_a_whole_completion() -> None:
    answers = [collected(Delta(1, "éb", probs=(PROB, PLAIN)), Ended(1, "stop")), collected(Delta(1, "x"))]
    found = json.loads(text(stream=False, probs=True).whole(answers, END))
    choices = found.pop("choices")
    assert found == {**HEAD, "object": "text_completion", "usage": USAGE}
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices] == [
        (0, "éb", "stop"),
        (1, "x", "stop"),
    ]
    assert choices[0]["logprobs"]["text_offset"] == [0, 1]
    assert choices[1]["logprobs"]["tokens"] == []
    without = json.loads(text(stream=False).whole(answers, END))
    assert without["choices"][0]["logprobs"] is None


def test_a_completion_never_calls_a_tool() -> None:
    with pytest.raises(AssertionError):
        text().call_began(BEGAN)
    with pytest.raises(AssertionError):
        text().call_delta(CallDelta(1, 0, "x"))
