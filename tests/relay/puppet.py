"""A backend on strings: it answers what it was told, piece by piece, and holds at every gate.

A script is one `Answer` per call, then the last one for ever. A piece is bytes (one chunk), a gate to
wait at, a `Failure` (the reply breaks), an exception (something that nobody foresaw) or a function to call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from gateway.backend import AttemptFailed, Call, Framing
from gateway.failover.outcome import Failure, Outcome
from gateway.local.forecast import Forecast
from tests import canned

Piece = bytes | asyncio.Event | Failure | Exception | Callable[[], object]

STREAM = "text/event-stream"
CHAT = canned.chat_stream()  # role, four words, the end, [DONE]


def events(wire: Sequence[bytes] = CHAT) -> list[Piece]:
    """The same stream as the local pool gives it: data without frames."""
    return [event.removeprefix(b"data: ").removesuffix(b"\n\n") for event in wire]


def whole(text: str = canned.TEXT) -> bytes:
    return canned.dump(canned.chat_whole(text))


def failure(outcome: Outcome = Outcome.SERVER_FAULT, message: str = "the puppet says no") -> Failure:
    return Failure(outcome=outcome, message=message)


@dataclass
class Answer:
    """What one call gets. `head` comes before the reply has begun."""

    pieces: Sequence[Piece] = field(default_factory=lambda: list(CHAT))
    head: Sequence[Piece] = ()
    kind: str | None = STREAM
    framing: Framing = Framing.RAW
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


def local_stream(*pieces: Piece) -> Answer:
    return Answer(pieces or events(), framing=Framing.EVENTS)


def json(*pieces: Piece) -> Answer:
    return Answer(pieces or [whole()], kind="application/json")


class PuppetReply:
    """Begun; `closed` counts how often somebody closed it."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        kind = (("content-type", answer.kind),) if answer.kind is not None else ()
        self.headers = (*kind, *answer.headers)
        self.framing = answer.framing
        self.closed = 0
        self.trail: tuple[int, ...] | None = None
        self._pieces = answer.pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await _meet(piece)

    async def aclose(self) -> None:
        self.closed += 1


class Puppet:
    """Also a local pool: it knows every name in `names`."""

    def __init__(self, *answers: Answer, names: Sequence[str] = ("m",)) -> None:
        self.names = set(names)
        self.calls: list[Call] = []
        self.replies: list[PuppetReply] = []
        self.looked = 0
        self.trails: list[tuple[int, ...] | None] = []  # of its replies, in their order
        self.warmed: list[str] = []
        self.weather = Forecast()
        self._answers = list(answers or [Answer()])
        self._news = asyncio.Event()

    async def open(self, call: Call, *, deadline: float) -> PuppetReply:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.calls.append(call)
        self._news.set()
        for piece in answer.head:
            await _meet(piece)
        reply = PuppetReply(answer)
        if self.trails:
            reply.trail = self.trails.pop(0)
        self.replies.append(reply)
        return reply

    async def called(self, count: int = 1) -> Call:
        """Wait until it was called so often."""
        async with asyncio.timeout(2):
            while len(self.calls) < count:
                self._news.clear()
                await self._news.wait()
        return self.calls[count - 1]

    @property
    def all_closed(self) -> bool:
        return all(reply.closed for reply in self.replies)

    async def look(self) -> None:
        self.looked += 1

    def knows(self, name: str) -> bool:
        return name in self.names

    async def load(self, name: str) -> None:
        self.warmed.append(name)

    async def forecast(
        self, call_path: str, model: str | None, body: bytes | None, *, limit_s: float | None = None
    ) -> Forecast:
        return self.weather


async def _meet(piece: Piece) -> None:
    if isinstance(piece, asyncio.Event):
        await piece.wait()
    elif isinstance(piece, Failure):
        raise AttemptFailed(piece)
    elif isinstance(piece, Exception):
        raise piece
    elif not isinstance(piece, bytes):
        came = piece()
        if inspect.isawaitable(came):
            await came
