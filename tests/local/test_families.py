"""What the formats of calls refuse; what they allow is written and read back beside the engine."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.local.families import FORMATS
from gateway.local.fields import Unsupported
from gateway.local.lark import Mark, Sheet
from gateway.local.tool import Tool

ELEMENTS = (
    "gemma4",
    "glm47",
    "kimi_k3",
    "laguna",
    "longcat",
    "minicpm5",
    "minimax_m2",
    "pythonic",
    "qwen3_coder",
)


def body(
    family: str, schema: dict[str, Any], *, name: str = "f", strict: bool = False, token: int | None = None
) -> str:
    """The grammar of one tool's call; marks are text, or all the same token."""
    sheet = Sheet()
    tool = Tool("tools[0].function.parameters", name, {"type": "object", **schema}, strict)
    parts = () if token is None else (token,)
    return sheet.text(FORMATS[family].body(sheet, [tool], lambda text: Mark(text, parts), False))


def one(schema: Any) -> dict[str, Any]:
    return {"properties": {"a": schema}, "required": ["a"]}


@pytest.mark.parametrize("family", ELEMENTS)
def test_a_parameter_without_a_name_of_its_own_is_refused(family: str) -> None:
    for schema in ({"$ref": "#/$defs/x"}, {"properties": {"a b": {}}}, {"required": ["a"]}):
        with pytest.raises(Unsupported):
            body(family, schema)


@pytest.mark.parametrize("family", [*ELEMENTS, "mistral"])
def test_a_tool_that_the_format_can_not_name_is_refused(family: str) -> None:
    with pytest.raises(Unsupported):
        body(family, {}, name="what is it?")


@pytest.mark.parametrize("family", [family for family in ELEMENTS if family not in ("gemma4", "pythonic")])
def test_text_without_quotes_is_held_to_its_length_alone(family: str) -> None:
    schema = one({"type": "string", "pattern": "a+", "maxLength": 7})
    assert "{0,7}" in body(family, schema)
    with pytest.raises(Unsupported) as caught:
        body(family, schema, strict=True)
    assert "pattern" in str(caught.value)
    assert body(family, one({"type": "string", "maxLength": 7}), strict=True)


@pytest.mark.parametrize("family", ELEMENTS)
def test_a_mark_that_is_a_token_closes_text_by_its_number(family: str) -> None:
    grammar = body(family, one({"type": "string"}), token=7)
    assert "<[7]>" in grammar or family == "pythonic"
    assert "[lazy]" not in grammar


def test_python_has_words_that_are_no_names() -> None:
    for name in ("from", "a-b"):
        with pytest.raises(Unsupported):
            body("pythonic", {"properties": {name: {}}})


def test_a_call_without_arguments_in_longcat_is_json() -> None:
    assert '"name\\": \\"f\\"' in body("longcat", {})
    assert '"name\\": \\"f\\"' in body("longcat", {"properties": {"a": {}}})
    assert '"name\\": \\"f\\"' not in body("longcat", one({}))


def test_what_has_no_type_is_text_to_qwen() -> None:
    for schema in ({}, {"description": "d"}, {"enum": ["a"]}):
        assert "%json" not in body("qwen3_coder", one(schema))
    for schema in ({"anyOf": [{}]}, {"enum": [1]}, {"type": "array"}):
        assert "%json" in body("qwen3_coder", one(schema))


def test_kimi_says_the_type_of_what_is_no_text() -> None:
    assert '("integer\\"")' in body("kimi_k3", one({"type": "integer"}))
    assert '"null\\"" | "boolean\\"" |' in body("kimi_k3", one({"anyOf": [{}]}))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a"},
        {"properties": {"a b": {}}, "type": "object"},
        {"enum": [[1]]},
        {"$ref": "#/$defs/none"},
        {"$ref": "#/properties/a/type/x"},
        {"type": "array", "items": {"not": {}}},
    ],
)
def test_what_gemma_can_not_keep_is_refused_if_strict(schema: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        body("gemma4", one(schema), strict=True)


def test_gemma_writes_values_of_its_own() -> None:
    schema = {
        "properties": {
            "any": True,
            "open": {"type": "object"},
            "list": {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 3},
            "none": {"type": "array", "maxItems": 0},
            "kinds": {"type": ["boolean", "string"]},
            "choice": {"oneOf": [{"const": ""}, {"enum": [5, None]}]},
            "tree": {"$ref": "#/$defs/tree"},
            "low": {"type": "integer", "minimum": 3},
        },
        "$defs": {"tree": {"type": "object", "properties": {"kids": {"items": {"$ref": "#/$defs/tree"}}}}},
    }
    grammar = body("gemma4", schema)
    assert '){1,2} "]"' in grammar
    assert '"[]"' in grammar
    assert '"5" | "null"' in grammar
    assert grammar.count("%json") == 3  # null, boolean, and the integer that has a bound


@pytest.mark.parametrize("family", FORMATS)
def test_every_family_names_the_tool(family: str) -> None:
    for schema in ({"type": "string"}, {"type": "integer"}, {"type": "array"}, {"enum": ["b", "c"]}):
        assert "call_me" in body(family, one(schema), name="call_me")
