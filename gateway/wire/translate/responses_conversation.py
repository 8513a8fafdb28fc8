"""PURE: the items of a Responses conversation as the messages of a chat.

Items are finer than messages: what the model thought, said and called in one turn are items of their
own, and one message of a chat. A turn of the assistant takes in whatever of it follows in a row; once
it has calls nothing but their outputs may come behind it, so that reasoning and text between two calls
join it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.wire.translate.responses_fields import Changes, Json, table, text
from gateway.wire.translate.responses_parts import assistant_content, joined_texts, tool_content, user_content
from gateway.wire.translate.responses_tools import flat_name
from gateway.wire.translate.translation import UntranslatableError

# `developer` is known to few chats, and means the same.
_ROLES: Mapping[str, str] = {"user": "user", "system": "system", "developer": "system"}


ADDED_TOOLS = "additional_tools"


class Conversation:
    """Takes items in order; `finish` gives the messages."""

    def __init__(self, changes: Changes, *, keeps_reasoning: bool) -> None:
        self._changes = changes
        self._keeps_reasoning = keeps_reasoning
        self._messages: list[Json] = []
        self._turn: Json | None = None  # the assistant's last message, while it may still grow

    def instruct(self, instructions: str) -> None:
        """What stands in front of everything."""
        self._say("system", instructions)

    def add(self, path: str, item: Any) -> None:
        """One item; `path` is its place in the request. Raises UntranslatableError or RequestError."""
        kind = table(path, item).get("type")
        match kind if kind is not None else "message":
            case "message":
                self._message(path, item)
            case "reasoning":
                self._reasoning(item)
            case "function_call":
                self._call(path, item, text(f"{path}.arguments", item.get("arguments")))
            case "custom_tool_call":
                self._call(path, item, custom_arguments(text(f"{path}.input", item.get("input"))))
            case "additional_tools":  # no message, they are read where the tools are
                pass
            case "function_call_output" | "custom_tool_call_output":
                self._output(path, item)
            case _:
                shown = kind[:40] if isinstance(kind, str) else "of that type"
                raise UntranslatableError(f"{path}.type", f"{path}: a chat has nothing like {shown}")

    def finish(self) -> list[Json]:
        """All messages, when the last item was added."""
        self._close()
        return self._messages

    def _message(self, path: str, item: Json) -> None:
        if item.get("phase") is not None:
            self._changes.note("input[].phase")
        role = item.get("role")
        if role == "assistant":
            self._speak(*assistant_content(f"{path}.content", item.get("content")))
            return
        if not isinstance(role, str) or role not in _ROLES:
            raise UntranslatableError(
                f"{path}.role", f"{path}.role must be user, system, developer or assistant"
            )
        self._say(_ROLES[role], user_content(f"{path}.content", item.get("content"), self._changes))

    def _say(self, role: str, content: str | list[Json]) -> None:
        self._close()
        if role == "system" and isinstance(content, str) and self._has_one_system_text():
            # Many templates take a single system message, at the very front.
            self._messages[0]["content"] += "\n\n" + content
            return
        self._messages.append({"role": role, "content": content})

    def _has_one_system_text(self) -> bool:
        if len(self._messages) != 1:
            return False
        first = self._messages[0]
        return first["role"] == "system" and isinstance(first["content"], str)

    def _speak(self, said: str | None, refused: str | None) -> None:
        turn = self._turn
        if turn is not None and _has_spoken(turn) and "tool_calls" not in turn:
            self._close()
        turn = self._open()
        if said is not None:
            turn["content"] = _joined(turn["content"], said)
        if refused is not None:
            turn["refusal"] = _joined(turn.get("refusal"), refused)

    def _reasoning(self, item: Json) -> None:
        if item.get("encrypted_content") is not None:
            self._changes.note("input[].encrypted_content")
        thought = joined_texts(item.get("content")) or joined_texts(item.get("summary"))
        if not thought:
            return
        if not self._keeps_reasoning:
            self._changes.note("input[].reasoning")
            return
        turn = self._turn
        if turn is not None and _has_spoken(turn) and "tool_calls" not in turn:
            self._close()
        turn = self._open()
        turn["reasoning_content"] = _joined(turn.get("reasoning_content"), thought)

    def _call(self, path: str, item: Json, arguments: str) -> None:
        name, namespace = text(f"{path}.name", item.get("name")), item.get("namespace")
        if namespace is not None:
            name = flat_name(text(f"{path}.namespace", namespace), name)
        call = {
            "id": text(f"{path}.call_id", item.get("call_id")),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        self._open().setdefault("tool_calls", []).append(call)

    def _output(self, path: str, item: Json) -> None:
        call = text(f"{path}.call_id", item.get("call_id"))
        content = tool_content(f"{path}.output", item.get("output"), self._changes)
        self._close()
        self._messages.append({"role": "tool", "tool_call_id": call, "content": content})

    def _open(self) -> Json:
        if self._turn is None:
            self._turn = {"role": "assistant", "content": None}
            self._messages.append(self._turn)
        return self._turn

    def _close(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and not _has_spoken(turn) and "tool_calls" not in turn:
            # A thought that nothing followed: a chat has no message for it.
            self._messages.pop()
            self._changes.note("input[].reasoning")


def custom_arguments(written: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return msgspec.json.encode({"input": written}).decode()


def _has_spoken(turn: Json) -> bool:
    return turn["content"] is not None or "refusal" in turn


def _joined(before: str | None, more: str) -> str:
    return f"{before}\n\n{more}" if before and more else (before or "") + more
