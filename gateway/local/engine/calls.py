"""From the text of a tool call, in the model family's own format, to calls as OpenAI writes them."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any, NamedTuple

from gateway.local.tool import inlined

log = logging.getLogger(__name__)


class ToolCall(NamedTuple):
    """A call of a tool, with its arguments as JSON text."""

    call_id: str
    name: str
    arguments: str


def new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def parse_calls(text: str, tokenizer: Any, tools: list[dict[str, Any]]) -> list[ToolCall]:
    """The calls that `text` holds; an empty list when it holds none that can be understood."""
    try:
        found = tokenizer.tool_parser(text, [_inlined(tool) for tool in tools])
    except Exception as error:  # a parser fails in its own way on what a model may write
        log.warning("a tool call can't be understood: %s", type(error).__name__)
        return []
    calls = [_call(item) for item in (found if isinstance(found, list) else [found])]
    return [] if None in calls else [call for call in calls if call is not None]


def _inlined(tool: dict[str, Any]) -> dict[str, Any]:
    """The tool with the references in its parameters written out, which the parsers don't follow."""
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("parameters"), dict):
        return tool
    return {**tool, "function": {**function, "parameters": inlined(function["parameters"])}}


def _call(item: Any) -> ToolCall | None:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        return None
    arguments = item.get("arguments", {})
    if not isinstance(arguments, str):
        try:
            arguments = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            return None
    given = item.get("id")
    return ToolCall(
        given if isinstance(given, str) and given else new_call_id(),
        item["name"],
        arguments,
    )
