"""PURE: the messages of a chat as Anthropic's: system prompt and turns.

Anthropic wants turns that take turns: what follows each other in one role becomes one message, so that
several results of tools are one message with the user's words behind them. System messages at the front are
the system prompt; later ones stay in their place where the model takes them there, and join it otherwise.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.translate.effort import SYSTEM_TURNS
from gateway.wire.translate.fields import Changes, Fields, encode, no_way, wrong
from gateway.wire.translate.media import document_block, image_block
from gateway.wire.translate.names import ToolNames, messages_call_id

Block = dict[str, Any]
Content = str | list[Block]
BROKEN_JSON = "INVALID_JSON"  # the key under which Anthropic advises to send back what a model wrote wrongly

_SYSTEM = ("system", "developer")


class Conversation:
    """What a chat's messages became."""

    __slots__ = ("messages", "system")

    def __init__(self) -> None:
        self.system: Content | None = None
        self.messages: list[dict[str, Any]] = []

    def add(self, role: str, content: Content) -> None:
        last = self.messages[-1] if self.messages else None
        if last is not None and last["role"] == role:
            last["content"] = [*_blocks(last["content"]), *_blocks(content)]
        else:
            self.messages.append({"role": role, "content": content})

    def add_system(self, content: Content) -> None:
        if self.system is None:
            self.system = content
        else:
            self.system = [*_blocks(self.system), *_blocks(content)]

    @property
    def lacks_thinking(self) -> bool:
        """Does the answer go on from calls that came without their thinking? A budget is refused then."""
        for message in reversed(self.messages):
            if message["role"] == "assistant":
                blocks = _blocks(message["content"])
                called = any(block["type"] == "tool_use" for block in blocks)
                return called and blocks[0]["type"] not in ("thinking", "redacted_thinking")
        return False


def conversation_of(
    asked: Fields, version: tuple[int, int], names: ToolNames, changes: Changes
) -> Conversation:
    """Read `messages`. Raises UntranslatableError for what has no place in Anthropic's."""
    items = asked.array("messages")
    made = Conversation()
    for index, item in enumerate(items):
        message = Fields(f"messages[{index}]", item)
        role = message.take("role")
        if role in _SYSTEM:
            _add_system(made, message, changes, in_place=version >= SYSTEM_TURNS and _ends_turn(items, index))
        elif role == "user":
            _add(made, "user", _content(message, changes), changes)
        elif role == "assistant":
            _add(made, "assistant", _answer(message, names, changes), changes)
        elif role == "tool":
            made.add("user", [_result(message, changes)])
        else:
            raise no_way(message.at("role"), "system, developer, user, assistant and tool are known")
        message.drop_rest(changes)
    return made


def _add(made: Conversation, role: str, content: Content, changes: Changes) -> None:
    if content:
        made.add(role, content)
    else:  # a message without content is refused
        changes.note("messages")


def _add_system(made: Conversation, message: Fields, changes: Changes, *, in_place: bool) -> None:
    content = _content(message, changes)
    if not content:
        return
    if not made.messages:
        made.add_system(content)
    elif in_place and made.messages[-1]["role"] in ("user", "system"):
        made.add("system", content)
    else:
        changes.note("messages.role")
        made.add_system(content)


def _ends_turn(items: list[Any], index: int) -> bool:
    """Is the next message that is no system message the assistant's, or is there none?"""
    for item in items[index + 1 :]:
        role = item.get("role") if isinstance(item, dict) else None
        if role not in _SYSTEM:
            return bool(role == "assistant")
    return True


def _content(message: Fields, changes: Changes) -> Content:
    content = message.take("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content if _is_said(content, changes) else ""
    if not isinstance(content, list):
        raise wrong(message.at("content"), "a string or a list", content)
    parts = [_part(Fields(f"{message.at('content')}[{i}]", item), changes) for i, item in enumerate(content)]
    return [part for part in parts if part is not None]


def _part(part: Fields, changes: Changes) -> Block | None:
    kind = part.needed("type")
    match kind:
        case "text" | "refusal":
            text = part.needed(kind)
            block: Block | None = {"type": "text", "text": text} if _is_said(text, changes) else None
        case "image_url":
            block = image_block(part, changes)
        case "file":
            block = document_block(part, changes)
        case _:
            raise no_way(part.at("type"), "only text, pictures and files are known on both sides")
    cached = part.take("cache_control")
    if block is not None and isinstance(cached, dict):  # not OpenAI's, but what its clients send for Claude
        block["cache_control"] = cached
    part.drop_rest(changes)
    return block


def _answer(message: Fields, names: ToolNames, changes: Changes) -> Content:
    if message.take("function_call") is not None:
        raise no_way(message.at("function_call"), "only tools are known on both sides")
    if message.take("audio") is not None:
        raise no_way(message.at("audio"), "only text is known on both sides")
    thoughts = _thoughts(message, changes)
    content = _content(message, changes)
    refusal = message.text("refusal")
    calls = [
        _call(Fields(f"{message.at('tool_calls')}[{index}]", item), names, changes)
        for index, item in enumerate(message.array("tool_calls"))
    ]
    if not thoughts and not calls and not refusal:
        return content
    said = _blocks(content)
    if refusal:
        changes.note("refusal")
        said.append({"type": "text", "text": refusal})
    return [*thoughts, *said, *calls]


def _thoughts(message: Fields, changes: Changes) -> list[Block]:
    """The thinking that the client has kept with its signature; without one it would be refused."""
    blocks: list[Block] = []
    for item in message.array("thinking_blocks"):
        block = item if isinstance(item, dict) else {}
        kind, thinking, signature, data = (block.get(k) for k in ("type", "thinking", "signature", "data"))
        if kind == "thinking" and isinstance(thinking, str) and isinstance(signature, str) and signature:
            blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
        elif kind == "redacted_thinking" and isinstance(data, str):
            blocks.append({"type": "redacted_thinking", "data": data})
        else:
            changes.note("thinking_blocks")
    for name in ("reasoning_content", "reasoning"):
        if message.take(name) and not blocks:
            changes.note(name)
    return blocks


def _call(call: Fields, names: ToolNames, changes: Changes) -> Block:
    if call.take("type") not in (None, "function"):
        raise no_way(call.at("type"), "only calls of functions are known on both sides")
    function = call.fields("function")
    if function is None:
        raise wrong(call.at("function"), "an object", None)
    call.take("index")
    call_id = messages_call_id(call.needed("id"), changes)
    name = names.there(function.needed("name"))
    arguments = arguments_of(function.text("arguments") or "")
    if BROKEN_JSON in arguments:
        changes.note("arguments")
    function.drop_rest(changes)
    call.drop_rest(changes)
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def arguments_of(text: str) -> dict[str, Any]:
    """The object that a call's arguments are; what is none is wrapped into one."""
    if not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text)
        encode(found)
    except (ValueError, RecursionError):
        return {BROKEN_JSON: text}
    return found if isinstance(found, dict) else {BROKEN_JSON: text}


def _result(message: Fields, changes: Changes) -> Block:
    call_id = messages_call_id(message.needed("tool_call_id"), changes)
    block: Block = {"type": "tool_result", "tool_use_id": call_id}
    content = _content(message, changes)
    if content:
        block["content"] = content
    return block


def _blocks(content: Content) -> list[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


def _is_said(text: str, changes: Changes) -> bool:
    """Is there more than white space? Anthropic refuses a text without."""
    if text.strip():
        return True
    if text:
        changes.note("content")
    return False
