"""PURE: ids and names that the two APIs allow in different forms, derived so that the same gives the same."""

from __future__ import annotations

import re
from hashlib import sha256

from gateway.wire.translate.fields import Changes

_STRANGE = re.compile(r"[^A-Za-z0-9_-]")
CHAT_CALL_ID = 40  # OpenAI takes no longer id of a tool call
CHAT_TOOL_NAME = 64
MESSAGES_TOOL_NAME = 128
CHAT_USER = 64
MESSAGES_USER = 256


def chat_id(other: object) -> str:
    """The id of a chat completion out of that of a message."""
    return "chatcmpl-" + (other.removeprefix("msg_") if isinstance(other, str) else "")


def message_id(other: object) -> str:
    """The id of a message out of that of a chat completion."""
    return "msg_" + (other.removeprefix("chatcmpl-") if isinstance(other, str) else "")


def messages_call_id(call_id: str, changes: Changes) -> str:
    """The id of a tool call as Anthropic takes it: letters, digits, `_` and `-` only."""
    fit = _STRANGE.sub(lambda found: f"_{ord(found[0]):x}", call_id) or "_"
    if fit != call_id:
        changes.note("tool_call_id")
    return fit


def chat_call_id(call_id: str, changes: Changes) -> str:
    """The id of a tool call as OpenAI takes it: not too long."""
    fit = short(call_id, CHAT_CALL_ID)
    if fit != call_id:
        changes.note("tool_use_id")
    return fit


def user_name(user: str, most: int, field: str, changes: Changes) -> str:
    """The name of an end user, which is only there to tell one from another: a hash does as well."""
    if len(user) <= most:
        return user
    changes.note(field)
    return sha256(user.encode()).hexdigest()


class ToolNames:
    """The names of tools, shortened for a target that takes no longer ones, and the way back."""

    __slots__ = ("_back", "_changes", "_most")

    def __init__(self, most: int | None, changes: Changes) -> None:
        self._most = most
        self._changes = changes
        self._back: dict[str, str] = {}

    def there(self, name: str) -> str:
        """As the target is told."""
        if self._most is None or len(name) <= self._most:
            return name
        self._changes.note("tools.name")
        fit = short(name, self._most)
        self._back[fit] = name
        return fit

    def back(self, name: str) -> str:
        """As the client knows it."""
        return self._back.get(name, name)


def short(text: str, most: int) -> str:
    """A text of at most so many characters; a longer one ends with a hash of all of it."""
    if len(text) <= most:
        return text
    return f"{text[: most - 17]}_{sha256(text.encode()).hexdigest()[:16]}"
