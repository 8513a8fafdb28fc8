"""The pool of local models: a backend whose answers are generated in this process.

It knows what is on the disk and what is in memory, admits or refuses, and leaves the work to an
engine behind a mailbox. Neither MLX nor anything heavy is imported before a model is needed.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gateway.backend import AttemptFailed, Call
from gateway.config import Local
from gateway.errors import RequestError
from gateway.failover.outcome import Failure, Outcome
from gateway.local.catalog import Catalog
from gateway.local.engine.thread import EngineThread
from gateway.local.fields import Unsupported
from gateway.local.host import Deliver, Host, Ticket
from gateway.local.mailbox import (
    Accepted,
    EngineSettings,
    EngineTransport,
    ModelChanged,
    ModelFolder,
    Refused,
)
from gateway.local.output import Answer
from gateway.local.reply import LocalReply
from gateway.local.request import ChatRequest, read_chat
from gateway.local.residency import Verdict, decide
from gateway.local.scheduler import Full, Scheduler

CHAT = "/v1/chat/completions"
_BIG_BODY = 128 * 1024  # larger ones are read in a thread
_FAILED_S = 60.0  # a model that could not be loaded is not tried again before, unless its folder changes
_GIB = 1024**3

State = Literal["cold", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this disk and what it is doing."""

    name: str
    path: str
    size_bytes: int
    state: State
    context: int


@dataclass(frozen=True, slots=True)
class _FailedLoad:
    fingerprint: str
    until: float
    failure: Failure


