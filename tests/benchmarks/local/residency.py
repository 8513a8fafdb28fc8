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


def measure(subject: Subject, rounds: int, settings: Mapping[str, str]) -> None:
    figures.title("load and unload (TTFT of the first request minus that of a warm one; RSS in MiB)")
    first, again, unload, rss = [], [], [], []
    for _ in range(min(3, rounds)):
        with servers.gateway(subject.name, subject.folder, settings) as side:
            sizes = [side.process.rss_mib()]
            first.append(asyncio.run(_load(subject, side)))
            sizes.append(side.process.rss_mib())
            began = time.perf_counter()
            if side.admin("models.unload", model=side.model) is not None:
                unload.append(time.perf_counter() - began)
                sizes.append(side.process.rss_mib())
                again.append(asyncio.run(_load(subject, side)))
            rss.append(sizes)
    names = ("before", "loaded", "unloaded")
    steps = [
        f"{name} {figures.median(sizes):5.0f}"
        for name, sizes in zip(names, zip(*rss, strict=True), strict=False)
    ]
    figures.row(
        "gateway",
        f"first load, with MLX's import {figures.ms(first)}",
        f"unload {figures.ms(unload) if unload else 'n/a'}",
        f"load again {figures.ms(again) if again else 'n/a'}",
        "RSS " + ", ".join(steps),
    )


async def _load(subject: Subject, side: Server) -> float:
    waited = []
    for _ in range(1 + _WARM):
        answer = await ask(side, chat(side, subject.short(), max_tokens=2), tokens=2)
        waited.append(answer.first_s)
    return waited[0] - figures.median(waited[1:])
