"""A local answer as the relay takes it: the data of events for a stream, or one whole body."""

from __future__ import annotations

import array
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway.backend import AttemptFailed, Framing
from gateway.local.embedding import embedding_list
from gateway.local.mailbox import (
    CallBegan,
    CallDelta,
    Delta,
    Ended,
    Finished,
    Refused,
    TicketEvent,
    Vectors,
)
from gateway.local.output import DONE, Answer, Collected
from gateway.local.worker import Ticket

_JSON = (("content-type", "application/json"),)
_EVENTS = (("content-type", "text/event-stream"),)


class Reader(Protocol):
    """Makes the items of a reply of what the engine says."""

    framing: Framing

    def items(self, ticket: Ticket) -> AsyncIterator[bytes]: ...


class LocalReply:
    """An answer that the engine has accepted; `aclose` takes it out of the batch within a step."""

    def __init__(self, ticket: Ticket, reader: Reader, *, cancel: Callable[[Ticket], None]) -> None:
        self._ticket, self._reader, self._cancel = ticket, reader, cancel
        self.status = 200
        self.framing = reader.framing
        self.headers: tuple[tuple[str, str], ...] = _EVENTS if self.framing is Framing.EVENTS else _JSON

    @property
    def trail(self) -> tuple[int, ...] | None:
        """The tokens of the answer so far, for `Call.resume`: never fewer than the chunks are made of, but
        for calls of tools. Also when the answer broke. None: they were not kept.
        """
        trail = self._ticket.trail
        return None if trail is None else tuple(trail)

    def chunks(self) -> AsyncIterator[bytes]:
        return self._reader.items(self._ticket)

    async def aclose(self) -> None:
        self._cancel(self._ticket)


class Stream:
    """A chunk for whatever has come, one after the other."""

    framing = Framing.EVENTS

    def __init__(self, answer: Answer, *, choices: int, include_usage: bool) -> None:
        self._answer, self._choices, self._include_usage = answer, choices, include_usage

    async def items(self, ticket: Ticket) -> AsyncIterator[bytes]:
        answer = self._answer
        for chunk in answer.opening(self._choices):
            yield chunk
        while True:
            event = await ticket.take()
            if isinstance(event, Delta):
                yield answer.delta(ticket.more(event))
            elif isinstance(event, CallDelta):
                yield answer.call_delta(event)
            elif isinstance(event, CallBegan):
                yield answer.call_began(event)
            elif isinstance(event, Ended):
                yield answer.ended(event)
            elif isinstance(event, Finished):
                if self._include_usage:
                    yield answer.usage(event)
                yield DONE
                return
            else:
                _check(event)


class Whole:
    """One body, when all choices are complete."""

    framing = Framing.WHOLE

    def __init__(self, answer: Answer, *, choices: int) -> None:
        self._answer = answer
        self._answers = [Collected() for _ in range(choices)]

    async def items(self, ticket: Ticket) -> AsyncIterator[bytes]:
        while True:
            event = await ticket.take()
            if isinstance(event, Delta | CallBegan | CallDelta | Ended):
                self._answers[event.choice].take(event)
            elif isinstance(event, Finished):
                yield self._answer.whole(self._answers, event)
                return
            else:
                _check(event)


class Embedding:
    """The vectors of all inputs."""

    framing = Framing.WHOLE

    def __init__(self, model: str, *, packed: bool) -> None:
        self._model, self._packed = model, packed

    async def items(self, ticket: Ticket) -> AsyncIterator[bytes]:
        vectors: list[array.array[float]] = []
        while True:
            event = await ticket.take()
            if isinstance(event, Vectors):
                vectors = [array.array("f", data) for data in event.data]
            elif isinstance(event, Finished):
                found = [vector.tolist() for vector in vectors]
                yield embedding_list(self._model, found, tokens=event.prompt_tokens, packed=self._packed)
                return
            else:
                _check(event)


def _check(event: TicketEvent) -> None:
    if isinstance(event, Refused):
        raise AttemptFailed(event.failure)
