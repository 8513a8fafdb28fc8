"""The upstreams of the chaos: each goes through phases, which the seed decides, and writes down what it did."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests import behaviours, canned
from tests.chaos import faults
from tests.chaos.faults import Asked, Breaks
from tests.chaos.truth import CANARY, PATHS, Dialect, chance, tag_of, text_of
from tests.lab import Lab
from tests.peer import Exchange

PROBE_S = 0.05
_PROBES = 6000
_HIT = 0.85  # of the requests in a phase


@dataclass(frozen=True, slots=True)
class Hit:
    """One call that reached an upstream. `reused`: not the first on its connection."""

    upstream: str
    fault: str
    breaks: Breaks
    reused: bool


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream. `faults` empty is one that is always well."""

    name: str
    dialect: Dialect
    faults: dict[str, faults.Fault]
    keys: tuple[str, ...]


PLACES = (
    Place("op1", "openai", faults.QUICK, ("a", "b")),
    Place("op2", "openai", faults.QUICK, ("a",)),
    Place("op3", "openai", faults.SLOW, ("a", "b")),
    Place("opsteady", "openai", {}, ("a", "b")),
    Place("an1", "anthropic", faults.QUICK, ("a", "b")),
    Place("an2", "anthropic", faults.QUICK, ("a",)),
    Place("an3", "anthropic", faults.SLOW, ("a", "b")),
    Place("ansteady", "anthropic", {}, ("a", "b")),
)


class Upstream:
    """A lab whose behaviour changes."""

    def __init__(self, place: Place, seed: int, hits: dict[str, list[Hit]]) -> None:
        self.place = place
        self.lab = Lab()
        self.open = 0  # calls that are being answered
        self.fault = "well"
        self.victim = ""  # whose key is refused
        self._seed = seed
        self._hits = hits
        self._connections: set[int] = set()
        self.lab.always(PATHS[place.dialect], self._answer)

    async def phases(self) -> None:
        """Go from fault to fault."""
        number = 0
        while True:
            rng = chance(self._seed, "phase", self.place.name, number)
            await self._turn(
                "well" if rng.random() < 0.35 else rng.choice(list(self.place.faults)),
                rng.choice(self.place.keys),
            )
            await asyncio.sleep(rng.uniform(2.0, 6.0))
            number += 1

    async def _turn(self, fault: str, victim: str) -> None:
        if self.fault == "refused":
            await self.lab.accept()
        self.fault, self.victim = fault, victim
        if fault == "refused":
            await self.lab.refuse()

    async def _answer(self, exchange: Exchange) -> None:
        asked: dict[str, Any] = exchange.seen.json
        tag = tag_of(asked)
        reused = exchange.seen.connection in self._connections
        self._connections.add(exchange.seen.connection)
        self.open += 1
        try:
            if tag is None:
                await self._probe(exchange)
                return
            hits = self._hits[tag[0]]
            rng = chance(self._seed, tag[0], self.place.name, len(hits))
            fault = self._fault_for(exchange, rng.random())
            text = _rest(text_of(*tag), asked["messages"])
            wants = Asked(
                self.place.dialect,
                bool(asked.get("stream")),
                text,
                asked["model"],
                pace=rng.choice((0.0, 0.0, 0.0, 0.01)),
            )
            make = self.place.faults.get(fault, faults.well)
            behaviour, breaks = make(wants, rng)
            hits.append(Hit(self.place.name, fault, breaks, reused))
            await behaviour(exchange)
        finally:
            self.open -= 1

    def _fault_for(self, exchange: Exchange, share: float) -> str:
        if share > _HIT or not self.place.faults:
            return "well"
        if self.fault in faults.OF_ONE_KEY:
            shown = exchange.seen.header("authorization") or exchange.seen.header("x-api-key") or ""
            return self.fault if f"-{self.place.name}-{self.victim}-" in shown else "well"
        return self.fault

    async def _probe(self, exchange: Exchange) -> None:
        beat = canned.chat_chunk({"content": "beat "})
        pieces = [canned.chat_role(), *([beat] * _PROBES), canned.chat_chunk({}, finish="stop"), canned.DONE]
        await behaviours.sse(pieces, pace=PROBE_S)(exchange)


def _rest(text: str, messages: list[dict[str, Any]]) -> str:
    """What is still to be said when the request begins the answer itself."""
    last = messages[-1]
    if last["role"] != "assistant":
        return text
    said = last["content"]
    if not isinstance(said, str):
        said = "".join(block["text"] for block in said)
    return text[len(said) :] if text.startswith(said) else f"{said!r} is not the beginning of {text!r}"


class World:
    """All upstreams, and what they did to each request."""

    def __init__(self, seed: int) -> None:
        self.hits: dict[str, list[Hit]] = defaultdict(list)
        self.upstreams = [Upstream(place, seed, self.hits) for place in PLACES]
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.began = time.monotonic()

    async def __aenter__(self) -> Self:
        for upstream in self.upstreams:
            await self._stack.enter_async_context(upstream.lab)
        return self

    def turn(self) -> None:
        """Let the phases begin."""
        self._tasks = [asyncio.create_task(each.phases()) for each in self.upstreams if each.place.faults]

    async def rest(self) -> None:
        """Let every upstream be well from now on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for upstream in self.upstreams:
            await upstream._turn("well", "")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.rest()
        await self._stack.__aexit__(kind, error, trace)

    @property
    def open(self) -> int:
        return sum(upstream.open for upstream in self.upstreams)


def secret(upstream: str, key: str, version: int) -> str:
    """A credential, by which a lab knows whose it is."""
    return f"sk-{CANARY}-{upstream}-{key}-{version:04d}-0123456789abcdef"
