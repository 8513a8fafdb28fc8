"""PURE: the pieces that an answer's text comes in, and the blank text between them.

Models write blank lines between reasoning, answer and tool calls because their format wants it;
these belong to nobody's text. Inside a piece, and at the end of an answer, blanks are the model's own.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["content", "reasoning", "tool", "tool end", "broken tool"]


class Piece(NamedTuple):
    """Some text of one kind. `tool` is a piece of a call; `tool end` says that the call is complete,
    `broken tool` that the answer ended inside of it.
    """

    kind: Kind
    text: str


class Tidy:
    """Drops blank text at the borders between kinds; holds it back while it may be at one."""

    __slots__ = ("_at_border", "_held", "_last")

    def __init__(self) -> None:
        self._last: Kind | None = None
        self._held = ""
        self._at_border = False

    def feed(self, piece: Piece) -> list[Piece]:
        if piece.kind != self._last:
            self._held = ""
            self._at_border = self._last is not None or piece.kind == "reasoning"
            self._last = piece.kind
        if piece.kind not in ("content", "reasoning"):
            return [piece]
        text = piece.text
        if self._at_border:
            text = text.lstrip()
            if not text:
                return []
            self._at_border = False
        text = self._held + text
        kept = text.rstrip()
        self._held = text[len(kept) :]
        return [Piece(piece.kind, kept)] if kept else []

    def end(self) -> list[Piece]:
        """The answer is over: blanks at its end belong to it."""
        held, self._held = self._held, ""
        return [Piece("content", held)] if held and self._last == "content" else []
