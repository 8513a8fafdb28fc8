"""The engine's loop: takes all commands, steps every batch in turn, says once a pass what came of it.

It runs on one thread, and everything of MLX happens there: loading, stepping, letting go.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import mlx.core as mx

from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.batch import Batch
from gateway.local.engine.foreign import raise_wired_limit
from gateway.local.engine.models import Resident, load
from gateway.local.engine.prompts import Prepared, PromptThread
from gateway.local.mailbox import (
    Accepted,
    Cancel,
    Command,
    Counters,
    EngineSettings,
    Event,
    Load,
    ModelChanged,
    ModelFolder,
    Pulse,
    Refused,
    Stop,
    Submit,
)
from gateway.local.request import ChatRequest

log = logging.getLogger(__name__)

_LOAD_S = 60.0  # on top of the limit of a step: a first read from a cold disk,
_LOAD_BYTES_PER_S = 50e6  # and this much for the weights
_ECHO_S = 2.0  # commands that were posted before their sender knew of a failed load come within this


@dataclass(slots=True)
class Border:
    """What the loop shares with the other side; every field is written by one side only."""

    inbox: SimpleQueue[Command | Prepared]
    deliver: Callable[[list[Event]], None]
    counters: Counters = field(default_factory=Counters)
    pulse: Pulse = field(default_factory=lambda: Pulse("idle", time.monotonic()))
    abandoned: bool = False


@dataclass(slots=True)
class _Loading:
    folder: ModelFolder
    stages: Generator[None, None, Resident]


class EngineLoop:
    """All resident models and what they are doing."""

    def __init__(self, settings: EngineSettings, border: Border) -> None:
        self._settings, self._border = settings, border
        self._batches: dict[str, Batch] = {}
        self._asked: dict[int, tuple[str, ChatRequest]] = {}  # submitted, but not in a batch yet
        self._to_load: deque[ModelFolder] = deque()
        self._loading: _Loading | None = None
        self._broken: dict[str, tuple[str, float, Failure]] = {}
        self._prompts = PromptThread(border.inbox.put)
        self._out: list[Event] = []
        mx.random.seed(int.from_bytes(os.urandom(7), "little"))
        mx.set_cache_limit(settings.cache_bytes)
        # Each generator raises it and puts back what it found: so it must find it raised.
        raise_wired_limit()

    def run(self) -> None:
        """Work until `Stop` comes or the engine is abandoned."""
        while self._take() and not self._border.abandoned:
            for batch in list(self._batches.values()):
                if batch.busy:
                    self._border.pulse = Pulse("step", time.monotonic())
                    batch.step(self._out)
            self._load_on()
            if self._out and not self._border.abandoned:
                events, self._out = self._out, []
                self._border.deliver(events)

    def close(self) -> None:
        """Let everything go that belongs to MLX; the last thing its thread does."""
        self._prompts.stop()
        for batch in self._batches.values():
            batch.close()
        self._batches.clear()
        self._loading = None
        gc.collect()
        mx.clear_cache()

    def _take(self) -> bool:
        """Handle every command that has come; wait for one when there is nothing else to do."""
        inbox = self._border.inbox
        while True:
            try:
                if self._idle and inbox.empty():
                    self._border.pulse = Pulse("idle", time.monotonic())
                    command = inbox.get()
                else:
                    command = inbox.get_nowait()
            except Empty:
                return True
            if isinstance(command, Stop):
                return False
            self._handle(command)
            del command

    @property
    def _idle(self) -> bool:
        loading = self._loading is not None or self._to_load
        return not self._out and not loading and not any(batch.busy for batch in self._batches.values())

    def _handle(self, command: Submit | Cancel | Load | Prepared) -> None:
        match command:
            case Submit():
                self._asked[command.id] = (command.model.path, command.request)
                if command.model.path in self._batches:
                    self._prepare(command.id)
                else:
                    self._want(command.model)
            case Cancel():
                self._cancel(command.id)
            case Load():
                if command.model.path not in self._batches:
                    self._want(command.model)
            case Prepared():
                self._prepared(command)

    def _cancel(self, number: int) -> None:
        if self._asked.pop(number, None) is not None:
            self._border.counters.cancelled += 1
            return
        for batch in self._batches.values():
            try:
                found = batch.cancel(number)
            except Exception:
                log.exception("a row can't be taken out of its batch; the generator is replaced")
                batch.poisoned(self._out)
                found = True
            if found:
                self._border.counters.cancelled += 1
                return

    def _prepare(self, number: int) -> None:
        path, request = self._asked[number]
        self._prompts.submit(number, self._batches[path].resident, request, lambda: number in self._asked)

    def _prepared(self, prepared: Prepared) -> None:
        asked = self._asked.pop(prepared.id, None)
        if asked is None:  # cancelled while it was being rendered
            return
        if prepared.failure is not None:
            self._out.append(Refused(prepared.id, prepared.failure))
            return
        path, request = asked
        self._batches[path].add(prepared, request)
        self._out.append(Accepted(prepared.id, len(prepared.tokens)))

    def _want(self, folder: ModelFolder) -> None:
        mark, since, failure = self._broken.get(folder.path, ("", 0.0, None))
        if failure is not None and mark == folder.fingerprint and time.monotonic() - since < _ECHO_S:
            self._not_there(folder, failure)
            return
        under_way = [self._loading.folder] if self._loading else []
        if all(known.path != folder.path for known in [*under_way, *self._to_load]):
            self._to_load.append(folder)
            self._out.append(ModelChanged(folder, "loading"))

    def _load_on(self) -> None:
        """Bring the load that is under way one stage further, or begin the next."""
        if self._loading is None:
            if not self._to_load:
                return
            folder = self._to_load.popleft()
            self._loading = _Loading(folder, load(folder))
        folder = self._loading.folder
        allowance = _LOAD_S + folder.size_bytes / _LOAD_BYTES_PER_S
        self._border.pulse = Pulse("load", time.monotonic(), allowance)
        try:
            next(self._loading.stages)
        except StopIteration as done:
            self._loaded(done.value)
        except Exception:
            log.exception("model %s could not be loaded from %s", folder.name, folder.path)
            self._not_loaded(folder)

    def _loaded(self, resident: Resident) -> None:
        self._loading = None
        path = resident.folder.path
        self._batches[path] = Batch(resident, self._settings, self._border.counters)
        self._border.counters.loads += 1
        self._out.append(ModelChanged(resident.folder, "ready"))
        for number, (wanted, _) in self._asked.items():
            if wanted == path:
                self._prepare(number)

    def _not_loaded(self, folder: ModelFolder) -> None:
        self._loading = None
        gc.collect()
        mx.clear_cache()
        failure = Failure(
            outcome=Outcome.LOCAL_FAULT,
            message=f"model {folder.name} could not be loaded; the gateway's log says why",
            status=503,
            code="model_load_failed",
        )
        self._broken[folder.path] = (folder.fingerprint, time.monotonic(), failure)
        self._not_there(folder, failure)

    def _not_there(self, folder: ModelFolder, failure: Failure) -> None:
        """Tell all who wait for this model that it does not come."""
        self._out.append(ModelChanged(folder, "failed", failure))
        for number in [n for n, (path, _) in self._asked.items() if path == folder.path]:
            del self._asked[number]
            self._out.append(Refused(number, failure))
