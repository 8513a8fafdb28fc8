"""PURE: how often two kinds of thing happened lately, in constant space."""

from __future__ import annotations


class Window:
    """Counts over the last `slots` slices of `slice_s` seconds each, the running one included.

    Slices instead of single points in time: the memory does not grow with the traffic, and the
    window is at most one slice shorter than its name says.
    """

    __slots__ = ("_marked", "_plain", "_slice_s", "_turn")

    def __init__(self, *, slots: int, slice_s: float) -> None:
        self._slice_s = slice_s
        self._turn = [-1] * slots  # which slice of time a slot holds
        self._plain = [0] * slots
        self._marked = [0] * slots

    def add(self, now: float, *, marked: bool) -> None:
        """Count one thing, marked or plain."""
        slot = self._slot(now)
        if marked:
            self._marked[slot] += 1
        else:
            self._plain[slot] += 1

    def totals(self, now: float) -> tuple[int, int]:
        """How many plain and how many marked things the window holds."""
        oldest = int(now / self._slice_s) - len(self._turn)
        live = [slot for slot, turn in enumerate(self._turn) if turn > oldest]
        return sum(self._plain[slot] for slot in live), sum(self._marked[slot] for slot in live)

    def _slot(self, now: float) -> int:
        turn = int(now / self._slice_s)
        slot = turn % len(self._turn)
        if self._turn[slot] != turn:
            self._turn[slot] = turn
            self._plain[slot] = self._marked[slot] = 0
        return slot
