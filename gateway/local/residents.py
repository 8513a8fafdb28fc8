"""The models in memory: who is there, who comes, who goes. `residency` decides, this does it.

A load is asked for once however many want it. What could not be loaded is not tried again for a
minute, unless its folder changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure, Outcome
from gateway.local.host import Host
from gateway.local.mailbox import ModelChanged, ModelFacts, ModelFolder
from gateway.local.residency import Decision, Occupant, Verdict, decide, expired, held, soonest
from gateway.local.scheduler import Scheduler

log = logging.getLogger(__name__)

_FAILED_S = 60.0
_PATIENCE_S = 15.0
_LEAST_RETRY_S = 1.0
_STILL_LOADING_S = 2.0  # one that nobody has asked anything yet
_GIB = 1024**3

State = Literal["cold", "loading", "ready", "failed"]


@dataclass(slots=True)
class Stay:
    """One model's time in memory."""

    folder: ModelFolder
    used: int
    idle_since: float
    ready: bool = False
    progress: float = 0.0
    facts: ModelFacts | None = None


@dataclass(frozen=True, slots=True)
class _FailedLoad:
    fingerprint: str
    until: float
    failure: Failure


class Residents:
    """All models that are in memory or on their way, and those that failed lately."""

    def __init__(
        self,
        host: Callable[[], Host],
        scheduler: Scheduler,
        *,
        limit_bytes: int,
        pinned: frozenset[str],
        keep_alive_s: float,
        grown: Callable[[], int],
    ) -> None:
        self._host, self._scheduler = host, scheduler
        self._limit_bytes, self._pinned, self._keep_alive_s = limit_bytes, pinned, keep_alive_s
        self._grown = grown
        self._stays: dict[str, Stay] = {}
        self._failed: dict[str, _FailedLoad] = {}
        self._waiters: dict[tuple[str, State], list[asyncio.Future[Failure | None]]] = {}
        self._uses = itertools.count(1)
        self._moved = asyncio.Event()  # something may have become free

    # --- what is asked ------------------------------------------------------------------------

    def state(self, path: str) -> State:
        stay = self._stays.get(path)
        if stay is not None:
            return "ready" if stay.ready else "loading"
        return "failed" if path in self._failed else "cold"

    def stay(self, path: str) -> Stay | None:
        return self._stays.get(path)

    @property
    def paths(self) -> list[str]:
        """All that are in memory, on their way there, or failed."""
        return [*self._stays, *self._failed]

    def figures(self, names: Mapping[str, str]) -> dict[str, Any]:
        """For status and metrics; `names` by path."""
        line, paths = self._scheduler, self.paths
        return {
            "models_resident": sum(self.state(path) == "ready" for path in paths),
            "running": sum(line.running(path) for path in paths),
            "queue": sum(line.waiting(path) for path in paths),
            "models": {
                names.get(path, path): {
                    "state": self.state(path),
                    "running": line.running(path),
                    "waiting": line.waiting(path),
                }
                for path in paths
            },
        }

    def known(self, path: str) -> bool:
        """Is it in memory, or on its way there?"""
        return path in self._stays

    def loading(self) -> list[Stay]:
        """Those on their way; `idle_since` is when each was asked for."""
        return [stay for stay in self._stays.values() if not stay.ready]

    def weight_bytes(self) -> int:
        """What the weights take of those that are ready."""
        return sum(stay.facts.weight_bytes for stay in self._stays.values() if stay.facts is not None)

    def displaced(self, folder: ModelFolder) -> tuple[str, ...]:
        """The names of those that would go for it."""
        return tuple(self._stays[path].folder.name for path in self.decide(folder).evict)

    def foresee(self, folder: ModelFolder) -> float:
        """Raise what `check` would after a wait of `room`, else give the seconds until there is room."""
        if self.decide(folder).verdict is Verdict.NO_ROOM:
            wait = self.room_s(folder)
            if wait is not None and wait <= _PATIENCE_S:
                self._check_lately(folder)
                return wait
        self.check(folder)
        return 0.0

    def check(self, folder: ModelFolder) -> None:
        """Refuse at once what failed a moment ago or what does not fit into the memory."""
        self._check_lately(folder)
        decision = self.decide(folder)
        if decision.verdict in (Verdict.RESIDENT, Verdict.LOAD):
            return
        need, limit = decision.needed_bytes / _GIB, self._limit_bytes / _GIB
        sentence = f"local model {folder.name} needs about {need:.1f} GiB"
        if decision.verdict is Verdict.TOO_LARGE:
            message = f"{sentence}; the limit is {limit:.1f} GiB (local.memory_limit_gb)"
            raise _refused(Outcome.LOCAL_FAULT, message, code="model_too_large")
        message = (
            f"{sentence}; {max(0.0, decision.free_bytes / _GIB):.1f} GiB are free, and the models in memory "
            "are in use or pinned"
        )
        wait = self.room_s(folder)
        retry = None if wait is None else max(_LEAST_RETRY_S, wait)
        raise _refused(Outcome.OVERLOADED, message, code="memory_full", retry_after_s=retry)

    def decide(self, folder: ModelFolder) -> Decision:
        """What is to be done about a model that is asked for now."""
        if folder.path in self._stays:
            return Decision(Verdict.RESIDENT, 0, 0)
        return decide(
            folder.path,
            folder.size_bytes + folder.draft_bytes,
            self._occupants(),
            self._limit_bytes,
            grown_bytes=self._grown(),
            prompt_bytes=self._host().counters().prompt_cache_bytes,
        )

    def room_s(self, folder: ModelFolder) -> float | None:
        """How long until there is room for it, if others end as is usual; None where waiting is no help."""
        now = time.monotonic()
        ends: dict[str, float] = {}
        for path, stay in self._stays.items():
            if self._busy(path):
                loading = 0.0 if stay.ready else _STILL_LOADING_S
                ends[path] = max(loading, self._scheduler.ends_s(path, now))
        grown, prompts = self._grown(), self._host().counters().prompt_cache_bytes
        size = folder.size_bytes + folder.draft_bytes
        return soonest(
            folder.path,
            size,
            self._occupants(),
            self._limit_bytes,
            ends,
            grown_bytes=grown,
            prompt_bytes=prompts,
        )

    def free_bytes(self) -> int:
        """What models may still take of the limit."""
        prompts = self._host().counters().prompt_cache_bytes
        taken = held(self._occupants(), grown_bytes=self._grown(), prompt_bytes=prompts)
        return max(0, self._limit_bytes - taken)

    async def room(self, folder: ModelFolder, deadline: float) -> None:
        """Wait a while where the models in memory are in use: one of them may be done soon. What can't be
        helped by waiting is for `check` to say.
        """
        until = min(deadline, asyncio.get_running_loop().time() + _PATIENCE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self.decide(folder).verdict is Verdict.NO_ROOM:
                    self._moved.clear()
                    await self._moved.wait()

    # --- what is done -------------------------------------------------------------------------

    def claim(self, folder: ModelFolder) -> None:
        """A request for this model is about to be posted: make room for it if it is not there."""
        stay = self._stays.get(folder.path)
        if stay is not None:
            stay.used = next(self._uses)
            return
        decision = self.decide(folder)
        for path in decision.evict:
            log.info("unloading %s: %s needs its memory", self._stays[path].folder.name, folder.name)
            self._send_away(path)
        if decision.prompts is not None:
            self._host().shrink(decision.prompts)
        self._stays[folder.path] = Stay(folder, next(self._uses), time.monotonic())
        log.info("loading %s", folder.name)

    async def load(self, folder: ModelFolder) -> None:
        """Have it in memory; raises AttemptFailed where it can't be."""
        self.check(folder)
        if self.state(folder.path) == "ready":
            return
        done = self._wait_for(folder.path, "ready")
        self.claim(folder)
        self._host().load(folder)
        failure = await done
        if failure is not None:
            raise AttemptFailed(failure)

    async def unload(self, path: str) -> bool:
        """Let it go, and wait until its memory is free; False when it is in use."""
        if path not in self._stays:
            return True
        if self._busy(path):
            return False
        done = self._wait_for(path, "cold")
        self._send_away(path)
        await done
        return True

    def tend(self) -> None:
        """Let go of what nobody has asked for in a while, and of what the memory has no room for."""
        now = time.monotonic()
        idle = {path: now - stay.idle_since for path, stay in self._stays.items()}
        for path in expired(self._occupants(), idle, self._keep_alive_s):
            log.info("unloading %s: idle for %.0f s", self._stays[path].folder.name, idle[path])
            self._send_away(path)
        if self._grown() > self._limit_bytes:
            self._host().shrink(0)

    # --- what is heard ------------------------------------------------------------------------

    def idle(self, path: str) -> None:
        """One of its requests is over."""
        self._moved.set()
        stay = self._stays.get(path)
        if stay is not None:
            stay.idle_since = time.monotonic()

    def changed(self, event: ModelChanged) -> None:
        self._moved.set()
        path, stay = event.model.path, self._stays.get(event.model.path)
        if event.state == "loading":
            if stay is None:  # asked for while it was being sent away
                self._stays[path] = stay = Stay(event.model, next(self._uses), time.monotonic())
            stay.progress = event.progress
            return
        if event.state == "ready" and stay is not None:
            stay.ready, stay.progress, stay.facts = True, 1.0, event.facts
            stay.idle_since = time.monotonic()
            if event.facts is not None:
                log.info("loaded %s in %.1f s", event.model.name, event.facts.load_s)
                if not event.facts.batched:
                    self._scheduler.one_at_a_time(path)
        elif event.state == "failed":
            self._stays.pop(path, None)
            if event.failure is not None:
                until = time.monotonic() + _FAILED_S
                self._failed[path] = _FailedLoad(event.model.fingerprint, until, event.failure)
            self._tell(path, "ready", event.failure)
            return
        self._tell(path, event.state, None)

    def lost(self, path: str | None) -> None:
        """An engine is gone with all of its models."""
        failure = Failure(outcome=Outcome.LOCAL_FAULT, message="the local engine was lost", status=503)
        gone = list(self._stays) if path is None else [path]
        for one in gone:
            self._stays.pop(one, None)
        for one, wanted in list(self._waiters):
            if path is None or one == path:
                self._tell(one, wanted, failure if wanted == "ready" else None)

    # --- inside -------------------------------------------------------------------------------

    def _check_lately(self, folder: ModelFolder) -> None:
        rest = self._host().tired(folder.path)
        if rest > 0:
            raise _refused(
                Outcome.LOCAL_FAULT,
                "the local engine failed several times and rests",
                code="engine_failed",
                retry_after_s=rest,
            )
        failed = self._failed.get(folder.path)
        if failed is not None:
            if failed.fingerprint == folder.fingerprint and time.monotonic() < failed.until:
                raise AttemptFailed(failed.failure)
            del self._failed[folder.path]

    def _occupants(self) -> list[Occupant]:
        return [
            Occupant(
                path,
                stay.folder.size_bytes + stay.folder.draft_bytes,
                stay.used,
                busy=self._busy(path),
                pinned=stay.folder.name in self._pinned,
            )
            for path, stay in self._stays.items()
        ]

    def _busy(self, path: str) -> bool:
        return self._scheduler.busy(path) or not self._stays[path].ready

    def _send_away(self, path: str) -> None:
        self._host().unload(self._stays.pop(path).folder)

    def _wait_for(self, path: str, state: State) -> asyncio.Future[Failure | None]:
        done: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault((path, state), []).append(done)
        return done

    def _tell(self, path: str, state: State, failure: Failure | None) -> None:
        for waiter in self._waiters.pop((path, state), []):
            if not waiter.done():
                waiter.set_result(failure)


def _refused(
    outcome: Outcome, message: str, *, code: str, retry_after_s: float | None = None
) -> AttemptFailed:
    return AttemptFailed(
        Failure(outcome=outcome, message=message, status=503, code=code, retry_after_s=retry_after_s)
    )
