"""PURE: one wildcard pattern, read once: does a name match, what did each wildcard take.

The language is `fnmatch.fnmatchcase`: `*` any characters, `/` too; `?` one; `[ab]`, `[a-z]`, `[!a]`
one of a class. Whether a name matches is asked of fnmatch's own translation, so that there is
one matcher and not two that nearly agree. What the wildcards took is worked out here, because
fnmatch does not say; a regular expression with groups could, but takes exponential time on
patterns with many stars, and patterns are matched against names that strangers send.

- `*` and `?` are numbered from 1 in the order they are written. A class is not: design 4.4 numbers
  those two only, and a class that escapes a bracket, `[[]`, would be a number for nothing.
- Of several ways to match, each `*` takes as little as it can and the last one takes the rest:
  `*/*` on `a/b/c` gives `a` and `b/c`, the vendor and the model.
- In a run of stars the first takes all and the others nothing.
- A class of one character is a literal by another way of writing; it counts as one in the order
  of rules, so that an escaped bracket does not make a rule weaker.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

WILDCARDS = frozenset("*?[")


class Kind(Enum):
    """What a piece of a pattern stands for."""

    LITERAL = "literal"
    ONE = "?"
    ANY = "*"
    CLASS = "[]"


@dataclass(frozen=True, slots=True)
class Piece:
    """One character of a pattern, or one class, as it was written."""

    kind: Kind
    text: str
    takes: Callable[[str], bool]  # does this piece take that one character

    @property
    def letter(self) -> str | None:
        """The only character that it can take, None where there are several."""
        if self.kind is Kind.CLASS and len(self.text) == 3:
            return self.text[1]
        return self.text if self.kind is Kind.LITERAL else None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern with all that was worked out about it. Make it with `read_pattern`."""

    text: str
    pieces: tuple[Piece, ...]
    prefix: str  # what every name that matches begins with
    literals: int  # literal characters, the third key of the order
    wildcards: int  # how many of {1}, {2}, ... there are
    is_plain: bool  # it stands for one name, its own text
    matches: Callable[[str], object]  # truthy where fnmatchcase is


def read_pattern(text: str) -> Pattern:
    """Read a pattern; every text is one, as it is for fnmatch."""
    pieces = _pieces(text)
    literals = [piece.letter for piece in pieces]
    fixed = next((at for at, letter in enumerate(literals) if letter is None), len(literals))
    return Pattern(
        text=text,
        pieces=pieces,
        prefix="".join(letter for letter in literals[:fixed] if letter is not None),
        literals=sum(letter is not None for letter in literals),
        wildcards=sum(piece.kind in (Kind.ANY, Kind.ONE) for piece in pieces),
        is_plain=all(piece.kind is Kind.LITERAL for piece in pieces),
        matches=re.compile(fnmatch.translate(text)).match,
    )


def escape(name: str) -> str:
    """The pattern that matches `name` and nothing else, whatever characters it has."""
    return re.sub(r"([*?[])", r"[\1]", name)


def taken(pattern: Pattern, name: str) -> tuple[str, ...]:
    """What each `*` and `?` took of a name that matches, or that equals the pattern."""
    if name == pattern.text and not pattern.matches(name):
        # Equality counts as a match even where the brackets would not: each wildcard took itself.
        return tuple(piece.text for piece in pattern.pieces if piece.kind in (Kind.ANY, Kind.ONE))
    took: list[str] = []
    at = 0  # how much of the name is taken
    runs = _runs(pattern.pieces)
    for number, (stars, fixed) in enumerate(runs):
        start = at
        if stars:
            last = number == len(runs) - 1
            start = len(name) - len(fixed) if last else _find(fixed, name, at)
            took += [name[at:start], *[""] * (stars - 1)]
        took += [name[start + i] for i, piece in enumerate(fixed) if piece.kind is Kind.ONE]
        at = start + len(fixed)
    return tuple(took)


def _pieces(text: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    at = 0
    while at < len(text):
        end = at + 1
        if text[at] == "*":
            pieces.append(Piece(Kind.ANY, "*", _anything))
        elif text[at] == "?":
            pieces.append(Piece(Kind.ONE, "?", _anything))
        elif text[at] == "[" and (close := _class_end(text, at)):
            end = close
            pieces.append(Piece(Kind.CLASS, text[at:end], _one_of(text[at:end])))
        else:
            pieces.append(Piece(Kind.LITERAL, text[at], text[at].__eq__))
        at = end
    return tuple(pieces)


def _class_end(text: str, start: int) -> int:
    """Where the class that begins at `start` ends; 0 when its bracket is never closed.

    As in fnmatch: a `]` right after `[` or `[!` belongs to the class.
    """
    at = start + 1
    if text[at : at + 1] == "!":
        at += 1
    if text[at : at + 1] == "]":
        at += 1
    return text.find("]", at) + 1


def _runs(pieces: tuple[Piece, ...]) -> list[tuple[int, list[Piece]]]:
    """Cut a pattern at its stars: how many stars, and the pieces of fixed length that follow."""
    runs: list[tuple[int, list[Piece]]] = [(0, [])]
    for piece in pieces:
        stars, fixed = runs[-1]
        if piece.kind is not Kind.ANY:
            fixed.append(piece)
        elif fixed or not stars:
            runs.append((1, []))
        else:
            runs[-1] = (stars + 1, fixed)
    return runs


def _find(fixed: list[Piece], name: str, at: int) -> int:
    """The first place from `at` on where the pieces fit; the caller knows that there is one."""
    while not all(piece.takes(name[at + i]) for i, piece in enumerate(fixed)):
        at += 1
    return at


def _one_of(text: str) -> Callable[[str], bool]:
    match = re.compile(fnmatch.translate(text)).match
    return lambda letter: match(letter) is not None


def _anything(_: str) -> bool:
    return True
