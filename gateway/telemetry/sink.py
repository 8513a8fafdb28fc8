"""Where lines go: a thread writes them, so that a terminal that stands still never stops a stream.

Lines that come in one moment leave in one write. When the other end takes nothing for long, lines are
dropped and counted; the count is written as soon as something can be written again.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

_MOST = 10_000
_PAUSE_S = 0.02  # in which more lines may come


class Sink:
    """A bounded queue of lines and the thread that empties it into a stream."""

    def __init__(self, stream: TextIO, *, lost: Callable[[int], str]) -> None:
        self.stream = stream
        self._lost = lost  # makes the line that tells how many were dropped
        self._lines: deque[str | threading.Event] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Take a line without its end; never waits, safe from any thread."""
        if len(self._lines) >= _MOST:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, within: float = 1.0) -> bool:
        """Wait until all that was put before is written, but not for ever; was it?"""
        if not self._thread.is_alive():
            return not self._lines
        mark = threading.Event()
        self._lines.append(mark)
        self._hurry.set()
        self._wake.set()
        return mark.wait(within)

    def close(self, within: float = 1.0) -> None:
        """Write what is left and end the thread."""
        self._closed = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(within)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._hurry.wait(_PAUSE_S)
            closed = self._closed
            self._wake.clear()
            self._hurry.clear()
            self._empty()
            if closed:
                return

    def _empty(self) -> None:
        lines: list[str] = []
        marks: list[threading.Event] = []
        while self._lines:
            item = self._lines.popleft()
            if isinstance(item, str):
                lines.append(item)
            else:
                marks.append(item)
        if self._dropped:
            lines.append(self._lost(self._dropped))
            self._dropped = 0
        if lines:
            # A closed pipe or a full disk takes the log away, not the service.
            with contextlib.suppress(OSError, ValueError):
                self.stream.write("\n".join(lines) + "\n")
                self.stream.flush()
        for mark in marks:
            mark.set()
