"""PURE: finds stop strings in text that comes in pieces, and holds back only what may become one."""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Cuts a text exactly before the first stop string, wherever the pieces are cut.

    `feed` gives the text that is certainly before any stop string; what may still be the
    beginning of one is held back until the next piece, or until `flush` says that none comes.
    `found` is the stop string that it was cut at.
    """

    __slots__ = ("_held", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    @property
    def stopped(self) -> bool:
        return self.found is not None

    def feed(self, piece: str) -> str:
        if self.stopped:
            return ""
        text = self._held + piece
        # The stop that is complete first wins (of two that end together the longer one), so that the
        # answer does not depend on how the text was cut into pieces.
        ends = ((at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0)
        first = min(ends, default=None)
        if first is not None:
            self._held, self.found = "", first[2]
            return text[: first[1]]
        hold = max((_overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - hold
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """The text is over: what was held back belongs to it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
