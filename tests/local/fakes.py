"""An engine and a host without MLX, for what stands in front of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gateway.local.mailbox import (
    Command,
    Counters,
    Event,
    Finished,
    ModelChanged,
    ModelFacts,
    ModelFolder,
    Pulse,
    Stop,
)
from gateway.local.worker import Ticket


def folder(name: str, size_bytes: int = 1, **fields: Any) -> ModelFolder:
    return ModelFolder(name=name, path=f"/{name}", size_bytes=size_bytes, fingerprint=f"f-{name}", **fields)


def facts(*, batched: bool = True) -> ModelFacts:
    return ModelFacts(
        load_s=0.5,
        parameters=1,
        weight_bytes=1,
        vocabulary=1,
        cache="KVCache",
        kv_token_bytes=1,
        batched=batched,
        chat=True,
        tools="",
        thinking=False,
        embeddings=False,
    )


class FakeEngine:
    """An `EngineTransport` that notes what it is told and says what the test says. It ends when it is told to,
    unless it is `stubborn`.
    """

    def __init__(self, deliver: Callable[[list[Event]], None], *, pid: int | None = None) -> None:
        self.say = deliver
        self.posted: list[Command] = []
        self.state = Pulse("idle", time.monotonic())
        self.counted = Counters()
        self.alive, self.stubborn, self.abandoned = True, False, False
        self.pid = pid

    def post(self, command: Command) -> None:
        self.posted.append(command)
        if isinstance(command, Stop) and not self.stubborn:
            self.alive = False

    def pulse(self) -> Pulse:
        return self.state

    def counters(self) -> Counters:
        return self.counted

    def abandon(self) -> None:
        self.abandoned = True
        self.alive = self.alive and self.pid is None  # a process can be killed

    def join(self, timeout_s: float) -> bool:
        return not self.alive


class Engines:
    """Makes engines and keeps them."""

    def __init__(self, *, pids: bool = False) -> None:
        self.made: list[FakeEngine] = []
        self._pids = pids

    def __call__(self, deliver: Callable[[list[Event]], None]) -> FakeEngine:
        self.made.append(FakeEngine(deliver, pid=100 + len(self.made) if self._pids else None))
        return self.made[-1]

    @property
    def last(self) -> FakeEngine:
        return self.made[-1]


class Heard:
    """A `worker.Listener` that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def began(self, ticket: Ticket) -> None:
        self.told.append(("began", ticket.id))

    def finished(self, ticket: Ticket, event: Finished) -> None:
        self.told.append(("finished", ticket.id))

    def ended(self, ticket: Ticket) -> None:
        self.told.append(("ended", ticket.id))

    def model_changed(self, event: ModelChanged) -> None:
        self.told.append((event.state, event.model.name))

    def engine_lost(self, path: str | None) -> None:
        self.told.append(("lost", path))


class FakeHost:
    """What `residents` asks of a `Host`; it notes what it is told to do."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.held = Counters()
        self.rest_s = 0.0
        self.runs = True

    def tired(self, path: str) -> float:
        return self.rest_s

    def counters(self) -> Counters:
        return self.held

    def running(self, path: str) -> bool:
        return self.runs

    def load(self, model: ModelFolder) -> None:
        self.did.append(("load", model.name))

    def unload(self, model: ModelFolder) -> None:
        self.did.append(("unload", model.name))

    def shrink(self, prompt_cache_bytes: int) -> None:
        self.did.append(("shrink", prompt_cache_bytes))
