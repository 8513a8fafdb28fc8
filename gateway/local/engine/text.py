"""From tokens to the pieces of an answer: detokenise, split by markers, cut at stop strings."""

from __future__ import annotations

from typing import Any

from gateway.local.engine.foreign import TextStateMachine
from gateway.local.pieces import Kind, Piece, Tidy
from gateway.local.stops import StopCutter


class TextFlow:
    """One answer's text. Any hold-back is flushed at its end: nothing the model said is lost.

    Stop strings are looked for in the content only: a stop of "}" is not meant for the
    arguments of a tool call, nor a blank line for the reasoning.
    """

    __slots__ = ("_detokenizer", "_in_tool", "_state", "_stop", "_stop_after", "_tidy", "segment", "stopped")

    def __init__(
        self,
        detokenizer: Any,
        machine: Any,
        *,
        initial: str,
        stop: tuple[str, ...],
        tidy: bool,
        stop_after: int = 0,  # so many tokens come whatever stop strings are in them
    ) -> None:
        self._detokenizer = detokenizer
        self._state = machine.make_state(initial)
        self._stop = StopCutter(stop) if stop else None
        self._stop_after = stop_after
        self._tidy = Tidy() if tidy else None
        self._in_tool = False
        self.segment = ""  # the text that the last token completed, before anything is cut out of it
        self.stopped = False

    @property
    def reasons(self) -> bool:
        """Is the model inside of its reasoning?"""
        return bool(self._state[0] == "reasoning")

    @property
    def stopped_by(self) -> str | None:
        """The stop string that ended the answer, if one did."""
        return None if self._stop is None else self._stop.found

    def prime(self, tokens: list[int]) -> None:
        """Let the text go on from these tokens, whose own text is not part of it."""
        for token in tokens:
            self._detokenizer.add_token(token)
        self._detokenizer.finalize()  # a space that it holds back belongs to the prompt
        _ = self._detokenizer.last_segment

    def feed(self, token: int) -> list[Piece]:
        self._detokenizer.add_token(token)
        self._stop_after -= 1
        self.segment = text = self._detokenizer.last_segment
        return self._tidied(self._split(text)) if text else []

    def end(self) -> list[Piece]:
        """The answer is over: the pieces that were still held back."""
        if self.stopped:
            return []
        self.segment = _rest(self._detokenizer)
        pieces = self._split(self.segment)
        if not self.stopped:
            self._state, held, name = TextStateMachine.flush(self._state)
            self._sort(name, held, pieces)
        if not self.stopped:
            self._border(pieces, kind="broken tool")
        pieces = self._tidied(pieces)
        return pieces + self._tidy.end() if self._tidy else pieces

    def _split(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        self._state, segments = TextStateMachine.split(self._state, text)
        for index, (name, part) in enumerate(segments):
            if index:  # a marker stood between this segment and the one before
                self._border(pieces)
            self._sort(name, part, pieces)
            if self.stopped:
                break
        if self._state[0] is None:  # the format itself says that the turn is over
            self.stopped = True
        return pieces

    def _border(self, pieces: list[Piece], *, kind: Kind = "tool end") -> None:
        """A segment is over: so is the call in it, and no stop string goes on beyond it."""
        if self._in_tool:
            pieces.append(Piece(kind, ""))
            self._in_tool = False
        if self._stop is not None and (text := self._stop.flush()):
            pieces.append(Piece("content", text))

    def _sort(self, name: str | None, part: str, pieces: list[Piece]) -> None:
        if name == "tool":
            self._in_tool = True
            pieces.append(Piece("tool", part))
        elif name == "reasoning" and part:
            pieces.append(Piece("reasoning", part))
        elif name == "normal" and part:
            if self._stop is not None and self._stop_after < 0:
                part = self._stop.feed(part)
                self.stopped = self._stop.stopped
            if part:
                pieces.append(Piece("content", part))

    def _tidied(self, pieces: list[Piece]) -> list[Piece]:
        if self._tidy is None:
            return pieces
        return [kept for piece in pieces for kept in self._tidy.feed(piece)]


def _rest(detokenizer: Any) -> str:
    """What the detokeniser still holds, without the beginning of a character that never came."""
    try:
        detokenizer.finalize()
    except KeyError:  # its last token is a special one that stands for no bytes
        return ""
    text: str = detokenizer.last_segment
    return text.rstrip("\ufffd")
