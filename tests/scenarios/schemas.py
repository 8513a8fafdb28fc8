"""Says how a value fails a JSON Schema: the keywords that these tests use, checked in the plainest way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_KNOWN = frozenset(
    [
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
        "anyOf",
        "$ref",
        "$defs",
        "title",
        "description",
    ]
)


def faults(value: Any, schema: Any, root: Any = None, at: str = "$") -> list[str]:
    """Everything about `value` that `schema` does not allow; raises on a keyword that it does not know."""
    root = schema if root is None else root
    assert schema.keys() <= _KNOWN, f"unknown to this checker: {schema.keys() - _KNOWN}"
    return list(_faults(value, schema, root, at))


def _faults(value: Any, schema: dict[str, Any], root: Any, at: str) -> Iterator[str]:
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[part] if part else target
        yield from faults(value, target, root, at)
    if "anyOf" in schema and all(faults(value, one, root, at) for one in schema["anyOf"]):
        yield f"{at} fits none of {len(schema['anyOf'])}"
    kinds = schema.get("type", [*_KINDS])
    if not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{at} is no {kinds}: {value!r}"
    elif ("enum" in schema and value not in schema["enum"]) or (
        "const" in schema and value != schema["const"]
    ):
        yield f"{at} may not be {value!r}"
    elif isinstance(value, dict):
        yield from _of_object(value, schema, root, at)
    elif isinstance(value, list):
        yield from _of_array(value, schema, root, at)
    elif isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{at} is {len(value)} long"
        if not re.search(schema.get("pattern", ""), value):
            yield f"{at} has not the pattern: {value!r}"
    elif _is(value, "number") and not (schema.get("minimum", value) <= value <= schema.get("maximum", value)):
        yield f"{at} is out of range: {value}"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS[kind]) or (
        kind == "integer" and isinstance(value, float) and value.is_integer()
    )


def _of_object(value: dict[str, Any], schema: dict[str, Any], root: Any, at: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}.{name} is missing"
    for name, item in value.items():
        rest = schema.get("additionalProperties", True)
        if name in properties:
            yield from faults(item, properties[name], root, f"{at}.{name}")
        elif rest is False:
            yield f"{at}.{name} may not be there"
        elif isinstance(rest, dict):
            yield from faults(item, rest, root, f"{at}.{name}")


def _of_array(value: list[Any], schema: dict[str, Any], root: Any, at: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{at} has {len(value)} items"
    if schema.get("uniqueItems") and any(item in value[:i] for i, item in enumerate(value)):
        yield f"{at} has the same item twice"
    first = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        wanted = first[index] if index < len(first) else schema.get("items", {})
        yield from faults(item, wanted, root, f"{at}[{index}]")
