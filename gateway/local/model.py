"""A local model as others see it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.local.mailbox import ModelFacts, ModelFolder
from gateway.local.residents import State
from gateway.local.speed import Speed


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this disk and what it is doing."""

    folder: ModelFolder
    state: State
    progress: float  # of a load, 0 to 1
    pinned: bool
    idle_s: float | None  # None: it is not in memory, or in use
    facts: ModelFacts | None
    speed: Speed

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> str:
        return self.folder.path
