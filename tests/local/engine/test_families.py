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


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Any, Any]:
    """A family, a tokenizer of it, and the maker of its guides."""
    from mlx_lm.utils import load_tokenizer

    from gateway.local.engine.guide import GuideMaker

    family = FAMILIES[request.param]
    folder = make_model(
        tmp_path_factory.mktemp("model"), template="x" + family.template, extra_tokens=family.marks
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tool_parser_type": family.parser}))
    tokenizer = load_tokenizer(folder)
    return family, tokenizer, GuideMaker(tokenizer, len(tokenizer))


def written(guide: Any, tokenizer: Any, family: Family, dice: random.Random) -> str:
    """A text that the guide's grammar allows, and complete."""
    matcher = guide._rules.answer.begin()
    said: list[int] = []
    plain = {token for token in range(256) if tokenizer.decode([token]) in '"]}),0'}
    closers = [tokenizer.encode(text, add_special_tokens=False) for text in family.closers]
    while not matcher.is_stopped():
        if matcher.is_accepting() and dice.random() < 0.5:
            break
        closer = next(
            (c for c in closers if dice.random() < 0.1 and matcher.validate_tokens(c) == len(c)), None
        )
        bias = matcher.compute_logit_bias()
        allowed = [token for token in range(len(tokenizer)) if bias[token] and token != 256]
        ending = [token for token in allowed if token in plain]
        tokens = closer or [dice.choice(ending if ending and dice.random() < 0.3 else allowed)]
        assert matcher.consume_tokens(tokens), matcher.get_error()
        said += tokens
        assert len(said) < 5000
    return tokenizer.decode(said)


@pytest.mark.parametrize("name", [None, *SCHEMAS])
def test_what_is_written_is_read_back(made: tuple[Family, Any, Any], name: str | None) -> None:
    family, tokenizer, maker = made
    guide = maker.make(GuidePlan(tools=TOOLS, tool_choice="required", tool_name=name))
    parser = importlib.import_module(f"mlx_lm.tool_parsers.{family.parser}")
    for seed in range(5):
        text = written(guide, tokenizer, family, random.Random(seed))
        calls: list[dict[str, Any]] = []
        for block in blocks(text, parser):
            found = parser.parse_tool_call(block, READ)
            calls += found if isinstance(found, list) else [found]
        assert calls
        assert name is None or [call["name"] for call in calls] == [name]
        for call in calls:
            assert fits(call["arguments"], SCHEMAS[call["name"]]), (text, call)


def blocks(text: str, parser: Any) -> list[str]:
    """The text between the marks, as the text state machine gives it."""
    assert text.startswith(parser.tool_call_start)
    if not parser.tool_call_end:
        return [text.removeprefix(parser.tool_call_start)]
    parts = text.split(parser.tool_call_start)[1:]
    assert all(part.rstrip("\n ").endswith(parser.tool_call_end) for part in parts)
    return [part.rstrip("\n ").removesuffix(parser.tool_call_end) for part in parts]
