"""How steadily a stream runs while somebody else's long prompt is read."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import ask, begin, chat
from tests.benchmarks.local.pair import Pair
from tests.benchmarks.local.servers import Server

_ALONE_S = 0.5
_LONG = 8192


async def measure(pair: Pair) -> None:
    size = min(_LONG, pair.subject.context - 200)
    figures.title(f"gaps between the events of a stream, alone and beside a prompt of {size} tokens")
    alone: dict[str, list[float]] = defaultdict(list)
    beside: dict[str, list[float]] = defaultdict(list)
    took: dict[str, list[float]] = defaultdict(list)
    for side in pair.turns(max(1, pair.rounds // 3)):
        before, meanwhile, first = await _round(pair, side, size)
        alone[side.side] += before
        beside[side.side] += meanwhile
        took[side.side].append(first)
    for side in pair.sides(0):
        name = side.side
        figures.row(
            name,
            f"alone {_spread(alone[name])}",
            f"beside {_spread(beside[name])}",
            f"{len(beside[name])} events",
            f"TTFT of the long one {figures.ms(took[name])}",
        )


async def _round(pair: Pair, side: Server, size: int) -> tuple[list[float], list[float], float]:
    subject = pair.subject
    length = subject.context - 100
    stream = await begin(side, chat(side, subject.short(), max_tokens=length, **subject.endless), events=5)
    at = len(stream.arrivals)
    await asyncio.sleep(_ALONE_S)
    request = chat(side, subject.long(size), max_tokens=2, **subject.endless)
    middle = len(stream.arrivals)
    answer = await ask(side, request, tokens=2)
    end = len(stream.arrivals)
    assert not stream.over, "the stream ended while the long prompt was read"
    await stream.written(end + 1)  # the gap that is still open when the prompt has been read
    arrivals = stream.arrivals[: end + 1]
    stream.hang_up()
    await asyncio.sleep(0.7)
    return _gaps(arrivals[at:middle]), _gaps(arrivals[middle - 1 :]), answer.first_s


def _gaps(times: list[float]) -> list[float]:
    return [late - early for early, late in itertools.pairwise(times)]


def _spread(gaps: list[float]) -> str:
    p50, p99 = (1000 * figures.quantile(gaps, share) for share in (0.5, 0.99))
    return f"p50 {p50:6.1f} p99 {p99:7.1f} max {1000 * max(gaps, default=0):7.1f} ms"
