"""What a grammar needs to know of a tool."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.local.fields import Unsupported
from gateway.local.tool import Parameter, Tool, inlined, kinds, named, parameters


def tool(schema: dict[str, Any], name: str = "f") -> Tool:
    return Tool("tools[0].function.parameters", name, schema, strict=False)


def test_a_name_that_the_format_can_hold() -> None:
    assert named(tool({}, "get_weather"), r"\w+") == "get_weather"
    with pytest.raises(Unsupported) as caught:
        named(tool({}, "get weather"), r"\w+")
    assert caught.value.param == "tools[0].function.parameters"


def test_parameters_come_in_their_order() -> None:
    found = parameters(
        tool({"properties": {"b": {"type": "string"}, "a": True}, "required": ["a"]}),
    )
    assert found == [Parameter("b", {"type": "string"}, required=False), Parameter("a", {}, required=True)]
    assert parameters(tool({})) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a"},
        {"anyOf": [{}]},
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a b": {}}},
    ],
)
def test_parameters_that_have_no_name_of_their_own_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        parameters(tool(schema))


def test_references_of_properties_are_followed() -> None:
    """Before, a parser took what a property refers to for text, whatever it was."""
    defs = {
        "a": {"type": "integer", "description": "first"},
        "b": {"$ref": "#/$defs/a"},
        "loop": {"$ref": "#/$defs/loop"},
        "deep": {"type": "array", "items": {"$ref": "#/$defs/a"}},
    }
    names = ("a", "b", "loop", "deep", "nowhere", "a/type/x")
    schema = {"properties": {name: {"$ref": f"#/$defs/{name}"} for name in names}, "$defs": defs}
    schema["properties"]["a"] = {"$ref": "#/$defs/a", "description": "second"}  # type: ignore[index]
    schema["properties"]["odd"] = {"$ref": 5}  # type: ignore[index]
    schema["properties"]["any"] = True  # type: ignore[index]
    found = inlined(schema)["properties"]
    assert found["a"] == {"type": "integer", "description": "second"}
    assert found["b"] == {"type": "integer", "description": "first"}
    assert found["loop"] == {"$ref": "#/$defs/loop"}
    assert found["deep"] == defs["deep"]
    assert found["nowhere"] == {"$ref": "#/$defs/nowhere"}
    assert found["a/type/x"] == {"$ref": "#/$defs/a/type/x"}
    assert found["odd"] == {"$ref": 5}
    assert found["any"] is True
    # What still refers to something takes along what it refers to.
    by_name = {one.name: one for one in parameters(tool(schema), r"[\w/]+")}
    assert by_name["deep"].schema["$defs"] == defs
    assert "$defs" not in by_name["a"].schema


def test_a_schema_without_properties_stays_as_it_is() -> None:
    assert inlined({"type": "object"}) == {"type": "object"}


def test_bare_types_and_words() -> None:
    assert Parameter("a", {"type": "integer", "description": "d"}, required=True).bare
    assert not Parameter("a", {"type": "integer", "minimum": 1}, required=True).bare
    for schema, words in (
        ({"enum": ["a", "b"]}, ["a", "b"]),
        ({"const": "a"}, ["a"]),
        ({"enum": ["a", 1]}, None),
        ({"enum": []}, None),
        ({"const": 5}, None),
        ({"type": "string"}, None),
    ):
        assert Parameter("a", schema, required=True).words == words


def test_kinds() -> None:
    for schema, found in (
        ({"type": "integer"}, {"integer"}),
        ({"type": ["string", "null", 5]}, {"string", "null"}),
        (
            {"enum": [None, True, 1, 1.5, "a", [], {}]},
            {"null", "boolean", "integer", "number", "string", "array", "object"},
        ),
        (
            {"anyOf": [{"type": "integer"}, {"oneOf": [{"type": "array"}]}], "allOf": None},
            {"integer", "array"},
        ),
        ({}, {"string"}),
        (True, {"string"}),
    ):
        assert kinds(schema) == found
