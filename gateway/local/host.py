"""The workers: one for all models, or one for each (`local.isolation`); the same to those who ask."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from functools import partial, reduce

from gateway.local.mailbox import (
    Counters,
    EngineTransport,
    Load,
    ModelChanged,
    ModelFolder,
    Shrink,
    Unload,
)
from gateway.local.request import Count, Work
from gateway.local.worker import Deliver, Listener, Ticket, Worker, add

_SHARED = ""
_SPARE_S = 30.0
_PHASES = ("load", "step", "silent", "idle", "off")  # of several workers the busiest is told


class Host:
    """Finds the worker of a model. Their losses are apart: one that dies takes no other with it."""

    def __init__(
        self,
        make: Callable[[Deliver], EngineTransport],
        listener: Listener,
        *,
        step_limit_s: float,
        one_each: bool,
    ) -> None:
        self._make, self._listener, self._step_limit_s = make, listener, step_limit_s
        self._one_each = one_each
        self._workers: dict[str, Worker] = {}
        self._counting: dict[str, float] = {}  # paths of engines that were started to count, since when
        self._numbers = itertools.count(1)

    @property
    def replaced(self) -> int:
        """How many engines were lost so far."""
        return sum(worker.replaced for worker in self._workers.values())

    def tired(self, path: str) -> float:
        """Seconds for which this model's engine is left alone."""
        return self._worker(path).tired

    def grown(self, measure: Callable[[int | None], int]) -> int:
        """The bytes that models, answers and kept prompts take, measured at the processes."""
        return sum(worker.grown(measure) for worker in self._workers.values())

    def pids(self) -> list[int]:
        """The processes of engines that have their own."""
        return [worker.pid for worker in self._workers.values() if worker.pid is not None]

    def phase(self) -> str:
        phases = {worker.phase() for worker in self._workers.values()} or {"off"}
        return min(phases, key=_PHASES.index)

    def counters(self) -> Counters:
        return reduce(add, (worker.counters() for worker in self._workers.values()), Counters())

    def ticket(self, model: ModelFolder, rows: int) -> Ticket:
        return Ticket(next(self._numbers), model, rows)

    def submit(self, ticket: Ticket, work: Work) -> None:
        self._worker(ticket.model.path).submit(ticket, work)

    def running(self, path: str) -> bool:
        """Is there an engine for this model, with or without it?"""
        return self._worker(path).running

    def count(self, ticket: Ticket, work: Count) -> Callable[[], None]:
        """Have tokens counted, by any engine that runs: to start one takes longer than to count. What it
        gives takes the request back.
        """
        path = ticket.model.path
        own = self._worker(path)
        worker = own if own.running else next((w for w in self._workers.values() if w.running), own)
        if worker is own and self._one_each and (path in self._counting or not own.running):
            self._counting[path] = time.monotonic()
        worker.submit(ticket, work)
        return partial(worker.cancel, ticket)

    def tidy(self, needed: Callable[[str], bool]) -> None:
        """End the engines that were started to count and got no model since."""
        for path, since in list(self._counting.items()):
            worker = self._worker(path)
            if not worker.running:
                del self._counting[path]
            elif worker.spare and not needed(path) and time.monotonic() - since > _SPARE_S:
                worker.dismiss(lambda: None)

    def cancel(self, ticket: Ticket) -> None:
        self._worker(ticket.model.path).cancel(ticket)

    def load(self, model: ModelFolder) -> None:
        self._worker(model.path).post(Load(model))

    def unload(self, model: ModelFolder) -> None:
        """Let a model go that has nothing to do; `model_changed` tells when it has."""
        worker = self._worker(model.path)
        if self._one_each:
            worker.dismiss(lambda: self._listener.model_changed(ModelChanged(model, "cold")))
        else:
            worker.tell(Unload(model.path))

    def shrink(self, prompt_cache_bytes: int) -> None:
        """Keep at most so many bytes of prompts, in every worker."""
        for worker in self._workers.values():
            worker.tell(Shrink(prompt_cache_bytes))

    async def close(self, deadline: float) -> bool:
        """Stop all engines until `deadline` (loop time); False when one did not end."""
        ended = await asyncio.gather(*(worker.close(deadline) for worker in self._workers.values()))
        return all(ended)

    def _worker(self, path: str) -> Worker:
        key = path if self._one_each else _SHARED
        found = self._workers.get(key)
        if found is None:
            found = self._workers[key] = Worker(
                self._make,
                self._listener,
                step_limit_s=self._step_limit_s,
                path=path if self._one_each else None,
            )
        return found
