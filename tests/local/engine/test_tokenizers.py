"""Grammars over tokens of many letters, whose borders are not those of the grammar."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.local.grammar import GuidePlan
from tests.local.engine.test_vocabulary import MAKERS
from tests.local.engine.walk import walk
from tests.local.fits import fits

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["x", "größer", "日本語 日本語", "😀 hello world"]},
        "a": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 120}, "maxItems": 3},
        "more": {"type": "object", "properties": {"say hello": {"type": "string", "maxLength": 12}}},
    },
    "required": ["name", "a", "more"],
    "additionalProperties": False,
}
PLAN = GuidePlan(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}})
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
    for name in ("hello", "hello_world")
]


@pytest.fixture(scope="module", params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Any:
    from gateway.local.engine.guide import GuideMaker

    tokenizer = MAKERS[request.param]()
    if not tokenizer.has_tool_calling:
        tokenizer._tool_call_start, tokenizer._tool_call_end = "<tool_call>", "</tool_call>"
        tokenizer.init_kwargs["tool_parser_type"] = "json_tools"
    return GuideMaker(tokenizer, len(tokenizer))


def test_json(maker: Any) -> None:
    guide = maker.make(PLAN)
    for seed in range(20):
        assert fits(json.loads(walk(guide, random.Random(seed))), SCHEMA)


def test_calls(maker: Any) -> None:
    guide = maker.make(GuidePlan(tools=TOOLS, tool_choice="required", parallel=False))
    for seed in range(20):
        text = walk(guide, random.Random(seed)).decode()
        call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        assert call["name"] in ("hello", "hello_world")
        assert fits(call["arguments"], SCHEMA)


def test_a_mark_in_what_is_forced(maker: Any) -> None:
    """The encoder would give the mark's own token, which is no text; letters are forced instead."""
    value = "hello <tool_call> world"
    plan = GuidePlan(response_format={"type": "json_schema", "json_schema": {"schema": {"const": value}}})
    assert json.loads(walk(maker.make(plan), random.Random(0))) == value
