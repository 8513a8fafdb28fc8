"""Does memory grow with the number of requests? A mix of streams, whole answers and clients that leave.

The prompt cache grows by design; here it is so small that it is full long before the first look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tests.benchmarks.local import figures, servers
from tests.benchmarks.local.ask import ask, begin, chat
from tests.benchmarks.local.servers import Server
from tests.benchmarks.local.subject import Subject

_EARLY, _LATE = 200, 2000
_CLIENTS = 8
_SMALL_CACHE = {"prompt_cache_gb": "0.01"}


def measure(subject: Subject, rounds: int, settings: Mapping[str, str]) -> None:
    figures.title(f"RSS of the gateway over {_LATE} mixed requests, in MiB")
    with servers.gateway(subject.name, subject.folder, {**settings, **_SMALL_CACHE}) as side:
        asyncio.run(_ask(subject, side, _EARLY))
        early = side.process.rss_mib()
        asyncio.run(_ask(subject, side, _LATE - _EARLY))
        late = side.process.rss_mib()
    figures.row(
        "gateway", f"after {_EARLY}: {early:.0f}", f"after {_LATE}: {late:.0f}", f"{late / early:.3f}x"
    )


async def _ask(subject: Subject, side: Server, number: int) -> None:
    left = iter(range(number))

    async def client() -> None:
        for turn in left:
            await _one(subject, side, turn)

    async with asyncio.TaskGroup() as group:
        for _ in range(_CLIENTS):
            group.create_task(client())


async def _one(subject: Subject, side: Server, turn: int) -> None:
    length, size = subject.dice.randint(1, 12), subject.dice.choice((24, 40, 100))
    request = chat(side, subject.short(size), stream=turn % 4 != 1, max_tokens=length, **subject.endless)
    if turn % 4 != 3:
        await ask(side, request, tokens=length)
        return
    request = chat(side, subject.short(size), max_tokens=300, **subject.endless)
    stream = await begin(side, request, events=3)
    stream.hang_up()
