"""The engine's loop: takes all commands, steps every batch in turn, says once a pass what came of it.

It runs on one thread, and everything of MLX happens there: loading, stepping, letting go.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import mlx.core as mx

from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.batch import Batch
from gateway.local.engine.embed import Embedder
from gateway.local.engine.foreign import raise_wired_limit
from gateway.local.engine.loader import Loader, LoadFailed, Spelled
from gateway.local.engine.models import Resident
from gateway.local.engine.prefix import PrefixCache
from gateway.local.engine.prompts import Prepared, PromptThread, Ready
from gateway.local.engine.room import Room
from gateway.local.engine.row import Row, Task, engine_failure
from gateway.local.engine.single import Single
from gateway.local.engine.spelling import Tokenizers
from gateway.local.mailbox import (
    Accepted,
    Cancel,
    Command,
    Counters,
    Delta,
    EngineSettings,
    Event,
    Finished,
    Load,
    ModelChanged,
    ModelFolder,
    Pulse,
    Refused,
    Shrink,
    Stop,
    Submit,
    Unload,
)
from gateway.local.memory import footprint
from gateway.local.request import Count, Generate, Work

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Border:
    """What the loop shares with the other side; every field is written by one side only."""

    inbox: SimpleQueue[Command | Prepared | Spelled]
    deliver: Callable[[list[Event]], None]
    counters: Counters = field(default_factory=Counters)
    pulse: Pulse = field(default_factory=lambda: Pulse("idle", time.monotonic()))
    abandoned: bool = False


@dataclass(slots=True)
class _Home:
    """A resident model and all that it does."""

    resident: Resident
    answers: Batch | Single
    vectors: Embedder | None

    @property
    def busy(self) -> bool:
        return self.answers.busy or (self.vectors is not None and self.vectors.busy)


class EngineLoop:
    """All resident models and what they are doing."""

    def __init__(self, settings: EngineSettings, border: Border) -> None:
        self._settings, self._border = settings, border
        self._homes: dict[str, _Home] = {}
        self._asked: dict[int, tuple[str, Work]] = {}  # submitted, but not in a batch yet
        self._tokenizers = Tokenizers()
        self._loader = Loader(
            border.inbox.put, self._tokenizers.of, lambda: any(home.busy for home in self._homes.values())
        )
        self._prompts = PromptThread(border.inbox.put)
        self._counts = PromptThread(border.inbox.put)  # a tokenizer that is read keeps no prompt waiting
        self._out: list[Event] = []
        folder = Path(settings.prompt_cache_folder) if settings.prompt_cache_folder else None
        self._prefixes = PrefixCache(
            max_bytes=settings.prompt_cache_bytes,
            folder=folder,
            disk_bytes=settings.prompt_cache_disk_bytes,
        )
        self._room = Room(settings.memory_bytes, self._prefixes)
        border.counters.base_bytes = footprint()
        mx.random.seed(int.from_bytes(os.urandom(7), "little"))
        mx.set_cache_limit(settings.cache_bytes)
        # Each generator raises it and puts back what it found: so it must find it raised.
        raise_wired_limit()

    def run(self) -> None:
        """Work until `Stop` comes or the engine is abandoned."""
        home: _Home | None
        while self._take() and not self._border.abandoned:
            for home in list(self._homes.values()):
                if home.answers.busy:
                    self._border.pulse = Pulse("step", time.monotonic())
                    home.answers.step(self._out)
                if home.vectors is not None and home.vectors.busy:
                    self._border.pulse = Pulse("step", time.monotonic())
                    self._embed(home, home.vectors)
            home = None  # a name that is left would keep an unloaded model until the next request
            self._load_on()
            if self._out and not self._border.abandoned:
                self._count()
                events, self._out = self._out, []
                self._border.deliver(events)

    def close(self) -> None:
        """Let everything go that belongs to MLX; the last thing its thread does."""
        self._prompts.stop()
        self._counts.stop()
        for home in self._homes.values():
            home.answers.close()
        self._homes.clear()
        del self._loader
        if not self._border.abandoned:
            self._prefixes.close()
        gc.collect()
        mx.clear_cache()

    # --- commands -----------------------------------------------------------------------------

    def _take(self) -> bool:
        """Handle every command that has come; wait for one when there is nothing else to do."""
        inbox = self._border.inbox
        while True:
            try:
                if self._idle and inbox.empty():
                    self._rest()
                    command = inbox.get()
                else:
                    command = inbox.get_nowait()
            except Empty:
                return True
            if isinstance(command, Stop):
                return False
            self._handle(command)
            del command

    def _rest(self) -> None:
        self._count()
        self._border.pulse = Pulse("idle", time.monotonic())

    def _count(self) -> None:
        """What is held now; others decide by it."""
        counters = self._border.counters
        counters.prompt_cache_bytes = self._prefixes.nbytes
        counters.active_bytes = mx.get_active_memory()

    @property
    def _idle(self) -> bool:
        busy = self._loader.busy or any(home.busy for home in self._homes.values())
        return not self._out and not busy

    def _handle(self, command: Submit | Cancel | Load | Unload | Shrink | Prepared | Spelled) -> None:
        match command:
            case Submit():
                self._asked[command.id] = (command.model.path, command.work)
                if command.model.path in self._homes:
                    self._prepare(command.id)
                elif isinstance(command.work, Count):
                    self._count_tokens(command.id, command.model, command.work)
                else:
                    self._want(command.model)
            case Cancel():
                self._cancel(command.id)
            case Load():
                if command.model.path not in self._homes:
                    self._want(command.model)
            case Unload():
                self._unload(command.path)
            case Shrink():
                self._prefixes.shrink(command.prompt_cache_bytes)
            case Prepared():
                self._prepared(command)
            case Spelled():
                self._not_there(self._loader.spelled(command))

    def _cancel(self, number: int) -> None:
        if self._asked.pop(number, None) is not None:
            self._border.counters.cancelled += 1
            return
        for home in self._homes.values():
            try:
                found = home.answers.cancel(number)
            except Exception:
                log.exception("a row can't be taken out of its batch; the generator is replaced")
                home.answers.poisoned(self._out)
                found = True
            if found or (home.vectors is not None and home.vectors.cancel(number)):
                self._border.counters.cancelled += 1
                return

    # --- requests -----------------------------------------------------------------------------

    def _prepare(self, number: int) -> None:
        path, work = self._asked[number]
        self._prompts.submit(number, self._homes[path].resident, work, lambda: number in self._asked)

    def _count_tokens(self, number: int, folder: ModelFolder, work: Count) -> None:
        """The model is not in memory, and needs not be."""
        spelling = partial(self._tokenizers.spelling, folder)
        self._counts.count(number, spelling, work, lambda: number in self._asked)

    def _prepared(self, prepared: Prepared) -> None:
        asked = self._asked.pop(prepared.id, None)
        if asked is None:  # cancelled while it was being rendered
            return
        path, work = asked
        home = self._homes.get(path)
        if isinstance(work, Count):
            self._out.append(self._counted(prepared, work, home))
            return
        if prepared.failure is not None or home is None:
            failure = prepared.failure or engine_failure("the model was unloaded meanwhile")
            self._out.append(Refused(prepared.id, failure))
            return
        prompt_tokens = sum(len(ready.tokens) for ready in prepared.prompts)
        self._out.append(Accepted(prepared.id, prompt_tokens))
        if isinstance(work, Generate):
            self._generate(home, prepared, work, prompt_tokens)
        else:
            assert home.vectors is not None
            inputs = [ready.tokens for ready in prepared.prompts]
            home.vectors.add(prepared.id, inputs, work.dimensions)

    def _counted(self, prepared: Prepared, count: Count, home: _Home | None) -> Finished | Refused:
        failure, work = prepared.failure, count.work
        if count.bounded and isinstance(work, Generate) and home is not None:
            for ready in prepared.prompts:
                if self._room.too_large(
                    home.resident, len(ready.tokens), self._limit(home.resident, work, ready)
                ):
                    failure = _no_memory(len(ready.tokens))
        if failure is not None:
            return Refused(prepared.id, failure)
        return Finished(id=prepared.id, prompt_tokens=sum(len(ready.tokens) for ready in prepared.prompts))

    def _generate(self, home: _Home, prepared: Prepared, work: Generate, prompt_tokens: int) -> None:
        task = Task(prepared.id, work, prompt_tokens, open=work.rows)
        rows: list[Row] = []
        for index, ready in enumerate(prepared.prompts):
            limit = self._limit(home.resident, work, ready)
            if self._room.too_large(home.resident, len(ready.tokens), limit):
                self._out[-1] = Refused(prepared.id, _no_memory(len(ready.tokens)))
                return
            rows += _rows(task, index, ready, limit)
            if work.echo:
                self._out += [Delta(task.id, ready.text, choice=row.choice) for row in rows[-work.n :]]
        home.answers.add(rows)

    def _limit(self, resident: Resident, work: Generate, ready: Ready) -> int:
        """How long an answer may get: what was asked, within the context."""
        limit = work.max_tokens or self._settings.default_max_tokens
        context = resident.folder.context
        return min(limit, context - len(ready.tokens)) if context else limit

    def _embed(self, home: _Home, vectors: Embedder) -> None:
        try:
            vectors.step(self._out)
        except Exception:
            log.exception("vectors of %s can't be made", home.resident.folder.name)
            vectors.fail(engine_failure("the local engine failed at these inputs"), self._out)

    # --- models -------------------------------------------------------------------------------

    def _want(self, folder: ModelFolder) -> None:
        self._not_there(self._loader.want(folder, self._out))

    def _load_on(self) -> None:
        if not self._loader.busy:
            return
        self._border.pulse = Pulse("load", time.monotonic(), self._loader.allowance_s())
        found = self._loader.step(self._out)
        if isinstance(found, Resident):
            self._loaded(found)
        else:
            self._not_there(found)

    def _loaded(self, resident: Resident) -> None:
        path, settings, counters = resident.folder.path, self._settings, self._border.counters
        kind = Batch if resident.batched else Single
        vectors = None
        if resident.pooling is not None:
            vectors = Embedder(resident.model, resident.pooling, settings.prefill_step)
        answers = kind(resident, settings, counters, self._prefixes, self._room)
        self._homes[path] = _Home(resident, answers, vectors)
        self._room.weights += resident.weight_bytes
        counters.loads += 1
        self._out.append(ModelChanged(resident.folder, "ready", progress=1.0, facts=resident.facts()))
        for number, (wanted, work) in self._asked.items():
            if wanted == path and not isinstance(work, Count):  # that is under way
                self._prepare(number)

    def _unload(self, path: str) -> None:
        folder = self._loader.drop(path)
        home = self._homes.pop(path, None)
        if home is not None:
            folder = home.resident.folder
            home.answers.close()
            self._prefixes.forget(home.resident.key)
            self._room.weights -= home.resident.weight_bytes
            self._border.counters.unloads += 1
            del home
        if folder is not None:
            self._out.append(ModelChanged(folder, "cold"))
        gc.collect()  # models are full of cycles
        mx.clear_cache()

    def _not_there(self, failed: LoadFailed | None) -> None:
        """Tell all who wait for this model that it does not come."""
        if failed is None:
            return
        folder, failure = failed
        self._out.append(ModelChanged(folder, "failed", failure))
        for number in [n for n, (path, _) in self._asked.items() if path == folder.path]:
            del self._asked[number]
            self._out.append(Refused(number, failure))


def _rows(task: Task, index: int, ready: Ready, limit: int) -> list[Row]:
    """The answers to one prompt: the first computes it, the others wait for that."""
    work, rows = task.work, list[Row]()
    resumed = work.resume[:limit]
    tokens = [*ready.tokens, *resumed]
    for place in range(work.n):
        row = Row(
            task,
            index * work.n + place,
            tokens,
            ready.thinking,
            limit,
            resumed=resumed,
            guide=ready.guide if place == 0 or ready.guide is None else ready.guide.fork(),
            borders=ready.borders,
            leader=rows[0] if rows else None,
            followed=place == 0 and work.n > 1,
        )
        rows.append(row)
    return rows


def _no_memory(tokens: int) -> Failure:
    return Failure(
        outcome=Outcome.CONTEXT_TOO_LONG,
        message=f"a prompt of {tokens} tokens needs more memory than local.memory_limit_gb leaves",
        status=503,
        code="memory_full",
    )
