"""PURE: who may join the queue of a model, and how long that will take.

Each model has a batch of `batch_size` places and a queue of at most `max_queue` behind it. The
wait is estimated from how long places were held lately. The pool reports what happens; nothing
here reads a clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from gateway.failover.outcome import Failure, Outcome

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

    def failure(self, model: str) -> Failure:
        """The refusal of a request to the model of this name."""
        return Failure(
            outcome=Outcome.OVERLOADED,
            message=f"the queue of local model {model} is full ({self.waiting} wait)",
            status=503,
            code="queue_full",
            retry_after_s=self.retry_after_s,
        )


@dataclass(slots=True)
class _Line:
    """The requests of one model, each with the places it takes."""

    width: int  # the places of its batch
    waiting: dict[int, int] = field(default_factory=dict)  # id -> places
    running: dict[int, tuple[int, float]] = field(default_factory=dict)  # id -> places, since
    held_s: float | None = None  # running mean of the time that a place was held

    @property
    def places(self) -> int:
        return sum(self.waiting.values()) + sum(places for places, _ in self.running.values())

    @property
    def usual_s(self) -> float:
        """How long a place is held."""
        return _FIRST_GUESS_S if self.held_s is None else self.held_s


class Scheduler:
    """Counts who waits and who runs, per model."""

    def __init__(self, *, batch_size: int, max_queue: int) -> None:
        self._places = batch_size
        self._max_queue = max_queue
        self._lines: dict[str, _Line] = {}

    def one_at_a_time(self, model: str) -> None:
        """This model has no batch."""
        self._lines.setdefault(model, _Line(1)).width = 1

    def admit(self, model: str, number: int, now: float, *, places: int = 1) -> Admitted | Full:
        """Take the request into the line of `model`, if there is room. One that comes to an empty line is
        always taken, however many places it wants.
        """
        full = self.full(model, now, places=places)
        if full is not None:
            return full
        line = self._lines.setdefault(model, _Line(self._places))
        wait = _wait_s(line, now)
        line.waiting[number] = places
        return Admitted(wait)

    def full(self, model: str, now: float, *, places: int = 1) -> Full | None:
        """What `admit` would refuse this with, if it did."""
        line = self._lines.get(model)
        inside = 0 if line is None else line.places
        if line is None or not inside or inside + places <= line.width + self._max_queue:
            return None
        retry = max(_LEAST_RETRY_S, _wait_s(line, now, behind=False))
        return Full(retry_after_s=retry, waiting=max(0, inside - line.width))

    def began(self, model: str, number: int, now: float) -> None:
        """The request has its place in the batch."""
        line = self._lines[model]
        places = line.waiting.pop(number, None)
        if places is not None:
            line.running[number] = (places, now)

    def left(self, model: str, number: int, now: float) -> None:
        """The request is over, however it ended."""
        line = self._lines[model]
        line.waiting.pop(number, None)
        found = line.running.pop(number, None)
        if found is not None:
            held = max(0.0, now - found[1])
            line.held_s = held if line.held_s is None else line.held_s + _WEIGHT * (held - line.held_s)

    def wait_s(self, model: str, now: float) -> float:
        """How long a newcomer would wait for its place."""
        line = self._lines.get(model)
        return 0.0 if line is None else _wait_s(line, now)

    def ends_s(self, model: str, now: float) -> float:
        """When all that is in this line now will probably be over."""
        line = self._lines.get(model)
        if line is None or not line.places:
            return 0.0
        free, behind = _played(line, now)
        for _ in range(behind):
            heapq.heapreplace(free, free[0] + line.usual_s)
        return max(free)

    def width(self, model: str) -> int:
        """The places of its batch."""
        line = self._lines.get(model)
        return self._places if line is None else line.width

    def waiting(self, model: str) -> int:
        """How many places are waited for."""
        line = self._lines.get(model)
        return 0 if line is None else max(0, line.places - line.width)

    def running(self, model: str) -> int:
        """How many places are taken or about to be."""
        line = self._lines.get(model)
        return 0 if line is None else min(line.width, line.places)

    def busy(self, model: str) -> bool:
        """Is anything asked of this model?"""
        line = self._lines.get(model)
        return line is not None and bool(line.waiting or line.running)


def _wait_s(line: _Line, now: float, *, behind: bool = True) -> float:
    """With `behind`, how long until a newcomer has a place; without, until the next one is free."""
    free, before = _played(line, now)
    for _ in range(before if behind else 0):
        heapq.heapreplace(free, free[0] + line.usual_s)
    return free[0]


def _played(line: _Line, now: float) -> tuple[list[float], int]:
    """When each place is free, as a heap, and how many are waited for. Each is free when its holder has had
    it for as long as is usual, and then the next in line takes it.
    """
    held = line.usual_s
    free = [0.0] * max(0, line.width - line.places)
    for places, since in line.running.values():
        # One that has taken longer than usual will take a while longer.
        free += [max(held - (now - since), held / 4)] * places
    waiting = sum(line.waiting.values())
    begun = max(0, min(line.width - len(free), waiting))
    free += [held] * begun  # admitted, and about to begin
    heapq.heapify(free)
    return free, waiting - begun
