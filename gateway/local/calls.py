"""PURE: reads a tool call while the model still writes it, so that its arguments can be streamed.

Of the families' formats only the JSON one, `{"name": ..., "arguments": {...}}` in this order, says
early enough what is called. Any other text of a call is kept whole, for the family's own parser.
"""

from __future__ import annotations

import json
import re
from enum import Enum, auto
from typing import NamedTuple

STREAMED_FAMILIES = frozenset({"json_tools"})
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')
_LONGEST_HEAD = 1024


class Heard(NamedTuple):
    """What a piece of a call came to: the name, once it is known, and a piece of the arguments."""

    name: str | None
    arguments: str


class _At(Enum):
    HEAD = auto()
    ARGUMENTS = auto()
    BEHIND = auto()  # the arguments are complete, or this call can't be streamed


class CallReader:
    """One call. `named` says whether something of it has been told already."""

    __slots__ = ("_at", "_depth", "_escaped", "_in_string", "_parts", "complete", "named")

    def __init__(self, *, streams: bool) -> None:
        self._parts: list[str] = []
        self._at = _At.HEAD if streams else _At.BEHIND
        self._depth = 0
        self._in_string = self._escaped = False
        self.named = False
        self.complete = False

    @property
    def text(self) -> str:
        """All that was written between the markers."""
        return "".join(self._parts)

    def feed(self, part: str) -> Heard | None:
        """Take the next piece; None when nothing can be told yet."""
        self._parts.append(part)
        if self._at is _At.ARGUMENTS:
            arguments = self._arguments(part)
            return Heard(None, arguments) if arguments else None
        if self._at is _At.BEHIND:
            return None
        text = self.text
        found = _HEAD.match(text)
        if found is None:
            if len(text) > _LONGEST_HEAD:
                self._at = _At.BEHIND
            return None
        try:
            name = json.loads(found[1])
        except ValueError:
            name = ""
        if not name:
            self._at = _At.BEHIND
            return None
        self._at, self.named = _At.ARGUMENTS, True
        return Heard(name, self._arguments(text[found.end() :]))

    def _arguments(self, text: str) -> str:
        """The part of `text` that still belongs to the object."""
        for at, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = char == "\\"
                self._in_string = char != '"'
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._at, self.complete = _At.BEHIND, True
                    return text[: at + 1]
        return text
