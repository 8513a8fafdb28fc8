"""What goes on in place of a committed attempt that broke: its call, and its events as the rest of the first.

The client has a part of an answer. Whoever goes on is given that part, either as the tokens themselves
(the same local model) or as the beginning of the assistant's message, and what it says is rewritten so
that the client sees one answer (`wire.splice`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure, Outcome
from gateway.relay.attempt import Attempt
from gateway.relay.inbound import Inbound
from gateway.wire.api import Api
from gateway.wire.body import JsonBody
from gateway.wire.splice import Mismatch, Splicer
from gateway.wire.spoken import Spoken, spoken
from gateway.wire.sse import comment


@dataclass(frozen=True, slots=True)
class Remains:
    """What a broken attempt leaves to the one that goes on. `began_with` is the part of the answer that was
    in its prompt, where it went on itself; `trail` are the tokens that it has added to that.
    """

    api: Api
    said: Spoken
    record: tuple[bytes, ...]
    began_with: Spoken | None
    trail: tuple[int, ...]

    def prompt(self, *, exact: bool) -> Spoken | None:
        """The part of the answer that is put into the prompt of whoever goes on."""
        return self.began_with if exact and self.trail else self.said

    def tokens(self, *, exact: bool) -> tuple[int, ...]:
        """What it goes on from behind that."""
        return self.trail if exact else ()


class Successor:
    """An attempt that goes on, in the shape that the pump carries. `began_with` as in `Remains`."""

    is_events = False

    def __init__(self, attempt: Attempt, left: Remains, began_with: Spoken | None) -> None:
        self.attempt = attempt
        self.began_with = began_with
        self.record: list[bytes] | None = list(left.record)
        base = 0 if began_with is None else len(began_with.text)
        self._splicer = Splicer(left.api, left.said, drop=len(left.said.text) - base)
        self._waits = attempt.held
        self.held: list[bytes] = []
        self.ended = False  # not before its last part: all of the attempt may wait here already

    @property
    def comments_are_safe(self) -> bool:
        return self.attempt.comments_are_safe

    async def rest(self) -> AsyncIterator[bytes]:
        """All of it, as the end of the answer that the client is reading."""
        last = len(self._waits) - 1
        for place, part in enumerate(self._waits):
            yield self._spliced(part, last=self.attempt.ended and place == last)
        async for part in self.attempt.rest():
            yield self._spliced(part, last=self.attempt.ended)

    def _spliced(self, part: bytes, *, last: bool) -> bytes:
        try:
            spliced = self._splicer.feed_raw(framed(part) if self.attempt.is_events else part)
        except Mismatch as error:
            message = f"what went on does not fit what had been said: {error}"
            raise AttemptFailed(Failure(outcome=Outcome.SERVER_FAULT, message=message)) from error
        if self.record is not None:
            self.record.append(spliced)
        self.ended = last
        if last and self.comments_are_safe:
            return spliced + comment(f"continued-by {self.attempt.candidate.label}")
        return spliced


def remains(inbound: Inbound, carried: Attempt | Successor) -> Remains | None:
    """What a committed attempt leaves, None where nobody can go on with it."""
    attempt = carried.attempt if isinstance(carried, Successor) else carried
    if carried.record is None or attempt.reply is None or not isinstance(inbound.body, JsonBody):
        return None
    said = spoken(inbound.api, inbound.body.data, carried.record, events=False)
    if said is None:
        return None
    began_with = carried.began_with if isinstance(carried, Successor) else None
    return Remains(inbound.api, said, tuple(carried.record), began_with, attempt.reply.trail or ())


def framed(data: bytes) -> bytes:
    """The data of one event as it goes over the wire."""
    return b"data: " + data + b"\n\n"
