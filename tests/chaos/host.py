"""The daemon under chaos: started, filled, killed and started again on the same home."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.chaos import families, processes
from tests.chaos.clients import Clients
from tests.chaos.world import PROBE_S, World, secret
from tests.scenarios.daemon import Daemon, running

SETTINGS = """
[server]
port = 0
heartbeat_s = 0.5
drain_s = 3.0

[local]
isolation = "process"
preload = ["demo"]

[cloud]
keepalive_s = 1.0
"""


_START_S = 45.0  # on a machine that has other work


class Life:
    """One process of the daemon, with what it measured of it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.pid = daemon.process.pid
        self.clients = Clients(daemon)
        self.killed = False
        self.rss: list[tuple[float, float]] = []  # when, MB

    def measure(self) -> None:
        self.rss.append((time.monotonic(), processes.rss_mb(self.pid)))


class Host:
    """The daemon, whichever process that is now."""

    def __init__(self, home: Path, world: World) -> None:
        self.home = home
        self.world = world
        self.life: Life
        self.lives: list[Life] = []
        self.outages: list[tuple[float, float]] = []  # from its end to its next start
        self.worker_kills = 0
        self.without_local: list[tuple[float, float]] = []  # from its worker's end until it answers again
        self._stack = AsyncExitStack()
        self._changing = asyncio.Lock()  # held from its death to its next start
        self._over = False

    async def start(self) -> None:
        daemon = await self._stack.enter_async_context(running(self.home, SETTINGS, wait=False))
        daemon.port = int((await daemon.said(r"ready on http://[^ ]*:(\d+)/v1", within=_START_S)).group(1))
        self.life = Life(daemon)
        self.lives.append(self.life)

    async def fill(self) -> None:
        """Write upstreams, credentials, policies and rules into an empty home."""
        daemon = self.life.daemon
        for upstream in self.world.upstreams:
            place = upstream.place
            auth = "x-api-key" if place.dialect == "anthropic" else "bearer"
            steady = not place.faults
            await daemon.admin(
                "upstreams.add",
                name=place.name,
                dialect=place.dialect,
                base_url=upstream.lab.base_url,
                auth=auth,
                list_models=False,
                abilities=[{"pattern": "*", "prefill": steady}],
            )
            for key in place.keys:
                value = secret(place.name, key, 0)
                await daemon.admin("credentials.add", upstream=place.name, name=key, secret=value)
        await families.settle(daemon)
        await daemon.admin("policies.add", name="probe", knobs={"deadline_s": 3600, "attempts": 1})
        await daemon.rule("opsteady", policy="probe", pattern="probe")

    async def kill(self) -> None:
        """SIGKILL under load, and a new start, unless it is too late for that."""
        async with self._changing:
            if self._over:
                return
            began = time.monotonic()
            life = self.life
            life.measure()
            life.killed = True
            self.outages.append((began, float("inf")))
            self.without_local.append((began, float("inf")))
            life.daemon.process.kill()
            await life.daemon.ended()
            await self._stack.aclose()
            self._stack = AsyncExitStack()
            await self.start()
            self.outages[-1] = (began, time.monotonic())
            await life.clients.close()
        await self._until_local(began)

    async def last(self) -> None:
        """From here on it is not killed any more; what was begun is brought to its end."""
        async with self._changing:
            self._over = True

    async def kill_worker(self) -> None:
        """SIGKILL the engine's process, and wait until its model answers again."""
        began = time.monotonic()
        self.without_local.append((began, float("inf")))
        self.worker_kills += await asyncio.to_thread(processes.kill_worker, self.life.pid)
        await self._until_local(began)

    async def _until_local(self, began: float) -> None:
        life = self.life
        while not life.killed and not await life.clients.local_answers():
            await asyncio.sleep(0.2)
        at = next(i for i, spell in enumerate(self.without_local) if spell[0] == began)
        self.without_local[at] = (began, time.monotonic())

    async def stop(self) -> None:
        await self.life.clients.close()
        await self._stack.aclose()

    def was_out(self, began: float, over: float) -> bool:
        """Was the daemon down for a part of this time?"""
        return any(began <= end and start <= over for start, end in self.outages)

    def lacked_worker(self, began: float, over: float) -> bool:
        """May the local model have been missing for a part of this time?"""
        return any(began <= end and start <= over for start, end in self.without_local)

    @property
    def log(self) -> list[str]:
        return [line for life in self.lives for line in life.daemon.lines]


class Probe:
    """A healthy stream through it all, of 20 events a second, and how long it was silent."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = 0
        self.gaps: list[tuple[float, float]] = []  # from one event to the next
        self.lags: list[tuple[float, float]] = []  # the same of the loop that measures, and plays all others
        self.broken: list[str] = []

    @property
    def worst_s(self) -> float:
        return max((end - start for start, end in self.gaps), default=0.0)

    @property
    def worst_lag_s(self) -> float:
        return max((end - start - PROBE_S for start, end in self.lags), default=0.0)

    @property
    def worst_of_daemon_s(self) -> float:
        """The longest silence, without the time in which the measuring loop itself stood still."""
        long = [(start, end) for start, end in self.gaps if end - start > 2 * PROBE_S]
        return max((end - start - self._lag(start, end) for start, end in long), default=2 * PROBE_S)

    def _lag(self, start: float, end: float) -> float:
        within = [b - a - PROBE_S for a, b in self.lags if a < end and start < b]
        return max(0.0, min(end - start, sum(within)))

    async def run(self) -> None:
        while True:
            life = self.host.life
            try:
                await self._read(life)
            except Exception as error:
                if not life.killed:
                    self.broken.append(repr(error))
            await asyncio.sleep(0.2)

    async def _read(self, life: Life) -> None:
        async with await life.clients.watch("probe") as reply:
            last = None
            async for chunk in reply.content.iter_any():
                now = time.monotonic()
                if b'"error"' in chunk:
                    self.broken.append(chunk.decode())
                if b"beat" not in chunk:
                    continue
                if last is not None:
                    self.gaps.append((last, now))
                last = now
                self.events += chunk.count(b"beat")

    async def watch_self(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(PROBE_S)
            self.lags.append((before, time.monotonic()))
