"""PURE: a tool as a grammar needs it: its name, and its parameters one by one."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from gateway.local.fields import Unsupported

_MOST_STEPS = 8  # from one reference to the next
_COMMENTS = {"type", "description", "title", "default", "examples"}


class Tool(msgspec.Struct, frozen=True):
    """A tool that may be called; `field` is where its schema stands in the request."""

    field: str
    name: str
    parameters: dict[str, Any]
    strict: bool


class Parameter(NamedTuple):
    """One property of a tool's arguments."""

    name: str
    schema: dict[str, Any]
    required: bool

    @property
    def bare(self) -> bool:
        """Does its schema say nothing but a type?"""
        return not self.schema.keys() - _COMMENTS

    @property
    def words(self) -> list[str] | None:
        """The strings that it may be, if it can be nothing else."""
        values = [self.schema["const"]] if "const" in self.schema else self.schema.get("enum")
        if not isinstance(values, list) or not values or not all(isinstance(item, str) for item in values):
            return None
        return values


def named(tool: Tool, pattern: str) -> str:
    """The tool's name, if the model's format can hold it."""
    if not re.fullmatch(pattern, tool.name):
        raise Unsupported(tool.field, f"this model's format can't name a tool {tool.name[:64]!r}")
    return tool.name


def parameters(tool: Tool, pattern: str = r"[\w.$-]+") -> list[Parameter]:
    """The properties of the arguments, for formats that write each as an element of its own."""
    properties = inlined(tool.parameters).get("properties", {})
    required = tool.parameters.get("required", [])
    if tool.parameters.keys() & {"$ref", "anyOf", "oneOf", "allOf"} or not set(required) <= set(properties):
        raise Unsupported(tool.field, f"{tool.field}: this model's format needs every property by its name")
    shared: dict[str, Any] = {
        key: tool.parameters[key] for key in ("$defs", "definitions") if key in tool.parameters
    }
    found = []
    for name, schema in properties.items():
        if not re.fullmatch(pattern, name):
            raise Unsupported(tool.field, f"this model's format can't name a parameter {name[:64]!r}")
        given = schema if isinstance(schema, dict) else {}
        found.append(
            Parameter(name, {**shared, **given} if "$ref" in str(given) else given, name in required)
        )
    return found


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A tool's parameters, with what a property only refers to written out.

    mlx-lm's parsers look at a property's own type and take what they don't find there for text.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return schema
    return {**schema, "properties": {name: _followed(schema, value) for name, value in properties.items()}}


def _followed(root: dict[str, Any], schema: Any) -> Any:
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, dict) or not isinstance(ref := schema.get("$ref"), str):
            break
        target: Any = root
        for part in ref.removeprefix("#/").split("/"):
            target = target.get(part) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            break
        schema = target | {key: value for key, value in schema.items() if key != "$ref"}
    return schema


def kinds(schema: Any) -> set[str]:
    """The types that a value may have, as mlx-lm's parsers for MiniMax and MiniCPM gather them."""
    if not isinstance(schema, dict):
        return {"string"}
    kind = schema.get("type", [])
    found = {kind} if isinstance(kind, str) else {item for item in kind if isinstance(item, str)}
    if isinstance(schema.get("enum"), list):
        found |= {_kind(value) for value in schema["enum"]}
    for word in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(word) or ():
            found |= kinds(choice)
    return found or {"string"}


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
