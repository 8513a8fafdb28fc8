"""PURE: what can be said of all names at once: does one pattern match whatever another one does.

Theory: a pattern is a small automaton over positions. Both are run side by side over every letter
that a name may have, from the start, as sets of positions; the wide one includes the narrow one
if no reachable pair of sets accepts the narrow and not the wide. Letters that no piece tells
apart are tried once. The answer is exact for names of the alphabet; the number of pairs is
bounded, and past the bound the answer is no: who asks reports only what is sure.
"""

from __future__ import annotations

from itertools import pairwise

from gateway.routing.name import LETTERS, LONGEST, is_name
from gateway.routing.pattern import Kind, Pattern

MOST_PAIRS = 2000
_LETTERS = sorted(LETTERS, key=lambda letter: (letter != "x", letter))  # the one that samples like best


def includes(wide: Pattern, narrow: Pattern) -> bool:
    """Does `wide` match every name that `narrow` matches? False also where that would take too long."""
    left, right = _Automaton(wide), _Automaton(narrow)
    columns = {(left.column(letter), right.column(letter)) for letter in LETTERS}
    pairs = {(left.start, right.start)}
    todo = list(pairs)
    while todo:
        a, b = todo.pop()
        if right.accepts(b) and not left.accepts(a):
            return False
        for wide_column, narrow_column in columns:
            pair = (left.step(a, wide_column), right.step(b, narrow_column))
            if pair[1] and pair not in pairs:
                pairs.add(pair)
                todo.append(pair)
        if len(pairs) > MOST_PAIRS:
            return False
    return True


def samples(pattern: Pattern) -> tuple[str, ...]:
    """Some texts that the pattern matches, the shortest first; none where it matches nothing.

    Most pairs of patterns are told apart by them, a thousand times faster than by `includes`.
    """
    letters = [next((letter for letter in _LETTERS if piece.takes(letter)), None) for piece in pattern.pieces]
    if None in letters:
        return ()
    return tuple(
        "".join(
            filler if piece.kind is Kind.ANY else letter or ""
            for piece, letter in zip(pattern.pieces, letters, strict=True)
        )
        for filler in ("", "x", "~Q7")
    )


def example(pattern: Pattern) -> str | None:
    """A name that the pattern matches, as short as is easily found; None when none was found."""
    return next((text for text in samples(pattern) if is_name(text)), None)


def impossible(pattern: Pattern) -> str | None:
    """Why no name that is let in can ever match, None when one might."""
    pieces = pattern.pieces
    for piece in pieces:
        if not any(piece.takes(letter) for letter in LETTERS):
            return f"no model name can hold {piece.text!a}"
    if pattern.prefix.startswith("/"):
        return "no model name begins with '/'"
    if any(one.letter == two.letter == "." for one, two in pairwise(pieces)):
        return "no model name holds '..'"
    least = sum(piece.kind is not Kind.ANY for piece in pieces)
    if least > LONGEST:
        return f"it needs {least} characters and a model name has at most {LONGEST}"
    return None


class _Automaton:
    """A pattern as sets of positions, one bit each; bit i is on when the first i pieces are behind."""

    def __init__(self, pattern: Pattern) -> None:
        self._pieces = pattern.pieces
        self._stars = sum(1 << i for i, piece in enumerate(pattern.pieces) if piece.kind is Kind.ANY)
        self._end = 1 << len(pattern.pieces)
        self.start = self._close(1)

    def column(self, letter: str) -> int:
        """From which positions this letter leads on."""
        return sum(1 << i for i, piece in enumerate(self._pieces) if piece.takes(letter))

    def step(self, positions: int, column: int) -> int:
        """The positions after one letter, given as its column."""
        moved = (positions & column & ~self._stars) << 1
        return self._close(moved | (positions & self._stars))

    def accepts(self, positions: int) -> bool:
        """Whether the name may end here."""
        return bool(positions & self._end)

    def _close(self, positions: int) -> int:
        """A star may take nothing, so the position behind it is reached together with its own."""
        while True:
            wider = positions | (positions & self._stars) << 1
            if wider == positions:
                return positions
            positions = wider
