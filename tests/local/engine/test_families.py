"""Calls in the format of each family, written at random, and read back by mlx-lm's own parser."""

from __future__ import annotations

import importlib
import json
import random
from typing import Any, NamedTuple

import pytest

from gateway.local.families import FORMATS
from gateway.local.grammar import GuidePlan
from gateway.local.tool import inlined
from tests.local.engine.walk import walk
from tests.local.fits import fits
from tests.local.models import make_model


class Family(NamedTuple):
    """What a model of the family has in its vocabulary, and what ends a text that would go on for ever."""

    parser: str
    marks: tuple[str, ...]
    closers: tuple[str, ...]
    template: str = ""


PAIRS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
LONG = tuple(mark.replace("arg", "longcat_arg") for mark in PAIRS)
CALL = ("<tool_call>", "</tool_call>")
KIMI = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")
KIMI_INNER = ("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>")
XTML = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")
FAMILIES = {
    "json_tools": Family("json_tools", CALL, ()),
    "json_tools in letters": Family("json_tools", (), ()),
    "mistral": Family("mistral", ("[TOOL_CALLS]", "[ARGS]"), (), "[ARGS]"),
    "mistral in letters": Family("mistral", (), (), "[ARGS]"),
    "mistral_list": Family("mistral", ("[TOOL_CALLS]",), ()),
    "kimi_k2": Family("kimi_k2", (*KIMI, *KIMI_INNER), ()),
    "kimi_k3": Family("kimi_k3", XTML, ("<|close|>",)),
    "gemma4": Family("gemma4", ("<|tool_call>", "<tool_call|>", '<|"|>'), ('<|"|>',)),
    "glm47": Family("glm47", (*CALL, *PAIRS), ("</arg_value>",)),
    "glm47 in letters": Family("glm47", (), ("</arg_value>",)),
    "laguna": Family("laguna", CALL, ("</arg_value>",)),
    "longcat": Family(
        "longcat", ("<longcat_tool_call>", "</longcat_tool_call>", *LONG), ("</longcat_arg_value>",)
    ),
    "minicpm5": Family("minicpm5", (), ("</param>",)),
    "minimax_m2": Family("minimax_m2", ("<minimax:tool_call>", "</minimax:tool_call>"), ("</parameter>",)),
    "pythonic": Family("pythonic", ("<|tool_call_start|>", "<|tool_call_end|>"), ()),
    "qwen3_coder": Family("qwen3_coder", CALL, ("\n</parameter>", "</parameter>")),
}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where"},
        "unit": {"type": "string", "enum": ["C", "F", 'a <b> & "c"']},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "ratio": {"type": "number"},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
        "where": {"$ref": "#/$defs/point"},
        "note": {"type": "string", "maxLength": 6},
    },
    "required": ["city", "unit", "days", "sure", "tags"],
    "additionalProperties": False,
    "$defs": {
        "point": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": ["integer", "null"]}},
            "required": ["x", "y"],
            "additionalProperties": False,
        }
    },
}
CHOICE = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}},
    "additionalProperties": False,
}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
SCHEMAS = {"get_weather": WEATHER, "get": CHOICE, "now": NOTHING}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()
]

# What a parser is given: it does not follow references.
READ = [
    {"function": {**tool["function"], "parameters": inlined(tool["function"]["parameters"])}}
    for tool in TOOLS
]


def test_every_family_is_tested() -> None:
    assert {name.removesuffix(" in letters") for name in FAMILIES} == set(FORMATS)


def model_of(name: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Any, Any]:
    """A family, a tokenizer of it, and the maker of its guides."""
    from mlx_lm.utils import load_tokenizer

    from gateway.local.engine.guide import GuideMaker

    family = FAMILIES[name]
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, template="x" + family.template, extra_tokens=family.marks)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tool_parser_type": family.parser}))
    tokenizer = load_tokenizer(folder)
    return family, tokenizer, GuideMaker(tokenizer, len(tokenizer))


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Any, Any]:
    return model_of(request.param, tmp_path_factory)


def written(guide: Any, tokenizer: Any, family: Family, seed: int) -> str:
    closers = [tokenizer.encode(text, add_special_tokens=False) for text in family.closers]
    return walk(guide, random.Random(seed), closers=closers).decode()


@pytest.mark.parametrize("name", [None, *SCHEMAS])
def test_what_is_written_is_read_back(made: tuple[Family, Any, Any], name: str | None) -> None:
    family, tokenizer, maker = made
    guide = maker.make(GuidePlan(tools=TOOLS, tool_choice="required", tool_name=name))
    parser = importlib.import_module(f"mlx_lm.tool_parsers.{family.parser}")
    for seed in range(5):
        text = written(guide, tokenizer, family, seed)
        calls: list[dict[str, Any]] = []
        for block in blocks(text, parser):
            found = parser.parse_tool_call(block, READ)
            calls += found if isinstance(found, list) else [found]
        assert calls
        assert name is None or [call["name"] for call in calls] == [name]
        for call in calls:
            assert fits(call["arguments"], SCHEMAS[call["name"]]), (text, call)


NULLS = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("name", ["qwen3_coder", "minimax_m2", "minicpm5"])
def test_text_that_a_parser_takes_for_null_is_not_written(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """These parsers read the word null as no value, though a string was asked for."""
    family, tokenizer, maker = model_of(name, tmp_path_factory)
    tools = [{"type": "function", "function": {"name": "f", "parameters": NULLS}}]
    guide = maker.make(GuidePlan(tools=tools, tool_name="f"))
    before = {
        "qwen3_coder": "<tool_call><function=f><parameter=a>\n",
        "minimax_m2": '<minimax:tool_call><invoke name="f"><parameter name="a">',
        "minicpm5": '<function name="f"><param name="a">',
    }[name]
    close = family.closers[0]
    for text, good in (("null", False), ("NULL", False), ("nullo", True), ("a\nb", True), ("", True)):
        said = tokenizer.encode(before + text + close, add_special_tokens=False)
        assert guide._rules.answer.begin().validate_tokens(said) == len(said) or not good
        assert guide._rules.answer.begin().validate_tokens(said) < len(said) or good


def blocks(text: str, parser: Any) -> list[str]:
    """The text between the marks, as the text state machine gives it."""
    assert text.startswith(parser.tool_call_start)
    if not parser.tool_call_end:
        return [text.removeprefix(parser.tool_call_start)]
    parts = text.split(parser.tool_call_start)[1:]
    assert all(part.rstrip("\n ").endswith(parser.tool_call_end) for part in parts)
    return [part.rstrip("\n ").removesuffix(parser.tool_call_end) for part in parts]
