from __future__ import annotations

import json

import pytest

from gateway.wire.events import Mark, OtherEvents, loose
from gateway.wire.openai import ChatEvents
from gateway.wire.usage import Usage


def read(data: bytes, name: str | None = None) -> tuple[Mark, OtherEvents]:
    events = OtherEvents()
    return events.read(data, name), events


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"speech.audio.delta","audio":"AAAA"}',
        b'{"type":"response.output_text.done"}',
        b'{"object":"thread.message","status":"completed"}',
        b'{"type":["odd"]}',
        b"plain text",
        b"[1, 2]",
        b"7",
        b'{"a":"\\ud83d"}',
    ],
)
def test_what_is_not_understood_is_content(data: bytes) -> None:
    assert read(data)[0] is Mark.CONTENT


@pytest.mark.parametrize(
    "data", [b"[DONE]", b'{"type":"transcript.text.done"}', b'{"type":"response.completed"}']
)
def test_some_ends_are_known_everywhere(data: bytes) -> None:
    assert read(data)[0] is Mark.END


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"error":{"message":"m"}}', None),
        (b'{"type":"error","message":"m"}', None),
        (b'{"type":"response.failed","message":"m"}', None),
        (b'{"message":"m"}', "error"),
        (b"m", "error"),
        (b'["m"]', "error"),
    ],
)
def test_errors_are_known_everywhere(data: bytes, name: str | None) -> None:
    mark, events = read(data, name)
    assert mark is Mark.BROKEN
    assert events.error is not None
    assert events.error.message == "m"


def test_what_begins_like_json_must_be_json() -> None:
    mark, events = read(b'{"a":')
    assert mark is Mark.BROKEN
    assert events.error is not None
    assert events.error.malformed


def test_usage_is_taken_wherever_it_stands() -> None:
    _, events = read(b'{"usage":{"input_tokens":2,"output_tokens":3}}')
    assert events.usage == Usage(2, 3)


def test_an_error_line_alone_is_an_error() -> None:
    events = OtherEvents()
    assert events.fail_without_data() is Mark.BROKEN
    assert events.error is not None
    assert not events.error.malformed


def test_a_long_event_is_looked_at_more_closely() -> None:
    deep = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    assert ChatEvents().read(deep, None) is Mark.BROKEN
    flat = json.dumps({"choices": [{"delta": {"content": "x" * 500}}]}).encode()
    assert ChatEvents().read(flat, None) is Mark.CONTENT


def test_only_an_object_has_a_shape() -> None:
    assert loose(OtherEvents._decode(b"{}").__class__, [1]) is None


def test_done_before_a_reason_is_broken() -> None:
    events = ChatEvents()
    assert events.read(b"[DONE]", None) is Mark.BROKEN
    assert events.error is not None
    assert events.error.malformed
    events = ChatEvents()
    events.finished = True
    assert events.read(b"[DONE]", None) is Mark.END
