"""PURE: where the values of a JSON text stand, so that one may be changed and all others stay as they came.

Only run over JSON that is proven: read token by token, one level of nesting at a time, which is slow
beside a decoder, exact, and for rare bodies. A long string is one token, whatever it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

import msgspec

from gateway.wire import syntax

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]', re.DOTALL)
_NOT_BLANK = re.compile(rb"[^ \t\n\r]")
_BLANKS = b" \t\n\r"


class Value(msgspec.Struct, frozen=True, gc=False):
    """One value inside `data`, from its first byte to behind its last. `key` is its name in an object,
    which stands at `at`; of an array's element, `at` is where the value itself begins.
    """

    data: bytes
    start: int
    end: int
    key: str | None = None
    at: int = 0

    @property
    def raw(self) -> bytes:
        return self.data[self.start : self.end]

    @property
    def is_object(self) -> bool:
        return self.data.startswith(b"{", self.start)

    @property
    def is_array(self) -> bool:
        return self.data.startswith(b"[", self.start)

    def text(self) -> str | None:
        """What it says if it is a string."""
        return _text(self.raw) if self.data.startswith(b'"', self.start) else None

    def children(self) -> list[Value]:
        """The members of an object or the elements of an array, in order; none of anything else."""
        if self.is_object:
            return _members(self.data, self.start)
        return _elements(self.data, self.start) if self.is_array else []

    def members(self) -> dict[str | None, Value]:
        """The members of an object by their names; of several with one name the last."""
        return {member.key: member for member in self.children()} if self.is_object else {}

    def get(self, key: str) -> Value | None:
        """The member of that name; where there are several, the last, as nearly all readers have it."""
        found = None
        if self.is_object:
            for member in _members(self.data, self.start):
                found = member if member.key == key else found
        return found

    def said(self, key: str) -> str | None:
        """The string that the member of that name holds, if it holds one."""
        member = self.get(key)
        return None if member is None else member.text()

    def elements(self, key: str) -> list[Value]:
        """The elements of the array that the member of that name holds, if it holds one."""
        member = self.get(key)
        return member.children() if member is not None and member.is_array else []


class Edits:
    """Changes of one text, written down in any order and made at once. None may overlap another."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._changes: list[tuple[int, int, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self._changes)

    def replace(self, value: Value, new: bytes) -> None:
        self._changes.append((value.start, value.end, new))

    def insert(self, at: int, new: bytes) -> None:
        self._changes.append((at, at, new))

    def drop(self, children: list[Value], unwanted: Callable[[Value], bool]) -> int:
        """Take the unwanted out of all the children of one object or array, with the commas that they
        leave over. Returns how many they are.
        """
        count, i = 0, 0
        while i < len(children):
            if not unwanted(children[i]):
                i += 1
                continue
            first = i
            while i < len(children) and unwanted(children[i]):
                i += 1
            count += i - first
            if i < len(children):
                self._changes.append((children[first].at, children[i].at, b""))
            else:
                begin = children[first - 1].end if first else children[first].at
                self._changes.append((begin, children[i - 1].end, b""))
        return count

    def drop_members(self, value: Value, keys: Iterable[str]) -> int:
        """Take the members of these names out of an object. Returns how many they are."""
        names = frozenset(keys)
        return self.drop(value.children(), lambda member: member.key in names) if value.is_object else 0

    def made(self) -> bytes:
        """The text with all the changes."""
        parts: list[bytes] = []
        end = 0
        for start, stop, new in sorted(self._changes):
            parts += (self._data[end:start], new)
            end = stop
        parts.append(self._data[end:])
        return b"".join(parts)


def read(data: bytes) -> Value | None:
    """The one object that `data` is; None if it is anything else, or no JSON."""
    try:
        if not isinstance(syntax.parse(data), dict):
            return None
    except ValueError:
        return None
    return Value(data, len(data) - len(data.lstrip(_BLANKS)), len(data.rstrip(_BLANKS)))


def encode(text: str) -> bytes:
    """A string as JSON, halves of surrogate pairs too: two deltas of a stream may have split one."""
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:
        return json.dumps(text).encode()


def _members(data: bytes, start: int) -> list[Value]:
    found = []
    for begin, colon, end in _slices(data, start):
        key = _TOKEN.match(data, begin)
        after = _NOT_BLANK.search(data, colon)
        assert key is not None  # nothing but JSON is ever read
        assert after is not None
        found.append(Value(data, after.start(), end, _text(key[0]), begin))
    return found


def _elements(data: bytes, start: int) -> list[Value]:
    return [Value(data, begin, end, None, begin) for begin, _, end in _slices(data, start)]


def _slices(data: bytes, start: int) -> list[tuple[int, int, int]]:
    """What stands between the commas of the array or object at `start`: where it begins, where its colon
    ends if it has one, and where it ends. Blanks around it are no part of it.
    """
    slices: list[tuple[int, int, int]] = []
    depth, begin, colon = 0, start + 1, start
    for token in _TOKEN.finditer(data, start):
        at = token.start()
        mark = data[at : at + 1]
        if mark == b'"':
            continue
        if mark in b"[{":
            depth += 1
            continue
        if mark in b"]}":
            depth -= 1
        elif depth != 1:
            continue
        elif mark == b":":
            colon = at + 1
        if not depth or mark == b",":
            first = _NOT_BLANK.search(data, begin)
            assert first is not None
            end = at
            while data[end - 1] in _BLANKS:
                end -= 1
            if first.start() < end:
                slices.append((first.start(), colon, end))
            begin = at + 1
        if not depth:
            break
    return slices


def _text(raw: bytes) -> str:
    text: str = json.loads(raw) if b"\\" in raw else raw[1:-1].decode()
    return text
