"""PURE: a system prompt and turns of Anthropic's as the messages of a chat.

One turn may become several messages: results of tools are messages of their own, which must come right
behind the calls, and what the user says beside them follows. What a tool has shown in pictures goes there
too, because a chat's tools can only tell.
"""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.fields import Changes, Fields, encode, no_way, wrong
from gateway.wire.translate.media import document_parts, image_part, search_result_parts
from gateway.wire.translate.names import ToolNames, chat_call_id

Part = dict[str, Any]
Content = str | list[Part]

_BILLING = "x-anthropic-billing-header:"


class Manner:
    """How the target wants the messages: what it may be told, and what was changed for it."""

    __slots__ = ("changes", "local", "names", "thoughts")

    def __init__(self, names: ToolNames, changes: Changes, *, local: bool, thoughts: bool) -> None:
        self.names = names
        self.changes = changes
        self.local = local
        self.thoughts = thoughts


def chat_messages(asked: Fields, manner: Manner) -> list[Part]:
    """`system` and `messages` as one list. Raises UntranslatableError for what has no place in it."""
    made: list[Part] = []
    system = asked.take("system")
    if system is not None:
        content = _system(system, manner)
        if content:
            made.append({"role": "system", "content": content})
    for index, item in enumerate(asked.array("messages")):
        message = Fields(f"messages[{index}]", item)
        role = message.take("role")
        if role == "user":
            made.extend(_user(message, manner))
        elif role == "assistant":
            made.append(_assistant(message, manner))
        elif role == "system":
            made.append({"role": "system", "content": _content(_texts(_blocks(message), manner))})
        else:
            raise no_way(message.at("role"), "user, assistant and system are known")
        message.drop_rest(manner.changes)
    return made


def _system(system: object, manner: Manner) -> Content:
    if isinstance(system, str):
        return _without_billing(system, manner)
    if not isinstance(system, list):
        raise wrong("system", "a string or a list", system)
    parts = _texts([Fields(f"system[{index}]", item) for index, item in enumerate(system)], manner)
    if parts:
        parts[0]["text"] = _without_billing(parts[0]["text"], manner)
    return _content([part for part in parts if part["text"]])


def _without_billing(text: str, manner: Manner) -> str:
    """Without the line that changes with every request, and would keep a local model from reusing prompts."""
    if not manner.local or not text.startswith(_BILLING):
        return text
    manner.changes.note("system")
    return text.partition("\n")[2]


def _user(message: Fields, manner: Manner) -> list[Part]:
    results: list[Part] = []
    shown: list[Part] = []
    parts: list[Part] = []
    for block in _blocks(message):
        if block.left.get("type") == "tool_result":
            results.append(_result(block, shown, manner))
        else:
            parts.extend(_parts(block, manner))
    parts = [*shown, *parts]
    if parts or not results:
        return [*results, {"role": "user", "content": _content(parts)}]
    return results


def _result(block: Fields, shown: list[Part], manner: Manner) -> Part:
    block.take("type")
    call_id = chat_call_id(block.needed("tool_use_id"), manner.changes)
    parts = [part for inner in _blocks(block) for part in _parts(inner, manner)]
    told = [part for part in parts if part["type"] == "text"]
    if len(told) < len(parts):
        manner.changes.note("tool_result")
        shown.extend(part for part in parts if part["type"] != "text")
    if block.flag("is_error"):
        manner.changes.note("is_error")
    block.drop_rest(manner.changes)
    return {"role": "tool", "tool_call_id": call_id, "content": _content(told)}


def _assistant(message: Fields, manner: Manner) -> Part:
    texts: list[Part] = []
    thoughts: list[Part] = []
    calls: list[Part] = []
    for block in _blocks(message):
        kind = block.needed("type")
        if kind == "text":
            texts.append(_text(block, manner))
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append({"type": kind, **_thought(block, kind)})
        elif kind == "tool_use":
            calls.append(_call(block, manner))
        else:
            raise no_way(block.at("type"), "only text, thinking and calls of tools are known on both sides")
        block.drop_rest(manner.changes)
    content = _content(texts)
    made: Part = {"role": "assistant", "content": content or (None if calls else "")}
    if thoughts:
        made.update(_kept(thoughts, manner))
    if calls:
        made["tool_calls"] = calls
    return made


def _thought(block: Fields, kind: str) -> Part:
    if kind == "redacted_thinking":
        return {"data": block.needed("data")}
    return {"thinking": block.needed("thinking"), "signature": block.text("signature") or ""}


def _kept(thoughts: list[Part], manner: Manner) -> Part:
    """What of the earlier thinking the target is told: a local model the words, others what they know."""
    kept: Part = {}
    words = "".join(block.get("thinking", "") for block in thoughts)
    if words and (manner.local or manner.thoughts):
        kept["reasoning_content"] = words
    if manner.thoughts:
        kept["thinking_blocks"] = thoughts
    elif not kept or any(block.get("signature") != "" for block in thoughts):
        manner.changes.note("thinking")
    return kept


def _call(block: Fields, manner: Manner) -> Part:
    given = block.take("input")
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise wrong(block.at("input"), "an object", given)
    call_id = chat_call_id(block.needed("id"), manner.changes)
    name = manner.names.there(block.needed("name"))
    block.take("caller")
    function = {"name": name, "arguments": encode(given).decode()}
    return {"id": call_id, "type": "function", "function": function}


def _parts(block: Fields, manner: Manner) -> list[Part]:
    kind = block.needed("type")
    match kind:
        case "text":
            parts = [_text(block, manner)]
        case "image":
            parts = [image_part(block, manner.changes)]
        case "document":
            parts = document_parts(block, manner.changes)
        case "search_result":
            parts = search_result_parts(block, manner.changes)
        case _:
            raise no_way(block.at("type"), "only text, pictures and documents are known on both sides")
    block.drop_rest(manner.changes)
    return parts


def _texts(blocks: list[Fields], manner: Manner) -> list[Part]:
    made: list[Part] = []
    for block in blocks:
        if block.needed("type") != "text":
            raise no_way(block.at("type"), "a system prompt is text")
        made.append(_text(block, manner))
        block.drop_rest(manner.changes)
    return made


def _text(block: Fields, manner: Manner) -> Part:
    if block.take("citations"):
        manner.changes.note("citations")
    return {"type": "text", "text": block.needed("text")}


def _blocks(owner: Fields) -> list[Fields]:
    """The content of a message or of a tool's result; a string is one block of text."""
    content = owner.take("content")
    at = owner.at("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [Fields(at, {"type": "text", "text": content})]
    if not isinstance(content, list):
        raise wrong(at, "a string or a list", content)
    return [Fields(f"{at}[{index}]", item) for index, item in enumerate(content)]


def _content(parts: list[Part]) -> Content:
    """Parts as a message's content: one text is a string, which the simplest of servers take too."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts
