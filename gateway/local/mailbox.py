"""The border between the event loop and an engine: frozen messages of plain data, both ways.

Whatever stands behind `EngineTransport` - a thread of this process, later a child process - gets
`Command`s and gives `Delivery`s. Nothing of MLX, no callback and no lock crosses the border.
The mailbox is bounded by the scheduler: what was not admitted is not posted.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.failover.outcome import Failure
from gateway.local.request import ChatRequest


class ModelFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A model on disk: what it is called, where it is, and what tells one state of it from another."""

    name: str
    path: str
    size_bytes: int
    fingerprint: str
    context: int = 0  # tokens it was made for; 0 when its configuration does not say


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is told once, when it starts."""

    batch_size: int
    prefill_step: int
    default_max_tokens: int
    cache_bytes: int  # freed buffers that MLX may keep for reuse


# --- commands ---------------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True):
    """Answer this; `id` is unique for the life of the process."""

    id: int
    model: ModelFolder
    request: ChatRequest


class Cancel(msgspec.Struct, frozen=True):
    """Nobody waits for this any more; no event follows."""

    id: int


class Load(msgspec.Struct, frozen=True):
    """Have this model resident."""

    model: ModelFolder


class Stop(msgspec.Struct, frozen=True):
    """End: everything still open is dropped without an event."""


Command = Submit | Cancel | Load | Stop

# --- events -----------------------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True):
    """The model is resident, the prompt is rendered and fits: the answer will be generated."""

    id: int
    prompt_tokens: int


class Began(msgspec.Struct, frozen=True):
    """The request has its place in the batch."""

    id: int


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    id: int
    text: str
    reasoning: bool = False


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool, with its arguments as JSON text."""

    call_id: str
    name: str
    arguments: str


class Called(msgspec.Struct, frozen=True):
    """The model has called a tool; `index` counts the calls of one answer."""

    id: int
    index: int
    call: ToolCall


class Finished(msgspec.Struct, frozen=True):
    """The answer is complete."""

    id: int
    reason: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int
    completion_tokens: int


class Refused(msgspec.Struct, frozen=True):
    """There is no answer, or no rest of it."""

    id: int
    failure: Failure


class ModelChanged(msgspec.Struct, frozen=True):
    """A model began to load, is ready, could not be loaded, or was dropped."""

    model: ModelFolder
    state: Literal["loading", "ready", "failed", "cold"]
    failure: Failure | None = None


class Gone(msgspec.Struct, frozen=True):
    """The engine has ended; whatever it had not finished gets no further event."""


Event = Accepted | Began | Delta | Called | Finished | Refused | ModelChanged | Gone


class Counters(msgspec.Struct):
    """What an engine has done since it began."""

    steps: int = 0  # calls of the batch generators
    rows: int = 0  # rows that these steps advanced, so rows/steps is the mean batch
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rebuilds: int = 0  # generators that were thrown away after an exception
    cancelled: int = 0
    loads: int = 0


class Pulse(NamedTuple):
    """Where the engine is: what it does, since when (monotonic), how long that may take."""

    phase: Literal["idle", "step", "load"]
    since: float
    allowance_s: float = 0.0  # on top of the limit of a step


class EngineTransport(Protocol):
    """An engine behind the border."""

    def post(self, command: Command) -> None:
        """Hand over a command; never blocks."""

    def pulse(self) -> Pulse:
        """The last sign of life."""

    def counters(self) -> Counters:
        """A copy of what it has counted."""

    @property
    def alive(self) -> bool:
        """Is there still something that takes commands?"""

    def abandon(self) -> None:
        """It hangs: whatever it still does is not wanted, and it ends as soon as it wakes up."""

    def join(self, timeout_s: float) -> bool:
        """Wait for its end after `Stop`; False when it did not end in time. Blocks."""
