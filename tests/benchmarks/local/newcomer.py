"""How long a newcomer waits for its first token beside a running stream, and how long when alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import ask, begin, chat
from tests.benchmarks.local.pair import Pair
from tests.benchmarks.local.servers import Server

_EACH = 4  # newcomers a round
_LENGTH = 1900  # of the stream: it must outlast its newcomers


async def measure(pair: Pair) -> None:
    figures.title("TTFT of a newcomer with a short prompt")
    alone: dict[str, list[float]] = defaultdict(list)
    beside: dict[str, list[float]] = defaultdict(list)
    for side in pair.turns():
        alone[side.side] += [await _newcomer(pair, side) for _ in range(_EACH)]
        beside[side.side] += await _beside(pair, side)
    for side in pair.sides(0):
        name = side.side
        figures.row(
            name,
            f"alone {figures.ms(alone[name])}",
            f"beside one stream {figures.ms(beside[name])}",
            f"p90 {1000 * figures.quantile(beside[name], 0.9):8.1f} ms",
            figures.ratio(beside[name], alone[name]) + " beside/alone",
        )
    ours, theirs = beside[pair.gateway.side], beside[pair.peer.side]
    figures.row("mlx_lm.server / gateway", figures.ratio(theirs, ours) + " beside one stream (aim 10)")


async def _beside(pair: Pair, side: Server) -> list[float]:
    subject = pair.subject
    request = chat(side, subject.short(), max_tokens=_LENGTH, **subject.endless)
    stream = await begin(side, request, events=5)
    waited = []
    for _ in range(_EACH):
        await asyncio.sleep(subject.dice.uniform(0.02, 0.08))
        waited.append(await _newcomer(pair, side))
        assert not stream.over, "the stream ended before its newcomer had begun"
    stream.hang_up()
    await asyncio.sleep(0.5)
    return waited


async def _newcomer(pair: Pair, side: Server) -> float:
    answer = await ask(side, chat(side, pair.subject.short(), max_tokens=2), tokens=2)
    return answer.first_s
