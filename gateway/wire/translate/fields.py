"""PURE: JSON objects read field by field, so that what nobody took is known at the end."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.wire import syntax
from gateway.wire.translate.translation import UntranslatableError

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # what may stand in a header
_MOST = 32


class Changes:
    """The fields that were changed or dropped, each once, in the order in which they were met."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def note(self, name: str) -> None:
        """Remember a field by its short name. Names that the client made up may be anything."""
        if not _PLAIN.fullmatch(name):
            name = "unknown"
        if len(self._names) < _MOST:
            self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


class Fields:
    """One JSON object. `null` is a field that is not there; a field that is taken is gone."""

    __slots__ = ("_at", "left")

    def __init__(self, at: str, value: object) -> None:
        if not isinstance(value, dict):
            raise wrong(at or "body", "an object", value)
        self._at = at
        self.left: dict[str, Any] = {key: item for key, item in value.items() if item is not None}

    def at(self, name: str) -> str:
        """The full name of a field, for errors."""
        return f"{self._at}.{name}" if self._at else name

    def take(self, name: str) -> Any:
        return self.left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.left.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise wrong(self.at(name), "a string", value)
        return value

    def needed(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise wrong(self.at(name), "a string", None)
        return value

    def integer(self, name: str) -> int | None:
        value = self.left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise wrong(self.at(name), "a whole number", value)
        return value

    def number(self, name: str) -> int | float | None:
        value = self.left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise wrong(self.at(name), "a number", value)
        return value

    def flag(self, name: str) -> bool | None:
        value = self.left.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise wrong(self.at(name), "true or false", value)
        return value

    def array(self, name: str) -> list[Any]:
        """A list; empty where there is none."""
        value = self.left.pop(name, None)
        if value is None:
            return []
        if not isinstance(value, list):
            raise wrong(self.at(name), "a list", value)
        return value

    def fields(self, name: str) -> Fields | None:
        value = self.left.pop(name, None)
        return None if value is None else Fields(self.at(name), value)

    def drop_rest(self, changes: Changes) -> None:
        """What was not taken is left out, and said so, unless it asked for nothing."""
        for name, value in self.left.items():
            if value not in ([], {}):
                changes.note(name)


def wrong(name: str, expected: str, value: object) -> UntranslatableError:
    """The refusal of a value that can't be read, so that it can't be translated either."""
    return UntranslatableError(name, f"{name} must be {expected}, not {_kind(value)}")


def no_way(name: str, why: str) -> UntranslatableError:
    """The refusal of something that the other API has no words for."""
    return UntranslatableError(name, f"{name} can't be translated for this target: {why}")


def decode(data: bytes) -> Any:
    """JSON as it was judged before: msgspec refuses a little that other readers take."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return _sound(syntax.parse(data))


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def _sound(value: Any) -> Any:
    """Strings without halves of surrogate pairs, which UTF-8 has no bytes for."""
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_sound(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
