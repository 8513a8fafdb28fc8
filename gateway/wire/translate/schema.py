"""PURE: an answer that must fit a JSON schema, as both APIs ask for it."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.fields import Changes, Fields, no_way, wrong

_NAME = "answer"  # OpenAI wants one
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_TABLES = ("properties", "$defs", "definitions")


def format_for_messages(asked: Fields, changes: Changes) -> dict[str, Any] | None:
    """Anthropic's `output_config.format` out of a chat's `response_format`; None for plain text.

    `json_object`, which is any object at all, is refused: Anthropic guarantees nothing but a schema.
    """
    wanted = asked.fields("response_format")
    if wanted is None:
        return None
    kind = wanted.take("type")
    if kind == "text":
        return None
    if kind == "json_object":
        raise no_way("response_format", "it can only be had with a json_schema")
    if kind != "json_schema":
        raise wrong("response_format.type", "text, json_object or json_schema", kind)
    described = wanted.fields("json_schema")
    if described is None:
        raise wrong("response_format.json_schema", "an object", None)
    schema = described.take("schema")
    if not isinstance(schema, dict):
        raise wrong("response_format.json_schema.schema", "an object", schema)
    for name in ("name", "strict"):  # a name says nothing; what was loose is kept to
        described.take(name)
    described.drop_rest(changes)
    return {"type": "json_schema", "schema": schema}


def format_for_chat(wanted: Fields, changes: Changes, *, local: bool) -> dict[str, Any]:
    """A chat's `response_format` out of Anthropic's.

    OpenAI guarantees only schemas that say of each object what exactly is in it. Others are passed on
    without `strict`, so that they are not refused, and that is said.
    """
    kind = wanted.take("type")
    if kind != "json_schema":
        raise wrong(wanted.at("type"), "json_schema", kind)
    schema = wanted.take("schema")
    if not isinstance(schema, dict):
        raise wrong(wanted.at("schema"), "an object", schema)
    wanted.drop_rest(changes)
    described: dict[str, Any] = {"name": _NAME, "schema": schema}
    if local or _is_exact(schema):
        described["strict"] = True
    else:
        changes.note("output_config.format")
    return {"type": "json_schema", "json_schema": described}


def _is_exact(schema: object) -> bool:
    """Does every object in the schema require all of its properties and allow no others?"""
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        required = schema.get("required")
        names = set(properties) if isinstance(properties, dict) else set()
        if schema.get("additionalProperties") is not False:
            return False
        if not isinstance(required, list) or names - {name for name in required if isinstance(name, str)}:
            return not names and required is None
    inner: list[object] = [schema.get("items")]
    for key in _LISTS:
        found = schema.get(key)
        inner.extend(found if isinstance(found, list) else ())
    for key in _TABLES:
        table = schema.get(key)
        inner.extend(table.values() if isinstance(table, dict) else ())
    return all(map(_is_exact, inner))