class LocalPool:
    """All local models behind `backend.Backend.open`."""

    def __init__(
        self,
        config: Local,
        home: Path,
        *,
        engine: Callable[[EngineSettings, Deliver], EngineTransport] = EngineThread,
    ) -> None:
        self._config = config
        self._catalog = Catalog(config, home)
        self._limit_bytes = int(config.memory_limit_gb * _GIB) or int(_machine_bytes() * 0.7)
        settings = EngineSettings(
            batch_size=config.batch_size,
            prefill_step=config.prefill_step,
            default_max_tokens=config.default_max_tokens,
            cache_bytes=min(_GIB, self._limit_bytes // 8),
        )
        self._host = Host(partial(engine, settings), self, step_limit_s=config.step_limit_s)
        self._scheduler = Scheduler(batch_size=config.batch_size, max_queue=config.max_queue)
        self._states: dict[str, State] = {}  # by path; what is not here is cold
        self._resident: dict[str, ModelFolder] = {}  # loading or ready, as they were on disk then
        self._failed: dict[str, _FailedLoad] = {}
        self._waiting_for: dict[str, list[asyncio.Future[Failure | None]]] = {}
        self._refreshing: asyncio.Task[Any] | None = None
        self._closed = False

    # --- what the daemon does with it -------------------------------------------------------

    async def start(self) -> None:
        """Read the disk; MLX is not imported."""
        if self._config.enabled:
            await asyncio.to_thread(self._catalog.refresh)

    async def preload(self, name: str) -> None:
        """Have a model resident; raises AttemptFailed when it can't be."""
        folder = await self._find(name)
        self._check_loadable(folder)
        if self._states.get(folder.path) == "ready":
            return
        done: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._waiting_for.setdefault(folder.path, []).append(done)
        self._note_loading(folder)
        self._host.load(folder)
        failure = await done
        if failure is not None:
            raise AttemptFailed(failure)

    def rescan(self) -> None:
        """A model was added or removed: the next one who asks reads the disk again."""
        self._catalog.expire()

    async def look(self) -> None:
        """Read the disk as it is now. Many who ask at once share a scan."""
        if self._config.enabled:
            await asyncio.to_thread(self._catalog.refresh, since=time.monotonic())

    async def close(self, deadline: float) -> bool:
        """End everything until `deadline` (loop time). False: the engine's thread still runs, so
        the process must leave by `os._exit`.
        """
        self._closed = True
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing])
        ended = await self._host.close(deadline)
        self.engine_lost()  # whoever waits for a model is told
        return ended

    # --- what others may ask ----------------------------------------------------------------

    def models(self) -> list[LocalModel]:
        """Every model on this disk, as of the last scan; a stale one is renewed in the background."""
        if not self._config.enabled:
            return []
        self._refresh_soon()
        return [
            LocalModel(m.name, m.path, m.size_bytes, self._states.get(m.path, "cold"), m.context)
            for m in self._catalog.models.values()
        ]

    def knows(self, name: str) -> bool:
        if not self._config.enabled:
            return False
        self._refresh_soon()
        return name in self._catalog.models

    def wait_s(self, name: str) -> float:
        """How long a new request for this model would probably wait for its place."""
        folder = self._catalog.models.get(name)
        return 0.0 if folder is None else self._scheduler.wait_s(folder.path)

    def queued(self, name: str) -> int:
        """How many requests wait for a place at this model."""
        folder = self._catalog.models.get(name)
        return 0 if folder is None else self._scheduler.waiting(folder.path)

    def stats(self) -> dict[str, Any]:
        """Figures for status and metrics; cheap."""
        counters = self._host.counters()
        paths = {m.path: m.name for m in self._catalog.models.values()}
        return {
            "engine": self._host.phase(),
            "engines_lost": self._host.replaced,
            "memory_limit_bytes": self._limit_bytes,
            "models": {
                paths.get(path, path): {
                    "state": state,
                    "running": self._scheduler.running(path),
                    "waiting": self._scheduler.waiting(path),
                }
                for path, state in self._states.items()
            },
            **{name: getattr(counters, name) for name in counters.__struct_fields__},
        }

    # --- Backend ----------------------------------------------------------------------------

    async def open(self, call: Call, *, deadline: float) -> LocalReply:
        """Admit the request, wait until its model is there and its prompt fits, give the reply."""
        name = self._check_call(call)
        folder = await self._find(name)
        request = await self._read(call)
        self._check_loadable(folder)
        ticket = self._host.ticket(folder)
        place = self._scheduler.admit(folder.path, ticket.id, time.monotonic())
        if isinstance(place, Full):
            raise AttemptFailed(
                Failure(
                    outcome=Outcome.OVERLOADED,
                    message=f"the queue of local model {name} is full ({place.waiting} wait)",
                    status=503,
                    code="queue_full",
                    retry_after_s=place.retry_after_s,
                )
            )
        self._note_loading(folder)
        try:
            self._host.submit(ticket, request)
            async with asyncio.timeout_at(deadline):
                await _accepted(ticket)
        except TimeoutError as error:
            self._host.cancel(ticket)
            message = f"local model {name} was not ready in time"
            raise AttemptFailed(Failure(outcome=Outcome.SLOW, message=message, status=504)) from error
        except BaseException:
            self._host.cancel(ticket)
            raise
        answer = Answer(
            answer_id=f"chatcmpl-{uuid.uuid4().hex[:24]}",
            model=name,
            created=int(time.time()),
            fingerprint=f"fp_{folder.fingerprint[:10]}",
            include_usage=request.include_usage,
        )
        return LocalReply(
            ticket,
            answer,
            stream=request.stream,
            include_usage=request.include_usage,
            cancel=self._host.cancel,
        )

    def _check_call(self, call: Call) -> str:
        if self._closed:
            raise _failed(Outcome.OVERLOADED, "the gateway is shutting down", 503)
        if not self._config.enabled:
            raise _failed(Outcome.MODEL_MISSING, "local models are switched off (local.enabled)", 404)
        if call.path != CHAT or call.method != "POST":
            message = f"local models don't answer {call.method} {call.path}"
            raise _failed(Outcome.UNSUPPORTED, message, 400, code="unsupported_path")
        if not call.model:
            message = "model is missing; name a model"
            raise _failed(
                Outcome.CLIENT_FAULT, message, 400, code="missing_required_parameter", param="model"
            )
        return call.model

    async def _read(self, call: Call) -> ChatRequest:
        data = call.body.data if call.body is not None else b""
        try:
            if data is None:
                raise Unsupported("body", "a body that is streamed can't be answered by a local model")
            if len(data) > _BIG_BODY:
                return await asyncio.to_thread(read_chat, data)
            return read_chat(data)
        except RequestError as error:
            outcome = Outcome.UNSUPPORTED if isinstance(error, Unsupported) else Outcome.CLIENT_FAULT
            raise _failed(outcome, str(error), error.status, code=error.code, param=error.param) from error

    async def _find(self, name: str) -> ModelFolder:
        """The folder of `name`; the disk is asked again when it may have changed."""
        found = self._catalog.models.get(name)
        resident = found is not None and self._states.get(found.path) in ("ready", "loading")
        if not resident and self._catalog.stale:
            found = (await asyncio.to_thread(self._catalog.refresh)).get(name)
        if found is None:
            message = f"there is no local model {name!r}; `mlx-gateway models list` shows them"
            raise _failed(Outcome.MODEL_MISSING, message, 404, code="model_not_found", param="model")
        return found

    def _check_loadable(self, folder: ModelFolder) -> None:
        """Refuse at once what failed a moment ago or what does not fit into the memory."""
        rest = self._host.tired
        if rest > 0:
            raise AttemptFailed(
                Failure(
                    outcome=Outcome.LOCAL_FAULT,
                    message="the local engine failed several times and rests",
                    status=503,
                    code="engine_failed",
                    retry_after_s=rest,
                )
            )
        failed = self._failed.get(folder.path)
        if failed is not None:
            if failed.fingerprint == folder.fingerprint and time.monotonic() < failed.until:
                raise AttemptFailed(failed.failure)
            del self._failed[folder.path]
        sizes = {path: known.size_bytes for path, known in self._resident.items()}
        decision = decide(folder.path, folder.size_bytes, sizes, self._limit_bytes)
        if decision.verdict in (Verdict.RESIDENT, Verdict.LOAD):
            return
        need, limit = decision.needed_bytes / _GIB, self._limit_bytes / _GIB
        sentence = f"local model {folder.name} needs about {need:.1f} GiB"
        if decision.verdict is Verdict.TOO_LARGE:
            message = f"{sentence}; the limit is {limit:.1f} GiB (local.memory_limit_gb)"
            raise _failed(Outcome.LOCAL_FAULT, message, 503, code="model_too_large")
        message = f"{sentence}; {max(0.0, decision.free_bytes / _GIB):.1f} GiB are free"
        raise _failed(Outcome.OVERLOADED, message, 503, code="memory_full")

    def _note_loading(self, folder: ModelFolder) -> None:
        if folder.path not in self._resident:
            self._resident[folder.path] = folder
            self._states[folder.path] = "loading"

    def _refresh_soon(self) -> None:
        if not self._catalog.stale:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a command without a daemon
            self._catalog.refresh()
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = loop.create_task(
                asyncio.to_thread(self._catalog.refresh), name="local-catalog"
            )

    # --- host.Listener ----------------------------------------------------------------------

    def began(self, ticket: Ticket) -> None:
        self._scheduler.began(ticket.model.path, ticket.id, time.monotonic())

    def ended(self, ticket: Ticket) -> None:
        self._scheduler.left(ticket.model.path, ticket.id, time.monotonic())

    def model_changed(self, event: ModelChanged) -> None:
        path = event.model.path
        self._states[path] = event.state
        if event.state == "failed" and event.failure is not None:
            self._resident.pop(path, None)
            until = time.monotonic() + _FAILED_S
            self._failed[path] = _FailedLoad(event.model.fingerprint, until, event.failure)
        if event.state in ("ready", "failed"):
            self._tell(path, event.failure)

    def engine_lost(self) -> None:
        self._states.clear()
        self._resident.clear()
        failure = Failure(outcome=Outcome.LOCAL_FAULT, message="the local engine was lost", status=503)
        for path in list(self._waiting_for):
            self._tell(path, failure)

    def _tell(self, path: str, failure: Failure | None) -> None:
        for waiter in self._waiting_for.pop(path, []):
            if not waiter.done():
                waiter.set_result(failure)


async def _accepted(ticket: Ticket) -> None:
    """Wait until the engine has accepted the request; raise what it says instead."""
    while True:
        event = await ticket.take()
        if isinstance(event, Accepted):
            return
        if isinstance(event, Refused):
            raise AttemptFailed(event.failure)


def _failed(
    outcome: Outcome, message: str, status: int, *, code: str | None = None, param: str | None = None
) -> AttemptFailed:
    return AttemptFailed(Failure(outcome=outcome, message=message, status=status, code=code, param=param))


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
