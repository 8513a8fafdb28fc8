"""PURE: who may join the queue of a model, and how long that will take.

Each model has a batch of `batch_size` places and a queue of at most `max_queue` behind it. The
wait is estimated from how long places were held lately. The pool reports what happens; nothing
here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_WEIGHT = 0.25  # of the newest observation in the running mean
_FIRST_GUESS_S = 2.0  # how long a place is held, before anything is known
_LEAST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may be posted; `wait_s` is how long it will probably wait for its place."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Full:
    """The queue is full; a place in it should be free after `retry_after_s`."""

    retry_after_s: float
    waiting: int


@dataclass(slots=True)
class _Line:
    """The requests of one model."""

    waiting: dict[int, float] = field(default_factory=dict)  # id -> since
    running: dict[int, float] = field(default_factory=dict)
    held_s: float | None = None  # running mean of the time that a place was held


class Scheduler:
    """Counts who waits and who runs, per model."""

    def __init__(self, *, batch_size: int, max_queue: int) -> None:
        self._places = batch_size
        self._max_queue = max_queue
        self._lines: dict[str, _Line] = {}

    def admit(self, model: str, number: int, now: float) -> Admitted | Full:
        """Take the request into the line of `model`, if there is room."""
        line = self._lines.setdefault(model, _Line())
        inside = len(line.waiting) + len(line.running)
        if inside >= self._places + self._max_queue:
            retry = max(_LEAST_RETRY_S, self._drain_s(line))
            return Full(retry_after_s=retry, waiting=inside - self._places)
        wait = self._wait_s(line)
        line.waiting[number] = now
        return Admitted(wait)

    def began(self, model: str, number: int, now: float) -> None:
        """The request has its place in the batch."""
        line = self._lines[model]
        if line.waiting.pop(number, None) is not None:
            line.running[number] = now

    def left(self, model: str, number: int, now: float) -> None:
        """The request is over, however it ended."""
        line = self._lines[model]
        line.waiting.pop(number, None)
        since = line.running.pop(number, None)
        if since is not None:
            held = max(0.0, now - since)
            line.held_s = held if line.held_s is None else line.held_s + _WEIGHT * (held - line.held_s)

    def wait_s(self, model: str) -> float:
        """How long a newcomer would wait for its place."""
        line = self._lines.get(model)
        return 0.0 if line is None else self._wait_s(line)

    def waiting(self, model: str) -> int:
        """How many wait for a place."""
        line = self._lines.get(model)
        return 0 if line is None else max(0, len(line.waiting) + len(line.running) - self._places)

    def running(self, model: str) -> int:
        """How many are in the batch or about to be."""
        line = self._lines.get(model)
        return 0 if line is None else min(self._places, len(line.waiting) + len(line.running))

    def _wait_s(self, line: _Line) -> float:
        ahead = len(line.waiting) + len(line.running) - self._places + 1
        return max(0, ahead) * self._place_s(line)

    def _drain_s(self, line: _Line) -> float:
        """Until the next place is free, and so one in the queue."""
        return self._place_s(line)

    def _place_s(self, line: _Line) -> float:
        """How often a place becomes free while the batch is full."""
        return (_FIRST_GUESS_S if line.held_s is None else line.held_s) / self._places
