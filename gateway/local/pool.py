"""The pool of local models: a backend whose answers are generated on this machine.

It knows what is on the disk and what is in memory, admits or refuses, and leaves the work to the
engine behind a mailbox. Neither MLX nor anything heavy is imported before a model is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gateway.backend import AttemptFailed, Call
from gateway.config import Local
from gateway.failover.outcome import Failure, Outcome
from gateway.local.catalog import Catalog
from gateway.local.child import EngineChild
from gateway.local.counting import CountReply, counted
from gateway.local.engine.thread import EngineThread
from gateway.local.forecast import Forecast
from gateway.local.host import Host
from gateway.local.mailbox import (
    Accepted,
    EngineSettings,
    EngineTransport,
    Finished,
    ModelChanged,
    ModelFolder,
)
from gateway.local.memory import footprint, machine_bytes
from gateway.local.model import LocalModel
from gateway.local.outlook import Outlook
from gateway.local.paths import reader_of
from gateway.local.prompt import given_tokens
from gateway.local.reading import Bodies, failed, model_of
from gateway.local.reply import LocalReply
from gateway.local.request import Count, Generate, Work, traced
from gateway.local.residents import Residents
from gateway.local.scheduler import Full, Scheduler
from gateway.local.settings import Choices, engine_settings
from gateway.local.speed import Speeds
from gateway.local.trial import trial
from gateway.local.worker import Deliver, Ticket

_TEND_S = 1.0
_GIB = 1024**3

MakeEngine = Callable[[EngineSettings, Deliver], EngineTransport]


class LocalPool:
    """All local models behind `backend.Backend.open`."""

    def __init__(
        self,
        config: Local,
        home: Path,
        *,
        engine: MakeEngine | None = None,
        measure: Callable[[int | None], int] = footprint,
    ) -> None:
        self._config = config
        self._catalog = Catalog(config, home)
        self._measure = measure
        self._limit_bytes = int(config.memory_limit_gb * _GIB) or int(machine_bytes() * 0.7)
        one_each = config.isolation == "process"
        make = engine or (EngineChild if one_each else EngineThread)
        settings = engine_settings(config, home, self._limit_bytes)
        self._host = Host(partial(make, settings), self, step_limit_s=config.step_limit_s, one_each=one_each)
        self._scheduler = Scheduler(batch_size=config.batch_size, max_queue=config.max_queue)
        self._speeds = Speeds(home / "speeds.json")
        self._residents = Residents(
            lambda: self._host,
            self._scheduler,
            limit_bytes=self._limit_bytes,
            pinned=frozenset(config.pinned),
            keep_alive_s=config.keep_alive_s,
            grown=self._grown,
        )
        self._outlook = Outlook(
            lambda: self._host,
            self._scheduler,
            self._residents,
            self._speeds,
            limit_bytes=self._limit_bytes,
            default_max_tokens=config.default_max_tokens,
            one_each=one_each,
        )
        self._bodies = Bodies()
        self._body_bytes: dict[int, int] = {}  # by ticket
        self._choices = Choices(config)
        self._refreshing: asyncio.Task[Any] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._closed = False

    # --- what the daemon does with it -------------------------------------------------------

    async def start(self) -> None:
        """Read the disk; MLX is not imported."""
        if self._config.enabled:
            await asyncio.to_thread(self._catalog.refresh)
            await asyncio.to_thread(self._speeds.read)

    async def load(self, name: str) -> LocalModel:
        """Have a model resident; raises AttemptFailed when it can't be."""
        folder = await self._named(name)
        self._tend_on()
        await self._residents.load(folder)
        return self._seen(folder)

    async def unload(self, name: str) -> LocalModel:
        """Let a model go; raises AttemptFailed when it is in use."""
        folder = await self._named(name)
        if not await self._residents.unload(folder.path):
            message = f"{name} is in use; stop what uses it, or wait"
            raise failed(Outcome.OVERLOADED, message, 409, code="model_in_use")
        return self._seen(folder)

    async def find(self, name: str) -> LocalModel:
        """One model of this disk; raises AttemptFailed where there is none."""
        return self._seen(await self._named(name))

    async def measure(self, name: str) -> dict[str, Any]:
        """Load a model and try how fast it is; raises AttemptFailed."""
        model = await self.load(name)
        assert model.facts is not None
        facts = model.facts

        async def ask(work: Generate) -> Finished:
            ticket = self._enter(model.folder, work)
            try:
                return await ticket.until(Finished)
            finally:
                self._host.cancel(ticket)

        found = await trial(
            ask, vocabulary=facts.vocabulary, context=model.folder.context, batched=facts.batched
        )
        await asyncio.to_thread(self._speeds.write)
        return {"model": name, "load_s": round(facts.load_s, 3), **found}

    def draft_of(self, name: str) -> str | None:
        """The draft model that the configuration names for a model."""
        return self._choices.draft_of(name)

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
        if self._tending is not None:
            self._tending.cancel()
        tasks = [task for task in (self._refreshing, self._tending) if task is not None]
        if tasks:
            await asyncio.wait(tasks)
        ended = await self._host.close(deadline)
        await asyncio.to_thread(self._speeds.write)
        self.engine_lost(None)  # whoever waits for a model is told
        return ended

    # --- what others may ask ----------------------------------------------------------------

    def models(self) -> list[LocalModel]:
        """Every model on this disk, as of the last scan; a stale one is renewed in the background."""
        if not self._config.enabled:
            return []
        self._refresh_soon()
        return [self._seen(folder) for folder in self._catalog.models.values()]

    def knows(self, name: str) -> bool:
        if not self._config.enabled:
            return False
        self._refresh_soon()
        return name in self._catalog.models

    async def forecast(
        self, call_path: str, model: str | None, body: bytes | None, *, limit_s: float | None = None
    ) -> Forecast:
        """What would become of this call if it came now; `limit_s` is when its first token is wanted.

        `body` None is one that is streamed. Never raises AttemptFailed: what it would say is in the result.
        """
        try:
            folder = await self._find(self._check_call("POST", call_path, model))
            asked = await self._bodies.foresee(call_path, body)
        except AttemptFailed as error:
            return Forecast(failure=error.failure, retry_after_s=error.failure.retry_after_s)
        self._tend_on()
        return await self._outlook.forecast(folder, asked.work, len(body or b""), limit_s)

    def outlook(self, name: str) -> dict[str, Any]:
        """What may be expected of a model now, as JSON for display; empty where it is not known."""
        folder = self._catalog.models.get(name)
        if folder is None or not self._config.enabled:
            return {}
        return self._outlook.plain(self._choices.of(folder, self._catalog.models))

    def stats(self) -> dict[str, Any]:
        """Figures for status and metrics; cheap."""
        counters = self._host.counters()
        return {
            "engine": self._host.phase(),
            "engines_lost": self._host.replaced,
            "isolation": self._config.isolation,
            "worker_pids": self._host.pids(),
            "memory_limit_bytes": self._limit_bytes,
            "memory_used_bytes": self._grown(),
            **self._residents.figures({m.path: m.name for m in self._catalog.models.values()}),
            **msgspec.structs.asdict(counters),
        }

    # --- Backend ----------------------------------------------------------------------------

    async def open(self, call: Call, *, deadline: float) -> LocalReply | CountReply:
        """Admit the request, wait until its model is there and its prompt fits, give the reply."""
        name = self._check_call(call.method, call.path, call.model)
        folder = await self._find(name)
        data = call.body.data if call.body is not None else b""
        asked = await self._bodies.take(call.path, data)
        if isinstance(asked.work, Count):
            self._tend_on()
            return await counted(self._host, folder, asked.work, deadline)
        await self._residents.room(folder, deadline)
        work = traced(asked.work, keep=call.keep, resume=call.resume)
        ticket = self._enter(folder, work)
        if given_tokens(asked.work) is None:
            self._body_bytes[ticket.id] = len(data or b"")
        try:
            async with asyncio.timeout_at(deadline):
                await ticket.until(Accepted)
        except TimeoutError as error:
            self._host.cancel(ticket)
            message = f"local model {name} was not ready in time"
            raise AttemptFailed(Failure(outcome=Outcome.SLOW, message=message, status=504)) from error
        except BaseException:
            self._host.cancel(ticket)
            raise
        return LocalReply(ticket, reader_of(call.path, asked, folder), cancel=self._host.cancel)

    def _enter(self, folder: ModelFolder, work: Work) -> Ticket:
        """Admit a request and hand it to the engine; raises AttemptFailed where there is no room."""
        self._residents.check(folder)
        ticket = self._host.ticket(folder, work.rows)
        place = self._scheduler.admit(folder.path, ticket.id, time.monotonic(), places=ticket.rows)
        if isinstance(place, Full):
            raise AttemptFailed(place.failure(folder.name))
        self._residents.claim(folder)
        self._tend_on()
        self._host.submit(ticket, work)
        return ticket

    def _check_call(self, method: str, path: str, model: str | None) -> str:
        if self._closed:
            raise failed(Outcome.OVERLOADED, "the gateway is shutting down", 503)
        if not self._config.enabled:
            raise failed(Outcome.MODEL_MISSING, "local models are switched off (local.enabled)", 404)
        return model_of(method, path, model)

    async def _find(self, name: str) -> ModelFolder:
        """The folder of `name`; the disk is asked again when it may have changed."""
        found = self._catalog.models.get(name)
        resident = found is not None and self._residents.known(found.path)
        if not resident and self._catalog.stale:
            found = (await asyncio.to_thread(self._catalog.refresh)).get(name)
        if found is None:
            message = f"there is no local model {name!r}; `mlx-gateway models list` shows them"
            raise failed(Outcome.MODEL_MISSING, message, 404, code="model_not_found", param="model")
        return self._choices.of(found, self._catalog.models)

    async def _named(self, name: str) -> ModelFolder:
        """The folder that a command names; it may have been put there a moment ago."""
        if name not in self._catalog.models:
            await self.look()
        return await self._find(name)

    def _seen(self, folder: ModelFolder) -> LocalModel:
        path, stay = folder.path, self._residents.stay(folder.path)
        idle = None
        if stay is not None and stay.ready and not self._scheduler.busy(path):
            idle = time.monotonic() - stay.idle_since
        return LocalModel(
            folder=self._choices.of(folder, self._catalog.models),
            state=self._residents.state(path),
            progress=stay.progress if stay is not None else 0.0,
            pinned=folder.name in self._config.pinned,
            idle_s=idle,
            facts=stay.facts if stay is not None else None,
            speed=self._speeds.of(folder.fingerprint),
        )

    def _grown(self) -> int:
        return self._host.grown(self._measure)

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

    def _tend_on(self) -> None:
        """From the first model on somebody looks after them."""
        if self._tending is None:
            self._tending = asyncio.get_running_loop().create_task(self._tend(), name="local-residency")

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(min(_TEND_S, self._config.keep_alive_s or _TEND_S))
            self._residents.tend()
            self._host.tidy(self._residents.known)

    # --- worker.Listener --------------------------------------------------------------------

    # A ticket without rows is a count: it takes no place, and its model need not be there.

    def began(self, ticket: Ticket) -> None:
        self._scheduler.began(ticket.model.path, ticket.id, time.monotonic())

    def finished(self, ticket: Ticket, event: Finished) -> None:
        if ticket.rows:
            size = self._body_bytes.get(ticket.id, 0)
            self._speeds.learn(ticket.model.fingerprint, event, ticket.rows, size)

    def ended(self, ticket: Ticket) -> None:
        if not ticket.rows:
            return
        self._scheduler.left(ticket.model.path, ticket.id, time.monotonic())
        self._residents.idle(ticket.model.path)
        self._body_bytes.pop(ticket.id, None)

    def model_changed(self, event: ModelChanged) -> None:
        if event.facts is not None:
            size = event.model.size_bytes + event.model.draft_bytes
            self._speeds.loaded(event.model.fingerprint, event.facts.load_s, size)
        self._residents.changed(event)

    def engine_lost(self, path: str | None) -> None:
        self._residents.lost(path)
