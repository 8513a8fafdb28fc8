"""What an upstream of the chaos may do to a request. Each fault says whether it may break content."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests import behaviours, canned
from tests.behaviours import Behaviour
from tests.chaos.truth import Dialect

Breaks = Literal["", "before", "after", "tail"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants of an upstream. `pace` is the time between two events."""

    dialect: Dialect
    stream: bool
    text: str
    model: str
    pace: float
    usage: bool = False

    @property
    def events(self) -> list[bytes]:
        if self.dialect == "openai":
            return canned.chat_stream(self.text, model=self.model, usage=self.usage)
        return canned.messages_stream(self.text, model=self.model)

    @property
    def first(self) -> int:
        """Which of its events is the first content."""
        return 1 if self.dialect == "openai" else 3

    @property
    def words(self) -> int:
        return len(canned.words(self.text))

    @property
    def whole(self) -> bytes:
        make = canned.chat_whole if self.dialect == "openai" else canned.messages_whole
        return canned.dump(make(self.text, model=self.model))

    @property
    def error_event(self) -> bytes:
        if self.dialect == "openai":
            return canned.data(canned.openai_error(500, "the lab broke"))
        return canned.named(canned.anthropic_error(529, "the lab is full"))


Made = tuple[Behaviour, Breaks]
Fault = Callable[[Asked, random.Random], Made]


def well(asked: Asked, rng: random.Random) -> Made:
    if asked.stream:
        return behaviours.sse(asked.events, pace=asked.pace), ""
    return behaviours.body(asked.whole), ""


def torn(asked: Asked, rng: random.Random) -> Made:
    """Sound, but in segments that end anywhere."""
    if not asked.stream:
        return behaviours.body(asked.whole, segment=rng.randint(50, 200)), ""
    return behaviours.sse([b"".join(asked.events)], segment=rng.randint(30, 300)), ""


def lingers(asked: Asked, rng: random.Random) -> Made:
    """The socket stays open, and the body unended, after the terminal event."""
    return (behaviours.sse(asked.events, cut="stall"), "") if asked.stream else well(asked, rng)


def _status(status: int, **how: int) -> Fault:
    return lambda asked, rng: (behaviours.error(status, dialect=asked.dialect, **how), "before")  # type: ignore[arg-type]


def reset(asked: Asked, rng: random.Random) -> Made:
    return (behaviours.reset() if rng.random() < 0.5 else behaviours.drop()), "before"


def garbage(asked: Asked, rng: random.Random) -> Made:
    return behaviours.raw(b"HTTP/9.9 nonsense\r\n" + rng.randbytes(40) + b"\r\n\r\n"), "before"


def huge(asked: Asked, rng: random.Random) -> Made:
    return behaviours.huge_headers(rng.choice((10_000, 100_000))), "before"


def malformed(asked: Asked, rng: random.Random) -> Made:
    """JSON that is none: as the whole reply, as the first event, or as one in the middle."""
    if not asked.stream:
        return behaviours.body(asked.whole[: rng.randint(1, len(asked.whole) - 1)]), "before"
    at = rng.choice((0, asked.first, rng.randint(asked.first + 1, asked.first + asked.words)))
    events = asked.events
    events[at] = b'data: {"choices": [{"delta": {"content": "\n\n'
    return behaviours.sse(events), "after" if at > asked.first else "before"


def cut(asked: Asked, rng: random.Random) -> Made:
    """Ends at any byte: by FIN or RST, in a chunked body, one with a length, or one that nothing ends."""
    how = rng.choice(("fin", "rst"))
    if not asked.stream:
        framing = rng.choice(("length", "chunked", "close"))
        at = rng.randint(0, len(asked.whole) - 1)
        return behaviours.body(asked.whole, framing=framing, cut=how, cut_at=at), "before"  # type: ignore[arg-type]
    framing = rng.choice(("chunked", "chunked", "close"))
    at = rng.randint(0, sum(map(len, asked.events)) - 1)
    pieces = asked.events if rng.random() < 0.5 else [b"".join(asked.events)]
    made = behaviours.sse(pieces, framing=framing, cut=how, cut_at=at, pace=asked.pace / 2)  # type: ignore[arg-type]
    return made, _breaks(asked, at)


def stalls(asked: Asked, rng: random.Random) -> Made:
    """Goes silent at any byte."""
    data = asked.events if asked.stream else [asked.whole]
    at = rng.randint(0, sum(map(len, data)) - 1)
    if not asked.stream:
        return behaviours.body(asked.whole, cut="stall", cut_at=at), "before"
    return behaviours.sse(data, cut="stall", cut_at=at), _breaks(asked, at)


def fails(asked: Asked, rng: random.Random) -> Made:
    """An error event: behind the role, or in the middle."""
    if not asked.stream:
        return _status(500)(asked, rng)
    kept = rng.choice((asked.first, rng.randint(asked.first + 1, asked.first + asked.words)))
    return behaviours.sse(
        [*asked.events[:kept], asked.error_event]
    ), "after" if kept > asked.first else "before"


def role_only(asked: Asked, rng: random.Random) -> Made:
    """Begins and then is silent, or ends."""
    if not asked.stream:
        return behaviours.hang(), "before"
    return behaviours.sse(asked.events[: asked.first], cut=rng.choice(("stall", "fin"))), "before"


def pings(asked: Asked, rng: random.Random) -> Made:
    """Alive for ever, without a word."""
    ping = canned.PING if asked.dialect == "anthropic" else b": still here\n\n"
    return behaviours.sse([ping] * 200, pace=0.2, cut="stall"), "before"


def hangs(asked: Asked, rng: random.Random) -> Made:
    return behaviours.hang(), "before"


def slow(asked: Asked, rng: random.Random) -> Made:
    """Sound, but late: sometimes too late."""
    wait = rng.choice((rng.uniform(0.1, 1.0), rng.uniform(1.0, 4.0)))

    async def answer(exchange: behaviours.Exchange) -> None:  # type: ignore[name-defined]
        await exchange.sleep(wait)
        await well(asked, rng)[0](exchange)

    return answer, "before"


# `refused`, `e401` and `e402` need more than a request to be decided: the port, and whose key it is.
QUICK: dict[str, Fault] = {
    "well": well,
    "torn": torn,
    "lingers": lingers,
    "refused": reset,  # what comes over connections that are open already
    "reset": reset,
    "e500": _status(500),
    "e502": _status(502),
    "e503": _status(503),
    "e529": _status(529),
    "e429": _status(429, retry_after=1),
    "e401": _status(401),
    "e402": _status(402),
    "garbage": garbage,
    "huge": huge,
    "malformed": malformed,
    "cut": cut,
    "fails": fails,
}
# Found out only by waiting, so for rules whose policy does not wait long.
SLOW: dict[str, Fault] = {
    **QUICK,
    "stalls": stalls,
    "role only": role_only,
    "pings": pings,
    "hangs": hangs,
    "slow": slow,
}
OF_ONE_KEY = ("e401", "e402")


def _breaks(asked: Asked, at: int) -> Breaks:
    """What a break behind so many bytes breaks: `tail` when the answer is said, and why it ends as well."""
    sizes = [len(event) for event in asked.events]
    finished = asked.first + asked.words + (1 if asked.dialect == "openai" else 2)
    if at >= sum(sizes[:finished]):
        return "tail"
    return "after" if at >= sum(sizes[: asked.first + 1]) else "before"
