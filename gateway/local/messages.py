"""PURE: the messages of a chat, checked, and in the shape that chat templates expect.

Templates want content as one string and a tool call's arguments as an object; `developer` is
the newer name of `system` and no template knows it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.local.fields import Unsupported, array, table, text, wrong

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
# Keys that SDKs send back with an assistant's message, or that steer a cloud's cache.
_WITHOUT_EFFECT = frozenset({"annotations", "refusal", "id", "cache_control"})
_KEPT = ("name", "tool_call_id", "reasoning_content", "reasoning")


def read_messages(value: Any) -> list[dict[str, Any]]:
    """Check the messages and give copies for a template; raise RequestError or Unsupported."""
    messages = array("messages", value)
    if not messages:
        raise wrong("messages", "a list with at least one message", value)
    return [_message(f"messages[{index}]", item) for index, item in enumerate(messages)]


def _message(path: str, item: Any) -> dict[str, Any]:
    raw = {key: value for key, value in table(path, item).items() if value is not None}
    role = raw.pop("role", None)
    if role == "function" or "function_call" in raw:
        raise Unsupported(path, f"{path}: function calls of the old kind are not known here; use tools")
    if not isinstance(role, str) or role not in ROLES:
        raise wrong(f"{path}.role", "system, developer, user, assistant or tool", role)
    message: dict[str, Any] = {"role": ROLES[role], "content": _content(path, role, raw)}
    calls = raw.pop("tool_calls", None)
    if calls:
        message["tool_calls"] = _calls(f"{path}.tool_calls", calls)
    for key in _KEPT:
        if key in raw:
            message[key] = text(f"{path}.{key}", raw.pop(key))
    for key in raw:
        if key not in _WITHOUT_EFFECT:
            raise Unsupported(f"{path}.{key}", f"{path}.{key} is not a field that the local engine knows")
    return message


def _content(path: str, role: str, raw: dict[str, Any]) -> str:
    content = raw.pop("content", None)
    if content is None and role == "assistant":
        return text(f"{path}.refusal", raw.get("refusal", ""))
    if isinstance(content, list):
        return "".join(_part(f"{path}.content[{index}]", part) for index, part in enumerate(content))
    return text(f"{path}.content", content)


def _part(path: str, part: Any) -> str:
    kind = table(path, part).get("type")
    if kind in ("text", "refusal"):
        return text(f"{path}.{kind}", part.get(kind))
    if not isinstance(kind, str):
        raise wrong(f"{path}.type", "a string", kind)
    raise Unsupported(path, f"{path}: the local model takes text only, not {kind[:40]}")


def _calls(path: str, value: Any) -> list[dict[str, Any]]:
    return [_call(f"{path}[{index}]", item) for index, item in enumerate(array(path, value))]


def _call(path: str, item: Any) -> dict[str, Any]:
    function = table(f"{path}.function", table(path, item).get("function"))
    call: dict[str, Any] = {
        "type": "function",
        "function": {
            "name": text(f"{path}.function.name", function.get("name")),
            "arguments": _arguments(f"{path}.function.arguments", function.get("arguments", "")),
        },
    }
    if item.get("id") is not None:
        call["id"] = text(f"{path}.id", item["id"])
    return call


def _arguments(path: str, value: Any) -> Any:
    """The object that the JSON text holds; text that is none (a model wrote it) stays text."""
    try:
        return msgspec.json.decode(text(path, value) or "{}")
    except (msgspec.DecodeError, RecursionError):
        return value
