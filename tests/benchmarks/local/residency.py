"""What a model costs to load and what is left of it after it was unloaded; the gateway alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from tests.benchmarks.local import figures, servers
from tests.benchmarks.local.ask import ask, chat
from tests.benchmarks.local.servers import Server
from tests.benchmarks.local.subject import Subject

_WARM = 5
_TURNS = 5  # what is left of a model once may be the allocator's, what grows each time is not


def measure(subject: Subject, rounds: int, settings: Mapping[str, str]) -> None:
    figures.title("load and unload (TTFT of the first request minus that of a warm one; RSS in MiB)")
    first, again, unload, rss, active = [], [], [], [], []
    for _ in range(min(3, rounds)):
        with servers.gateway(subject.name, subject.folder, settings) as side:
            sizes = [side.process.rss_mib()]
            for turn in range(_TURNS):
                (again if turn else first).append(asyncio.run(_load(subject, side)))
                sizes.append(side.process.rss_mib())
                held = [side.active_mib()]
                unload.append(_unload(side))
                sizes.append(side.process.rss_mib())
                active.append([*held, side.active_mib()])
            rss.append(sizes)
    before, loaded, unloaded, *_, last = (figures.median(sizes) for sizes in zip(*rss, strict=True))
    held, left = (figures.median(sizes) for sizes in zip(*active, strict=True))
    figures.row(
        "gateway",
        f"first load, with MLX's import {figures.ms(first)}",
        f"unload {figures.ms(unload)}",
        f"load again {figures.ms(again)}",
        f"RSS before {before:.0f}, loaded {loaded:.0f}, unloaded {unloaded:.0f}, the {_TURNS}th time {last:.0f}",
        f"held by MLX {held:.1f}, unloaded {left:.1f}",
    )


def _unload(side: Server) -> float:
    began = time.perf_counter()
    side.admin("models.unload", model=side.model)
    return time.perf_counter() - began


async def _load(subject: Subject, side: Server) -> float:
    waited = []
    for _ in range(1 + _WARM):
        answer = await ask(side, chat(side, subject.short(), max_tokens=2), tokens=2)
        waited.append(answer.first_s)
    return waited[0] - figures.median(waited[1:])
