from __future__ import annotations

import json

import pytest

from gateway.wire.events import Mark
from gateway.wire.openai import ChatEvents, ResponsesEvents
from gateway.wire.usage import Usage


def delta(**fields: object) -> dict[str, object]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields}]}


def chat(event: object) -> tuple[Mark, ChatEvents]:
    events = ChatEvents()
    return events.read(json.dumps(event).encode(), None), events


def respond(event: object, name: str | None = None) -> tuple[Mark, ResponsesEvents]:
    events = ResponsesEvents()
    return events.read(json.dumps(event).encode(), name), events


TOOL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}


@pytest.mark.parametrize(
    "event",
    [
        delta(content="x"),
        delta(content=" "),
        delta(content=[{"type": "text", "text": "x"}]),
        delta(content=None, reasoning="x"),
        delta(content="", reasoning_content="x"),
        delta(refusal="x"),
        delta(tool_calls=[TOOL]),
        delta(function_call={"name": "f"}),
        delta(audio={"id": "a", "data": "AAAA"}),
        delta(audio={"id": "a", "transcript": "x"}),
        delta(audio="x"),
        delta(images=[{"type": "image_url"}]),
        {"choices": [{"text": "x", "index": 0, "logprobs": None, "finish_reason": None}]},
        {"choices": [{"delta": {}}, {"index": 1, "delta": {"content": "x"}}]},
        {"choices": [None, {"delta": {"content": "x"}}]},
        {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]},
    ],
)
def test_a_piece_of_the_answer_is_content(event: object) -> None:
    assert chat(event)[0] is Mark.CONTENT


@pytest.mark.parametrize(
    "event",
    [
        delta(role="assistant"),
        delta(role="assistant", content="", refusal=None),
        delta(content=None),
        delta(tool_calls=[], function_call=None),
        delta(),
        delta(annotations=[1], obfuscation="x"),
        delta(audio={"id": "a", "expires_at": 5, "transcript": ""}),
        delta(audio={}),
        {"choices": []},
        {"choices": None},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"choices": [{"text": "", "finish_reason": None}]},
        {"choices": [{"delta": None, "finish_reason": "stop"}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
        {"choices": [{"delta": "x"}]},
        {"choices": {"delta": {"content": "x"}}},
        {"error": None, "choices": []},
        {"error": {}},
        {},
        [],
        None,
        "x",
    ],
)
def test_all_else_is_none(event: object) -> None:
    mark, events = chat(event)
    assert mark is Mark.NOTHING
    assert events.error is None


def test_done_is_the_end_only_after_a_reason() -> None:
    events = ChatEvents()
    assert events.read(b"[DONE]", None) is Mark.BROKEN
    assert events.error is not None
    assert events.error.code == "unfinished_stream"
    events = ChatEvents()
    assert events.read(b'{"choices":[{"index":1,"delta":{},"finish_reason":""}]}', None) is Mark.NOTHING
    assert not events.finished
    assert events.read(b'{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}', None) is Mark.NOTHING
    assert events.finished
    assert events.read(b'{"choices":[{"index":0,"delta":{"content":"x"}}]}', None) is Mark.CONTENT
    assert events.read(b" [DONE] ", None) is Mark.END


@pytest.mark.parametrize(
    ("event", "message", "status"),
    [
        ({"error": {"message": "m", "type": "server_error", "param": None, "code": None}}, "m", 500),
        ({"error": "m"}, "m", None),
        ({"type": "error", "message": "m", "code": "rate_limit_exceeded"}, "m", 429),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "m", 400),
        (
            {"error": {"code": 502, "message": "m"}, "choices": [{"delta": {}, "finish_reason": "error"}]},
            "m",
            502,
        ),
        ({"choices": [{"delta": {}, "error": {"code": 429, "message": "m"}}]}, "m", 429),
        (
            {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
            "the upstream ended its answer with an error",
            500,
        ),
    ],
)
def test_an_error_in_a_chat_stream(event: object, message: str, status: int | None) -> None:
    mark, events = chat(event)
    assert mark is Mark.BROKEN
    assert events.error is not None
    assert (events.error.message, events.error.status) == (message, status)


def test_the_last_usage_counts() -> None:
    events = ChatEvents()
    for tokens in (1, 2, 3):
        usage = {
            "prompt_tokens": 5,
            "completion_tokens": tokens,
            "prompt_tokens_details": {"cached_tokens": 4},
        }
        events.read(json.dumps({"choices": [], "usage": usage}).encode(), None)
    events.read(b'{"choices":[],"usage":null}', None)
    assert events.usage == Usage(5, 3, 4)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.reasoning_summary_text.delta", "delta": "x"},
        {"type": "response.function_call_arguments.delta", "delta": "{"},
        {"type": "response.refusal.delta", "delta": "x"},
        {"type": "response.something_new.delta", "delta": {"a": 1}},
        {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
        {"type": "response.output_item.added", "item": {"type": "web_search_call"}},
        {"type": "response.output_item.added", "item": {"type": ["odd"]}},
        {"type": "response.output_item.done", "item": {"type": "message"}},
        {"type": "response.image_generation_call.partial_image", "partial_image_b64": "AAAA"},
    ],
)
def test_a_piece_of_a_response_is_content(event: object) -> None:
    assert respond(event)[0] is Mark.CONTENT


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.created", "response": {"error": None}},
        {"type": "response.in_progress", "response": "odd"},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        {"type": "response.output_item.added", "item": {"type": "reasoning"}},
        {"type": "response.output_item.added", "item": {}},
        {"type": "response.output_item.added", "item": "odd"},
        {"type": "response.output_item.added"},
        {"type": "response.output_item.done", "item": {"type": "reasoning"}},
        {"type": "response.output_item.done"},
        {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}},
        {"type": "response.output_text.delta", "delta": ""},
        {"type": "response.output_text.done", "text": "x"},
        {"type": 7},
        {},
        [],
    ],
)
def test_the_life_of_a_response_is_no_content(event: object) -> None:
    assert respond(event)[0] is Mark.NOTHING


def test_the_event_line_names_what_has_no_type() -> None:
    assert respond({"delta": "x"}, "response.output_text.delta")[0] is Mark.CONTENT
    assert respond({"delta": "x"})[0] is Mark.NOTHING


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_a_response_ends_with_its_last_event(kind: str) -> None:
    mark, events = respond(
        {"type": kind, "response": {"error": None, "usage": {"input_tokens": 3, "output_tokens": 4}}}
    )
    assert mark is Mark.END
    assert events.finished
    assert events.usage == Usage(3, 4)
    mark, events = respond({"type": kind})
    assert mark is Mark.END
    assert events.usage is None


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "m"}}},
            "m",
            "server_error",
        ),
        ({"type": "response.failed", "response": {"error": None}}, "the upstream's response failed", None),
        ({"type": "response.failed"}, "the upstream's response failed", None),
        ({"type": "error", "code": "server_error", "message": "m", "param": None}, "m", "server_error"),
        ({"type": "error", "error": {"code": "c", "message": "m"}}, "m", "c"),
        ({"error": {"message": "m"}}, "m", None),
    ],
)
def test_an_error_in_a_response(event: object, message: str, code: str | None) -> None:
    mark, events = respond(event)
    assert mark is Mark.BROKEN
    assert events.error is not None
    assert (events.error.message, events.error.code) == (message, code)


def test_done_is_no_end_of_a_response() -> None:
    events = ResponsesEvents()
    assert events.read(b"[DONE]", None) is Mark.BROKEN
    assert events.error is not None
    assert events.error.malformed
