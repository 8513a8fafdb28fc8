"""What goes on in place of a committed attempt that broke: its call, and its events as the rest of the first.

The client has a part of an answer. Whoever goes on is given that part, either as the tokens themselves
(the same local model) or as the beginning of the assistant's message, and what it says is rewritten so
that the client sees one answer (`wire.splice`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from gateway.backend import AttemptFailed, Call
from gateway.failover.outcome import Failure, Outcome
from gateway.relay.attempt import Attempt
from gateway.relay.inbound import Bytes, Inbound
from gateway.wire.api import Api
from gateway.wire.splice import Mismatch, Splicer
from gateway.wire.spoken import Spoken, continued_body, spoken
from gateway.wire.sse import comment


@dataclass(frozen=True, slots=True)
class Remains:
    """What a broken attempt leaves to the one that goes on. `base`: so many characters of the answer were
    in its prompt, where it went on itself.
    """

    api: Api
    said: Spoken
    record: tuple[bytes, ...]
    base: int
    call: Call
    trail: tuple[int, ...]

    def ask(self, call: Call, *, exact: bool) -> tuple[Call, int]:
        """Turn `call`, which asks for the whole answer, into one that asks for the rest, and say which part
        of the answer is in its prompt.
        """
        if exact and self.trail:
            return replace(self.call, resume=self.trail), self.base
        assert call.body is not None and call.body.data is not None
        body = Bytes(continued_body(self.api, call.body.data, self.said))
        return replace(call, body=body), len(self.said.text)


class Successor:
    """An attempt that goes on, in the shape that the pump carries. `base` as in `Remains`."""

    is_events = False

    def __init__(self, attempt: Attempt, left: Remains, base: int) -> None:
        self.attempt = attempt
        self.base = base
        self.record: list[bytes] | None = list(left.record)
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
    call, record, reply = attempt.call, carried.record, attempt.reply
    if record is None or reply is None or call.body is None or call.body.data is None:
        return None
    said = spoken(inbound.api, call.body.data, record, events=False)
    if said is None:
        return None
    base = carried.base if isinstance(carried, Successor) else 0
    return Remains(inbound.api, said, tuple(record), base, call, reply.trail or ())


def framed(data: bytes) -> bytes:
    """The data of one event as it goes over the wire."""
    return b"data: " + data + b"\n\n"
