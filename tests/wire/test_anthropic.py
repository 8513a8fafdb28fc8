from __future__ import annotations

import json

import pytest

from gateway.wire.anthropic import MessagesEvents
from gateway.wire.events import Mark
from gateway.wire.usage import Usage


def read(event: object, name: str | None = None) -> tuple[Mark, MessagesEvents]:
    events = MessagesEvents()
    return events.read(json.dumps(event).encode(), name), events


def delta(kind: str | None, **fields: object) -> dict[str, object]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def start(kind: str | None, **fields: object) -> dict[str, object]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **fields}}


@pytest.mark.parametrize(
    "event",
    [
        delta("text_delta", text="x"),
        delta("thinking_delta", thinking="x"),
        delta("input_json_delta", partial_json="{"),
        delta("citations_delta", citation={"type": "char_location"}),
        delta("brand_new_delta"),
        delta(None, text="x"),
        start("text", text="x"),
        start("tool_use", id="t", name="f", input={}),
        start("server_tool_use", id="t", name="web_search"),
        start("redacted_thinking", data="AAAA"),
        start("web_search_tool_result"),
    ],
)
def test_a_piece_of_the_answer_is_content(event: object) -> None:
    assert read(event)[0] is Mark.CONTENT


@pytest.mark.parametrize(
    "event",
    [
        delta("text_delta", text=""),
        delta("thinking_delta", thinking=""),
        delta("input_json_delta", partial_json=""),
        delta("signature_delta", signature="EqQB"),
        delta(None),
        {"type": "content_block_delta"},
        {"type": "content_block_delta", "delta": "odd"},
        start("text", text=""),
        start("thinking", thinking="", signature=""),
        start(None),
        {"type": "content_block_start"},
        {"type": "content_block_start", "content_block": 5},
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"type": "message_start"},
        {"type": "message_start", "message": "odd"},
        {"type": "message_delta"},
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        {"type": "brand_new"},
        {"type": 5},
        {},
        [],
        None,
    ],
)
def test_all_else_is_none(event: object) -> None:
    assert read(event)[0] is Mark.NOTHING


def test_the_event_line_names_what_has_no_type() -> None:
    assert read({"delta": {"type": "text_delta", "text": "x"}}, "content_block_delta")[0] is Mark.CONTENT


def test_a_message_ends_with_its_stop_after_a_reason() -> None:
    events = MessagesEvents()
    assert events.read(b'{"type":"message_delta","delta":{"stop_reason":null}}', None) is Mark.NOTHING
    assert not events.finished
    assert events.read(b'{"type":"message_delta","delta":{"stop_reason":"refusal"}}', None) is Mark.NOTHING
    assert events.finished
    assert events.read(b'{"type":"message_delta","delta":{}}', None) is Mark.NOTHING
    assert events.read(b'{"type":"message_stop"}', None) is Mark.END


@pytest.mark.parametrize("last", [b'{"type":"message_stop"}', b"[DONE]"])
def test_an_end_without_a_reason_is_broken(last: bytes) -> None:
    events = MessagesEvents()
    assert events.read(last, None) is Mark.BROKEN
    assert events.error is not None
    assert events.error.code == "unfinished_stream"


@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "overloaded_error", 529),
        ({"error": {"type": "api_error", "message": "m"}}, "api_error", 500),
    ],
)
def test_an_error_in_a_message(event: object, kind: str, status: int) -> None:
    mark, events = read(event)
    assert mark is Mark.BROKEN
    assert events.error is not None
    assert (events.error.message, events.error.kind, events.error.status) == ("m", kind, status)


def test_usage_is_counted_from_start_and_delta() -> None:
    events = MessagesEvents()
    first = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 5,
        "output_tokens": 1,
    }
    events.read(json.dumps({"type": "message_start", "message": {"usage": first}}).encode(), None)
    assert events.usage == Usage(115, 1, 100)
    events.read(
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}', None
    )
    assert events.usage == Usage(115, 42, 100)
