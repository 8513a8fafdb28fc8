"""PURE: the items of a request as they are kept and shown: each with a type, an id and parts."""

from __future__ import annotations

from gateway.wire.translate.responses_fields import Json
from gateway.wire.translate.responses_names import Names

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "additional_tools": "at",
}


def named_items(items: list[Json], names: Names) -> list[Json]:
    """Copies of the items in the form that the API gives them back in; what they say is the same."""
    return [_named(item, names) for item in items]


def _named(item: Json, names: Names) -> Json:
    kind = item.get("type") or "message"
    named = {**item, "type": kind}
    if named.get("id") is None:
        named["id"] = names.give(_PREFIXES.get(kind, "item"))
    if kind == "message":
        named.setdefault("status", "completed")
        if isinstance(said := named.get("content"), str):
            named["content"] = [_part(said, by_assistant=named.get("role") == "assistant")]
    return named


def _part(said: str, *, by_assistant: bool) -> Json:
    if by_assistant:
        return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": said}
