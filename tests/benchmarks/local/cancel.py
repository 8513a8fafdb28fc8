"""How soon a side is idle again when its client has left: in a stream, in a whole answer, in a tool call.

The gateway says itself what its engine does. Of mlx_lm.server only its CPU time can be watched; it is
idle when that stands still, to within ten milliseconds. In the tool call neither writes anything, so
that only a closed connection tells.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Any

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import Asking, begin, chat, connect
from tests.benchmarks.local.family import Family
from tests.benchmarks.local.pair import Pair
from tests.benchmarks.local.servers import Server

_LENGTH = 900
_QUIET_S = 0.25
_MOST_S = 30.0
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Say the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WAYS = ("stream", "whole", "tool call")


async def measure(pair: Pair) -> None:
    figures.title(f"from the client's leaving to an idle engine, answers of {_LENGTH} tokens")
    for way in WAYS:
        freed: dict[str, list[float]] = defaultdict(list)
        for side in pair.turns(min(3, pair.rounds)):
            freed[side.side].append(await _round(pair, side, way))
        ours, theirs = freed[pair.gateway.side], freed[pair.peer.side]
        figures.row(
            way,
            f"gateway {figures.ms(ours)} (max {1000 * max(ours):.1f})",
            f"mlx_lm.server {figures.ms(theirs)} (max {1000 * max(theirs):.1f})",
        )


async def _round(pair: Pair, side: Server, way: str) -> float:
    before = side.cancelled() if side.home else 0
    asking = await _begun(pair, side, way)
    assert not asking.over, f"the answer was over before its client could leave: {asking.tail()}"
    left = asking.hang_up()
    if side.home is None:
        return await _quiet(side.process, left)
    while not (side.idle() and side.cancelled() > before):
        assert time.perf_counter() - left < _MOST_S, "the engine went on without its client"
        await asyncio.sleep(0.001)
    return time.perf_counter() - left


async def _begun(pair: Pair, side: Server, way: str) -> Asking:
    fields: dict[str, Any] = {"max_tokens": _LENGTH, **pair.subject.endless}
    if way == "tool call":
        # Nothing but the marker that opens a call: the call never ends.
        fields |= {"tools": [_TOOL], "logit_bias": {str(pair.subject.call): 100}}
    request = chat(side, pair.subject.short(), stream=way != "whole", **fields)
    if way == "stream":
        return await begin(side, request, events=5)
    asking = await connect(side)
    asking.send(request)
    await asyncio.sleep(0.3)
    return asking


async def _quiet(process: Family, since: float) -> float:
    """When its CPU time grew for the last time."""
    last, known = since, process.cpu_s()
    while (now := time.perf_counter()) - last < _QUIET_S:
        assert now - since < _MOST_S, "the server does not come to rest"
        if (spent := process.cpu_s()) > known:
            last, known = now, spent
        await asyncio.sleep(0.002)
    return last - since
