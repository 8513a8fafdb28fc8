"""The protocol that both sides obey, the local pool and the cloud: open a call, get a reply.

A backend turns every way in which it can fail into one `AttemptFailed` with a `Failure`; it
never retries and never decides where a request goes next. That is `failover`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from gateway.failover.outcome import Failure
from gateway.snapshot import Credential, Upstream
from gateway.wire.dialect import Dialect


class AttemptFailed(Exception):  # noqa: N818 - it is an outcome on its way, not a program's error
    """An attempt is over without success; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Framing(Enum):
    """What one item of a reply's chunks is."""

    RAW = "raw"  # bytes as they were read from the peer, cut anywhere
    EVENTS = "events"  # the data of one SSE event each, without `data: ` and line ends
    WHOLE = "whole"  # one item: the whole body


class RequestBody(Protocol):
    """A request's body as an attempt needs it: bytes, or a stream that can be sent once."""

    @property
    def size(self) -> int | None:
        """Bytes in all, where known (then Content-Length is sent, else chunked)."""

    @property
    def data(self) -> bytes | None:
        """The whole body where it is in memory, else None."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body from its start; a body that is not replayable may be taken once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt's request. `headers` are the client's own, in order; nothing of them may be
    sent anywhere before it went through `cloud.headers`. `path` begins with /v1/, without query.
    """

    request_id: str
    method: str
    path: str
    query: str
    dialect: Dialect
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: RequestBody | None = field(repr=False)
    model: str | None  # the name of the model at this target; already in `body`
    stream: bool
    upstream: Upstream | None = None  # None: the local pool
    credential: Credential | None = None
    keep: bool = False  # somebody may have to go on with the answer: record what that takes
    changed: tuple[str, ...] = ()  # what of the client's request is not in it any more
    # The tokens that a local model has said to this request already, before it was lost.
    resume: tuple[int, ...] = field(default=(), repr=False)
    local_only: bool = False  # no byte of it may leave this machine


class Reply(Protocol):
    """An answer that has begun: status below 300, its chunks, and of its headers, in lower case, those
    that a client may see.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    framing: Framing

    @property
    def trail(self) -> tuple[int, ...] | None:
        """The token ids of the answer so far, where they were kept (`Call.keep`) and are known."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises `AttemptFailed` when it breaks; ends when the peer says it is complete."""

    async def aclose(self) -> None:
        """Stop at once whatever still produces this reply; safe to call twice and at any time."""


class Backend(Protocol):
    """Something that answers calls."""

    async def open(self, call: Call, *, deadline: float) -> Reply:
        """Send `call` and wait for the head of the reply, at the latest until `deadline`
        (event loop time). Raises `AttemptFailed`. Cancelling it stops all that it started.
        """
