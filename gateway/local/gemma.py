"""PURE: Gemma 4's call format: like JSON, but with bare keys and a mark of its own around text.

It is compact: its parser finds a key only right behind a brace or a comma.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway.local.elements import NUMBERS, some
from gateway.local.fields import Unsupported
from gateway.local.lark import Mark, Sheet, escaped, literal
from gateway.local.tool import Parameter, Tool, named, parameters

QUOTE = '<|"|>'
# What a grammar here keeps, or what says nothing about a value.
_KEPT = {"type", "description", "title", "default", "examples", "enum", "const", "properties", "required"}
_KEPT |= {
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "maxLength",
    "anyOf",
    "oneOf",
    "$ref",
    "$defs",
}
_KEPT |= {"definitions", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}


def gemma4(sheet: Sheet, tools: Sequence[Tool], mark: Callable[[str], Mark], parallel: bool) -> str:
    choices = []
    for tool in tools:
        parameters(tool, r"\w+")  # refuses what has no properties by name
        pen = _Pen(sheet, tool, mark(QUOTE))
        choices.append(f"{literal('call:' + named(tool, '[A-Za-z0-9_-]+'))} {pen.members(tool.parameters)}")
    call = sheet.rule(" | ".join(choices))
    return f"{call}{'+' if parallel else ''}"


class _Pen:
    """Writes the values of one tool's arguments."""

    def __init__(self, sheet: Sheet, tool: Tool, quote: Mark) -> None:
        self._sheet, self._tool, self._quote = sheet, tool, quote
        self._shared: dict[str, str] = {}  # rules that are used again, also inside themselves

    def members(self, schema: dict[str, Any]) -> str:
        items = []
        for name, inner in schema.get("properties", {}).items():
            if not re.fullmatch(r"\w+", name):
                raise self._unkept(f"a property named {name[:64]!r}")
            items.append((f"{literal(name + ':')} {self._value(inner)}", name in schema.get("required", ())))
        return f'"{{" {some(items, literal(","))} "}}"'

    def _value(self, schema: Any) -> str:
        if not isinstance(schema, dict):
            return self._any()
        if self._tool.strict and (left := schema.keys() - _KEPT):
            raise self._unkept(min(left))
        if "$ref" in schema:
            return self._again(schema["$ref"], lambda: self._value(self._target(schema["$ref"])))
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            return self._one(map(self._scalar, values))
        for word in ("anyOf", "oneOf"):
            if isinstance(schema.get(word), list):
                return self._one(map(self._value, schema[word]))
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._one(self._value({**schema, "type": name}) for name in kind)
        return self._typed(str(kind), schema)

    def _typed(self, kind: str, schema: dict[str, Any]) -> str:
        match kind:
            case "string":
                return self._text(str(schema.get("maxLength", "")))
            case "object":
                return self.members(schema) if schema.get("properties") else self._object()
            case "array":
                return self._array(schema)
            case "integer" | "number" if Parameter("", schema, required=True).bare:
                return self._sheet.lexeme(NUMBERS[kind])
            case "integer" | "number" | "boolean" | "null":
                return self._sheet.json(schema, strict=self._tool.strict)
            case _:
                return self._any()

    def _array(self, schema: dict[str, Any]) -> str:
        item = self._sheet.rule(self._value(schema.get("items")))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[]"'
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"'

    def _object(self) -> str:
        pair = self._sheet.lexeme("/[A-Za-z_][A-Za-z0-9_]{0,63}:/")
        return f'"{{" ({pair} {self._any()} ("," {pair} {self._any()})*)? "}}"'

    def _any(self) -> str:
        def body() -> str:
            number, array = self._sheet.lexeme(NUMBERS["number"]), self._array({})
            return f'{self._text("")} | {number} | "true" | "false" | "null" | {array} | {self._object()}'

        return self._again("any value", body)

    def _again(self, key: str, body: Callable[[], str]) -> str:
        if key not in self._shared:
            self._shared[key] = self._sheet.reserve()
            self._sheet.define(self._shared[key], body())
        return self._shared[key]

    def _target(self, ref: str) -> Any:
        found: Any = self._tool.parameters
        for part in ref.removeprefix("#/").split("/"):
            if not isinstance(found, dict) or part not in found:
                raise self._unkept(f"the reference {ref[:64]!r}")
            found = found[part]
        return found

    def _text(self, most: str) -> str:
        body = f"(?s:.{{0,{most}}})"
        if self._quote.token is not None:
            return f"{self._quote} {self._sheet.lexeme(f'/{body}/')} {self._quote}"
        return f"{self._quote} {self._sheet.lazy(f'/{body}{escaped(QUOTE)}/')}"

    def _scalar(self, value: Any) -> str:
        if isinstance(value, dict | list):
            raise self._unkept("an enum of objects or lists")
        if isinstance(value, str):
            return (
                f"{self._quote} {literal(value)} {self._quote}" if value else f"{self._quote} {self._quote}"
            )
        return literal(json.dumps(value))

    def _one(self, choices: Iterable[str]) -> str:
        return f"({' | '.join(choices)})"

    def _unkept(self, what: str) -> Unsupported:
        return Unsupported(self._tool.field, f"{self._tool.field}: this model's format can't keep {what}")
