"""Tool calls in the formats that parsers give them back."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.local.engine.calls import parse_calls


def parse(found: Any) -> list[tuple[str, str]]:
    def parser(text: str, tools: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    return [(c.name, c.arguments) for c in parse_calls("", SimpleNamespace(tool_parser=parser), [])]


@pytest.mark.parametrize(
    ("found", "calls"),
    [
        ({"name": "f", "arguments": {"a": "ü"}}, [("f", '{"a": "ü"}')]),
        ({"name": "f", "arguments": '{"a":1}'}, [("f", '{"a":1}')]),
        ({"name": "f"}, [("f", "{}")]),
        ([{"name": "f"}, {"name": "g", "arguments": {}}], [("f", "{}"), ("g", "{}")]),
        ([{"name": "f"}, {"name": 5}], []),
        ({"name": ""}, []),
        ("text", []),
        (None, []),
        ({"name": "f", "arguments": {"a": {1, 2}}}, []),
        ({"name": "f", "arguments": {"a": float("nan")}}, []),
        (ValueError("no function"), []),
        (KeyError("x"), []),
    ],
)
def test_what_can_be_understood_is_a_call(
    found: Any, calls: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert parse(found) == calls


def test_an_id_that_the_model_gave_is_kept_and_others_are_made() -> None:
    tokenizer = SimpleNamespace(
        tool_parser=lambda text, tools: [{"name": "f", "id": "functions.f:0"}, {"name": "f"}]
    )
    first, second = parse_calls("", tokenizer, [])
    assert first.call_id == "functions.f:0"
    assert second.call_id.startswith("call_")
