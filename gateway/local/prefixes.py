"""PURE: which token sequences have a cache, and how far one of them serves a new prompt.

Sequences are packed, four bytes a token, so that comparing and finding the point where two of them
part is done by memcmp over slices and never by a loop over tokens.

What makes a wrong hit impossible here: a hit is only ever the length of an equal prefix; it never
reaches the last token of the prompt, whose logits nobody has kept; and an entry that can't be cut is
used whole or not at all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TOKEN_BYTES = 4
LEAST_KEPT = 32  # tokens; a shorter prompt is computed anew faster than its cache is looked after
LEAST_USED = 16
MOST_ENTRIES = 1024  # a search looks at every entry of its model


@dataclass(frozen=True, slots=True)
class Entry:
    """One sequence whose cache somebody holds under `id`."""

    id: str
    model: str
    tokens: bytes  # packed
    size_bytes: int
    trimmable: bool  # whether its cache can be cut to any shorter length

    @property
    def length(self) -> int:
        return len(self.tokens) // TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class Hit:
    """The first `length` tokens of the prompt are those of the entry."""

    entry: Entry
    length: int


def worth_keeping(length: int) -> bool:
    """Whether the cache of so many tokens is worth the place."""
    return length >= LEAST_KEPT


def pack(tokens: Sequence[int]) -> bytes:
    """Four bytes a token, in the machine's order."""
    packed = array("I", tokens)
    assert packed.itemsize == TOKEN_BYTES
    return packed.tobytes()


def common_length(one: bytes, other: bytes, *, known: int = 0) -> int:
    """How many tokens two packed sequences begin with in common; the first `known` are not looked at."""
    view = memoryview(other)  # its slices copy nothing
    low, step = known * TOKEN_BYTES, 64 * TOKEN_BYTES
    end = min(len(one), len(other))
    while low < end:  # in strides that double, so that an early difference costs little
        high = min(low + step, end)
        if not one.startswith(view[low:high], low):
            break
        low, step = high, step * 2
    else:
        return end // TOKEN_BYTES
    while high - low > TOKEN_BYTES:
        middle = low + (high - low) // (2 * TOKEN_BYTES) * TOKEN_BYTES
        if one.startswith(view[low:middle], low):
            low = middle
        else:
            high = middle
    return low // TOKEN_BYTES


class PrefixIndex:
    """The entries in the order of their use; whoever holds the caches follows what it says."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}  # least recently used first
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, model: str | None = None) -> list[Entry]:
        """The entries of one model, or of all; least recently used first."""
        return [entry for entry in self._entries.values() if model in (None, entry.model)]

    def best(self, model: str, prompt: bytes, *, least: int = LEAST_USED) -> Hit | None:
        """The entry that serves most of `prompt`, but at least `least` tokens; of equals the last used."""
        limit = len(prompt) // TOKEN_BYTES - 1
        found: Hit | None = None
        wanted = max(least, 1)
        head, last, at = _beginning(prompt, wanted)
        for entry in self._latest(model):
            # Most fail here: they are too short, or differ where they would have to be better.
            if min(entry.length, limit) < wanted or not entry.tokens.startswith(last, at):
                continue
            length = _serves(entry, prompt, head, limit)
            if length >= wanted:
                found = Hit(entry, length)
                wanted = length + 1
                head, last, at = _beginning(prompt, wanted)
        return found

    def covering(self, model: str, tokens: bytes, *, trimmable: bool) -> Entry | None:
        """An entry that makes a new one with `tokens` needless."""
        for entry in self._latest(model):
            if entry.trimmable and entry.tokens.startswith(tokens):
                return entry
            if not trimmable and entry.tokens == tokens:
                return entry
        return None

    def add(self, new: Entry) -> list[Entry] | None:
        """Take `new` in as the last used one; returns the entries that it makes needless, now gone.

        None when an entry covers it already: that one is touched instead.
        """
        known = self.covering(new.model, new.tokens, trimmable=new.trimmable)
        if known is not None:
            self.touch(known.id)
            return None
        needless = [
            entry
            for entry in self._latest(new.model)
            if new.trimmable and new.tokens.startswith(entry.tokens)
        ]
        for entry in needless:
            self.remove(entry.id)
        self._entries[new.id] = new
        self._size_bytes += new.size_bytes
        return needless

    def touch(self, number: str) -> None:
        """Mark as used just now."""
        self._entries[number] = self._entries.pop(number)

    def remove(self, number: str) -> Entry | None:
        gone = self._entries.pop(number, None)
        if gone is not None:
            self._size_bytes -= gone.size_bytes
        return gone

    def evict(self, max_bytes: int, *, most: int = MOST_ENTRIES) -> list[Entry]:
        """Remove until the rest fits: first what never can, then the least recently used."""
        gone = [entry for entry in self._entries.values() if entry.size_bytes > max_bytes]
        for entry in gone:
            self.remove(entry.id)
        while self._entries and (self._size_bytes > max_bytes or len(self._entries) > most):
            entry = next(iter(self._entries.values()))
            self.remove(entry.id)
            gone.append(entry)
        return gone

    def _latest(self, model: str) -> Iterator[Entry]:
        return (entry for entry in reversed(self._entries.values()) if entry.model == model)


def _beginning(prompt: bytes, length: int) -> tuple[memoryview, memoryview, int]:
    """The first `length` tokens, the last one of them, and where it begins."""
    at = (length - 1) * TOKEN_BYTES
    head = memoryview(prompt)[: at + TOKEN_BYTES]
    return head, head[at:], at


def _serves(entry: Entry, prompt: bytes, head: memoryview, limit: int) -> int:
    """How many tokens of the prompt the entry serves; 0 unless that is all of `head` or more."""
    if not entry.trimmable:
        return entry.length if entry.length <= limit and prompt.startswith(entry.tokens) else 0
    if not entry.tokens.startswith(head):
        return 0
    return min(common_length(entry.tokens, prompt, known=len(head) // TOKEN_BYTES), limit)
