"""Does a value fit a JSON schema? Only the words that these tests use; any other is an error."""

from __future__ import annotations

import re
import uuid
from typing import Any

_TYPES: dict[str, Any] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def fits(value: Any, schema: Any, root: Any = None) -> bool:
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    return all(_CHECKS[word](value, told, schema, root) for word, told in schema.items())


def _type(value: Any, told: Any, schema: Any, root: Any) -> bool:
    names = [told] if isinstance(told, str) else told
    if isinstance(value, bool):
        return "boolean" in names
    if isinstance(value, float) and value.is_integer() and "integer" in names:
        return True
    return any(isinstance(value, _TYPES[name]) for name in names)


def _ref(value: Any, told: str, schema: Any, root: Any) -> bool:
    found = root
    for part in told.removeprefix("#").strip("/").split("/"):
        found = found[part] if part else found
    return fits(value, found, root)


def _properties(value: Any, told: Any, schema: Any, root: Any) -> bool:
    return not isinstance(value, dict) or all(fits(value[k], s, root) for k, s in told.items() if k in value)


def _additional(value: Any, told: Any, schema: Any, root: Any) -> bool:
    if not isinstance(value, dict):
        return True
    return all(fits(v, told, root) for k, v in value.items() if k not in schema.get("properties", {}))


def _format(value: Any, told: str, schema: Any, root: Any) -> bool:
    if told == "date":
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value))
    assert told == "uuid"
    return str(uuid.UUID(value)) == value.lower()


def _bare(check: Any) -> Any:
    return lambda value, told, schema, root: check(value, told)


_CHECKS: dict[str, Any] = {
    "type": _type,
    "$ref": _ref,
    "properties": _properties,
    "additionalProperties": _additional,
    "format": _format,
    "$defs": _bare(lambda value, told: True),
    "description": _bare(lambda value, told: True),
    "required": _bare(lambda value, told: not isinstance(value, dict) or set(told) <= set(value)),
    "enum": _bare(lambda value, told: value in told),
    "const": _bare(lambda value, told: value == told),
    "minItems": _bare(lambda value, told: not isinstance(value, list) or len(value) >= told),
    "maxItems": _bare(lambda value, told: not isinstance(value, list) or len(value) <= told),
    "minLength": _bare(lambda value, told: not isinstance(value, str) or len(value) >= told),
    "maxLength": _bare(lambda value, told: not isinstance(value, str) or len(value) <= told),
    "minimum": _bare(lambda value, told: not isinstance(value, int | float) or value >= told),
    "maximum": _bare(lambda value, told: not isinstance(value, int | float) or value <= told),
    "pattern": _bare(lambda value, told: not isinstance(value, str) or re.search(told, value) is not None),
    "items": lambda value, told, schema, root: (
        not isinstance(value, list) or all(fits(v, told, root) for v in value)
    ),
    "anyOf": lambda value, told, schema, root: any(fits(value, choice, root) for choice in told),
    "allOf": lambda value, told, schema, root: all(fits(value, choice, root) for choice in told),
}
