"""The border between the event loop and an engine: frozen messages of plain data, both ways.

Whatever stands behind `EngineTransport` - a thread of this process, or a child process - gets
`Command`s and gives `Event`s. Nothing of MLX, no callback and no lock crosses the border; every
message can be written as bytes. The mailbox is bounded by the scheduler: what was not admitted is
not posted.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.failover.outcome import Failure
from gateway.local.request import Work


class ModelFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A model on disk: what it is called, where it is, and what tells one state of it from another.

    `kv_bits` and `draft` are settings of this machine for it; either makes its requests run one at
    a time (`mlx_lm` has neither for batches).
    """

    name: str
    path: str
    size_bytes: int
    fingerprint: str
    context: int = 0  # tokens it was made for; 0 when its configuration does not say
    kv_bits: int = 0  # 0: keys and values are kept as the model computes them
    draft: str = ""  # the folder of a smaller model that guesses ahead
    draft_bytes: int = 0


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is told once, when it starts."""

    batch_size: int
    prefill_step: int
    default_max_tokens: int
    cache_bytes: int  # freed buffers that MLX may keep for reuse
    memory_bytes: int = 0  # for models, answers and prompt cache together; 0: no limit
    prompt_cache_bytes: int = 0
    prompt_cache_folder: str = ""  # where prompts that leave the memory are kept; empty: nowhere
    prompt_cache_disk_bytes: int = 0


# --- commands ---------------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Do this; `id` is unique for the life of the process."""

    id: int
    model: ModelFolder
    work: Work


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for this any more; no event follows."""

    id: int


class Load(msgspec.Struct, frozen=True, tag=True):
    """Have this model resident."""

    model: ModelFolder


class Unload(msgspec.Struct, frozen=True, tag=True):
    """Let this model go, with all its memory. Whatever it still does is lost, so ask when it is idle."""

    path: str


class Shrink(msgspec.Struct, frozen=True, tag=True):
    """Keep at most so many bytes of prompts."""

    prompt_cache_bytes: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End: everything still open is dropped without an event."""


Command = Submit | Cancel | Load | Unload | Shrink | Stop

# --- events -----------------------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """The model is resident, the prompt is rendered and fits: the answer will be generated."""

    id: int
    prompt_tokens: int


class Began(msgspec.Struct, frozen=True, tag=True):
    """The request has its place in the batch."""

    id: int


class Likely(msgspec.Struct, frozen=True, array_like=True):
    """A token that might have come: its text, its exact bytes, and the natural log of its probability."""

    text: str
    raw: bytes
    logprob: float


class TokenProb(msgspec.Struct, frozen=True, array_like=True):
    """The token that came, and the likeliest at its place."""

    token: Likely
    top: tuple[Likely, ...] = ()


class Delta(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A piece of an answer. `probs` are of the tokens that it is made of, where they were asked for.

    `tokens`, where they were asked for, are all that came since the piece before: those of text that
    is held back, and of other pieces of the same moment, too.
    """

    id: int
    text: str
    reasoning: bool = False
    choice: int = 0
    probs: tuple[TokenProb, ...] = ()
    tokens: tuple[int, ...] = ()


class CallBegan(msgspec.Struct, frozen=True, tag=True):
    """The model begins to call a tool; `index` counts the calls of one answer."""

    id: int
    index: int
    call_id: str
    name: str
    choice: int = 0


class CallDelta(msgspec.Struct, frozen=True, tag=True):
    """A piece of the arguments of that call, which together are JSON text."""

    id: int
    index: int
    text: str
    choice: int = 0


class Ended(msgspec.Struct, frozen=True, tag=True):
    """One answer of several, or the only one, is complete; `stop` is the string that it was stopped by."""

    id: int
    reason: Literal["stop", "length", "tool_calls"]
    choice: int = 0
    stop: str | None = None


class Vectors(msgspec.Struct, frozen=True, tag=True):
    """The vectors of some inputs, in their order, each as 32-bit floats of this machine."""

    id: int
    data: tuple[bytes, ...]


class Finished(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """All of a request is complete. The seconds are those of its slowest part, measured at the engine;
    0 for an answer that was gone on with.
    """

    id: int
    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Refused(msgspec.Struct, frozen=True, tag=True):
    """There is no answer, or no rest of it."""

    id: int
    failure: Failure


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model only when it is loaded."""

    load_s: float
    parameters: int
    weight_bytes: int  # in memory
    vocabulary: int
    cache: str  # the kinds of its caches, e.g. KVCache
    kv_token_bytes: int  # how a token makes the cache grow
    batched: bool
    chat: bool
    tools: str  # the family of its tool calls, or empty
    thinking: bool
    embeddings: bool
    template_bytes: int = 0  # of its chat templates


class ModelChanged(msgspec.Struct, frozen=True, tag=True):
    """A model began to load or came further, is ready, could not be loaded, or was dropped."""

    model: ModelFolder
    state: Literal["loading", "ready", "failed", "cold"]
    failure: Failure | None = None
    progress: float = 0.0  # of a load, 0 to 1
    facts: ModelFacts | None = None


class Gone(msgspec.Struct, frozen=True, tag=True):
    """The engine has ended; whatever it had not finished gets no further event."""


TicketEvent = Accepted | Began | Delta | CallBegan | CallDelta | Ended | Vectors | Finished | Refused
Event = TicketEvent | ModelChanged | Gone


class Counters(msgspec.Struct):
    """What an engine has done since it began, and what it holds."""

    steps: int = 0  # calls of the batch generators
    rows: int = 0  # rows that these steps advanced, so rows/steps is the mean batch
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompts' tokens, those that were not computed again
    rebuilds: int = 0  # generators that were thrown away after an exception
    cancelled: int = 0
    loads: int = 0
    unloads: int = 0
    prompt_cache_bytes: int = 0
    active_bytes: int = 0  # of MLX: weights, caches, what is being computed
    base_bytes: int = 0  # what its process took before the first model


class Pulse(NamedTuple):
    """Where the engine is: what it does, since when (monotonic), how long that may take."""

    phase: Literal["idle", "step", "load", "silent"]
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
    def pid(self) -> int | None:
        """The process it lives in; None when that is this one."""

    @property
    def alive(self) -> bool:
        """Is there still something that takes commands?"""

    def abandon(self) -> None:
        """It hangs: whatever it still does is not wanted. A thread ends as soon as it wakes up; a process
        is killed.
        """

    def join(self, timeout_s: float) -> bool:
        """Wait for its end after `Stop`; False when it did not end in time. Blocks."""
