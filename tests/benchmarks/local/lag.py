"""How late the daemon's event loop is while its engine works, seen from outside by GET /healthz."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import Asking, begin, chat
from tests.benchmarks.local.pair import Pair
from tests.benchmarks.local.servers import Server

_ROOT = Path(__file__).parents[3]
_STREAMS = 8
_SECONDS = 2.0
_PATHS = {"gateway": "/healthz", "mlx_lm.server": "/health"}


async def measure(pair: Pair) -> None:
    figures.title(f"latency of {' and '.join(_PATHS.values())}, idle and with {_STREAMS} streams running")
    idle: dict[str, list[float]] = defaultdict(list)
    busy: dict[str, list[float]] = defaultdict(list)
    for side in pair.turns():
        idle[side.side] += await _sample(side)
        streams = await _streams(pair, side)
        busy[side.side] += await _sample(side)
        still = sum(not stream.over for stream in streams)
        for stream in streams:
            stream.hang_up()
        assert still == _STREAMS, f"only {still} streams lasted"
        await asyncio.sleep(0.7)
    for name in _PATHS:
        cells = [
            f"{word} p50 {1000 * figures.quantile(values[name], 0.5):6.2f} "
            f"p99 {1000 * figures.quantile(values[name], 0.99):6.2f} max {1000 * max(values[name]):6.2f} ms"
            for word, values in (("idle", idle), ("busy", busy))
        ]
        figures.row(name, *cells)


async def _streams(pair: Pair, side: Server) -> list[Asking]:
    fields = {"max_tokens": 1900, **pair.subject.endless}
    requests = [chat(side, pair.subject.short(), **fields) for _ in range(_STREAMS)]
    return await asyncio.gather(*(begin(side, request, events=2) for request in requests))


async def _sample(side: Server) -> list[float]:
    command = ["-m", "tests.benchmarks.local.probe", str(side.port), _PATHS[side.side], str(_SECONDS)]
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    found: list[float] = json.loads(out)
    return found
