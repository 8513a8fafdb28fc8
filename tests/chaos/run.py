"""A run from its first request to its report."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.chaos import processes
from tests.chaos.families import ask_for
from tests.chaos.host import Host, Probe
from tests.chaos.report import Case, Report, case_of
from tests.chaos.trouble import Trouble
from tests.chaos.truth import CANARY, Ask, chance
from tests.chaos.world import World

_MEASURE_S = 2.0
_QUIET_S = 10.0
_WARM = 50  # requests before the first measure
_MORE_MB = 40.0
_MORE_FILES = 8


async def run(seed: int, seconds: float, rate: float, kill_every: float) -> Report:
    """Let there be chaos. `kill_every`: so many seconds the daemon lives, 0 for as long as it all takes."""
    report = Report(seed, seconds)
    with tempfile.TemporaryDirectory(prefix="mlxg-chaos-") as folder:
        async with World(seed) as world:
            host = Host(Path(folder) / "home", world)
            await host.start()
            try:
                await host.fill()
                await _Run(seed, seconds, rate, kill_every, world, host, report).go()
            finally:
                await host.stop()
        report.read(host.log)
        if any(CANARY.encode() in each.read_bytes() for each in Path(folder).rglob("*") if each.is_file()):
            report.wrong.append("a secret stands in a file of the home")
    return report


class _Run:
    def __init__(
        self,
        seed: int,
        seconds: float,
        rate: float,
        kill_every: float,
        world: World,
        host: Host,
        report: Report,
    ) -> None:
        self.seed, self.seconds, self.rate, self.kill_every = seed, seconds, rate, kill_every
        self.world, self.host, self.report = world, host, report
        self.cases: list[Case] = []
        self.trouble = Trouble(seed, host)
        self.probe = Probe(host)
        self._number = 0
        self._asking: set[asyncio.Task[None]] = set()

    async def go(self) -> None:
        await self._warm()
        first = self.host.life
        files = processes.open_files(first.pid)
        self.world.turn()
        own, began = _own_cpu_s(), time.monotonic()
        async with _aside(
            self._measure(),
            self.probe.run(),
            self.probe.watch_self(),
            self.trouble.run(),
            self.trouble.kill_workers(self.seconds),
            self._kills(),
        ):
            await self._load(began + self.seconds)
        await self.world.rest()
        await self._settle()
        life = self.host.life
        await self.trouble.check()
        life.measure()
        took = time.monotonic() - began
        self.report.judge(self.cases)
        self._add_figures(files, _own_cpu_s() - own, took)

    async def _warm(self) -> None:
        """All paths once, and the local model in memory, before anything is measured."""
        for number in range(_WARM):
            await self._one(ask_for(f"{self.seed}w", number))
        self.cases.clear()
        await self._settle()

    async def _load(self, until: float) -> None:
        rng = chance(self.seed, "load")
        while (now := time.monotonic()) < until:
            ask = ask_for(self.seed, self._number)
            self._number += 1
            task = asyncio.create_task(self._one(ask), name=ask.id)
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            await asyncio.sleep(max(0.0, rng.expovariate(self.rate) - (time.monotonic() - now)))
        await self.host.last()
        await asyncio.gather(*self._asking)

    async def _one(self, ask: Ask) -> None:
        got = await self.host.life.clients.ask(ask)
        self.cases.append(case_of(ask, got, self.world.hits.pop(ask.id, []), self.host))

    async def _kills(self) -> None:
        pause = self.kill_every
        await asyncio.sleep(min(pause, self.seconds / 2) if pause else self.seconds * 2)
        while True:
            await self.host.kill()
            await self.trouble.check()
            await asyncio.sleep(pause)

    async def _measure(self) -> None:
        while True:
            await asyncio.to_thread(self.host.life.measure)
            await asyncio.sleep(_MEASURE_S)

    async def _settle(self) -> None:
        """Wait until nothing goes on any more, and idle connections are closed."""
        async with _patience(_QUIET_S):
            while self.world.open:
                await asyncio.sleep(0.05)
        await self.host.life.clients.rest()
        await asyncio.sleep(1.5)

    def _add_figures(self, files: int | None, own_s: float, took: float) -> None:
        life, report, probe = self.host.life, self.report, self.probe
        now = processes.open_files(life.pid)
        warm = _warm_mb(life.rss)
        cpu = processes.cpu_s(life.pid)
        lived = time.monotonic() - life.rss[0][0]
        report.figures |= {
            "daemon rss mb": f"{life.rss[0][1]:.0f} at first, {warm:.0f} warm, {life.rss[-1][1]:.0f} at the end",
            "daemon files": f"{files} at first, {now} at the end",
            "daemon cpu share": round(cpu / lived, 3) if cpu is not None else None,
            "own cpu share": round(own_s / took, 3),
            "probe events": probe.events,
            "probe worst gap ms": round(probe.worst_s * 1000),
            "probe worst gap ms, own lag taken off": round(probe.worst_of_daemon_s * 1000),
            "own worst lag ms": round(probe.worst_lag_s * 1000),
            "daemon killed": len(self.host.outages),
            "longest outage s": round(max((end - start for start, end in self.host.outages), default=0.0), 1),
            "worker killed": self.host.worker_kills,
            "trouble": dict(self.trouble.done),
            "refused": self.trouble.refused[:5],
            "calls left open": self.world.open,
        }
        if life.rss[-1][1] > warm + _MORE_MB:
            report.wrong.append(f"the daemon grew from {warm:.0f} to {life.rss[-1][1]:.0f} MB")
        if files is not None and now is not None and now > files + _MORE_FILES:
            report.wrong.append(f"the daemon had {files} open files and has {now}")
        if self.world.open:
            report.wrong.append(f"{self.world.open} upstream calls were left open")
        report.wrong += [f"acknowledged and lost: {each}" for each in self.trouble.lost]
        report.wrong += [f"trouble was refused: {each}" for each in self.trouble.refused[:5]]
        report.wrong += [f"the probe broke: {each}" for each in probe.broken[:5]]


def _warm_mb(rss: list[tuple[float, float]]) -> float:
    """The size after a third of the time, the largest until then."""
    until = rss[0][0] + (rss[-1][0] - rss[0][0]) / 3
    return max(size for at, size in rss if at <= until)


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


@asynccontextmanager
async def _aside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these beside the body, and end with it; what goes wrong in one of them ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()
