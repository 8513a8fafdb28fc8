"""Brings models into the memory, one after the other, a stage at a time between the steps of others."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mlx.core as mx

from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.models import Resident, Stage, load
from gateway.local.mailbox import Event, ModelChanged, ModelFolder

log = logging.getLogger(__name__)

_LOAD_S = 60.0  # on top of the limit of a step: a first read from a cold disk,
_LOAD_BYTES_PER_S = 50e6  # and this much for the weights
_TOLD_STEP = 0.02  # of a load, between two reports
_ECHO_S = 2.0  # commands that were posted before their sender knew of a failed load come within this


class Spelled(NamedTuple):
    """The tokenizer of a model that is being loaded, or why there is none."""

    path: str
    tokenizer: Any
    error: Exception | None = None


class LoadFailed(NamedTuple):
    """A model that can't be had."""

    folder: ModelFolder
    failure: Failure


@dataclass(slots=True)
class _Loading:
    """A load that is under way: the tokenizer comes from another thread, then the weights in stages."""

    folder: ModelFolder
    began: float = field(default_factory=time.monotonic)
    stages: Generator[Stage, None, Resident] | None = None
    told: float = 0.0  # the progress that was told last


@dataclass(slots=True)
class Loader:
    """The loads that are wanted. `put` brings what its threads find into the loop's inbox, `read` gives
    them a tokenizer; `gently` says whether others wait for a step.
    """

    put: Callable[[Spelled], None]
    read: Callable[[ModelFolder], Any]
    gently: Callable[[], bool]
    _queue: deque[ModelFolder] = field(default_factory=deque)
    _loading: _Loading | None = None
    _broken: dict[str, tuple[str, float, Failure]] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Is there something to do now? Waiting for a tokenizer is nothing."""
        return bool(self._queue) if self._loading is None else self._loading.stages is not None

    def allowance_s(self) -> float:
        """How long the next stage may take, on top of the limit of a step."""
        size = self._loading.folder.size_bytes + self._loading.folder.draft_bytes if self._loading else 0
        return _LOAD_S + size / _LOAD_BYTES_PER_S

    def want(self, folder: ModelFolder, out: list[Event]) -> LoadFailed | None:
        """Have this model loaded; a failure that was seen a moment ago is said again."""
        mark, since, failure = self._broken.get(folder.path, ("", 0.0, None))
        if failure is not None and mark == folder.fingerprint and time.monotonic() - since < _ECHO_S:
            return LoadFailed(folder, failure)
        under_way = [self._loading.folder] if self._loading else []
        if all(known.path != folder.path for known in [*under_way, *self._queue]):
            self._queue.append(folder)
            out.append(ModelChanged(folder, "loading"))
        return None

    def drop(self, path: str) -> ModelFolder | None:
        """It is not wanted any more."""
        for folder in self._queue:
            if folder.path == path:
                self._queue.remove(folder)
                return folder
        if self._loading is None or self._loading.folder.path != path:
            return None
        folder, self._loading = self._loading.folder, None
        return folder

    def spelled(self, spelled: Spelled) -> LoadFailed | None:
        """The tokenizer has come: the weights may follow."""
        loading = self._loading
        if loading is None or loading.folder.path != spelled.path:
            return None
        if spelled.error is not None:
            return self._fail(loading.folder, spelled.error)
        loading.stages = load(loading.folder, spelled.tokenizer, gently=self.gently)
        return None

    def step(self, out: list[Event]) -> Resident | LoadFailed | None:
        """Bring the load that is under way one stage further, or begin the next."""
        loading = self._loading
        if loading is None:
            if self._queue:
                self._begin(self._queue.popleft())
            return None
        if loading.stages is None:
            return None
        try:
            stage = next(loading.stages)
        except StopIteration as done:
            self._loading = None
            resident: Resident = done.value
            resident.load_s = time.monotonic() - loading.began
            return resident
        except Exception as error:
            return self._fail(loading.folder, error)
        progress = stage.done_bytes / max(1, stage.all_bytes)
        if progress - loading.told >= _TOLD_STEP:
            loading.told = progress
            out.append(ModelChanged(loading.folder, "loading", progress=progress))
        return None

    def _begin(self, folder: ModelFolder) -> None:
        self._loading = _Loading(folder)
        put, read = self.put, self.read

        def spell() -> None:
            try:
                put(Spelled(folder.path, read(folder)))
            except Exception as error:
                put(Spelled(folder.path, None, error))

        threading.Thread(target=spell, name="local-tokenizer", daemon=True).start()

    def _fail(self, folder: ModelFolder, error: Exception) -> LoadFailed:
        log.error("model %s could not be loaded from %s", folder.name, folder.path, exc_info=error)
        self._loading = None
        error.__traceback__ = None  # its frames hold what was read
        gc.collect()
        mx.clear_cache()
        failure = Failure(
            outcome=Outcome.LOCAL_FAULT,
            message=f"model {folder.name} could not be loaded; the gateway's log says why",
            status=503,
            code="model_load_failed",
        )
        self._broken[folder.path] = (folder.fingerprint, time.monotonic(), failure)
        return LoadFailed(folder, failure)
