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
_LOST_S = 8.0  # so long after its worker was killed a local model may be missing


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
        self.worker_kills: list[float] = []
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        daemon = await self._stack.enter_async_context(running(self.home, SETTINGS))
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
        """SIGKILL under load, and a new start."""
        began = time.monotonic()
        life = self.life
        life.measure()
        life.killed = True
        self.outages.append((began, float("inf")))
        life.daemon.process.kill()
        await life.daemon.ended()
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        await self.start()
        self.outages[-1] = (began, time.monotonic())
        await life.clients.close()

    def kill_worker(self) -> None:
        if processes.kill_worker(self.life.pid):
            self.worker_kills.append(time.monotonic())

    async def stop(self) -> None:
        await self.life.clients.close()
        await self._stack.aclose()

    def was_out(self, began: float, over: float) -> bool:
        """Was the daemon down for a part of this time?"""
        return any(began <= end and start <= over for start, end in self.outages)

    def lacked_worker(self, began: float, over: float) -> bool:
        """May the local model have been missing for a part of this time?"""
        spells = [(at, at + _LOST_S) for at in self.worker_kills]
        spells += [(life.rss[0][0], life.rss[0][0] + _LOST_S) for life in self.lives[1:] if life.rss]
        return any(began <= end and start <= over for start, end in spells)

    @property
    def log(self) -> list[str]:
        return [line for life in self.lives for line in life.daemon.lines]


class Probe:
    """A healthy stream through it all, of 20 events a second. `worst_s` is its longest silence."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = 0
        self.worst_s = 0.0
        self.gaps: list[float] = []
        self.own_lag_s = 0.0  # of the loop that measures, which is also that of all upstreams and clients
        self.broken: list[str] = []

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
                    self.gaps.append(now - last - PROBE_S)
                    self.worst_s = max(self.worst_s, now - last)
                last = now
                self.events += chunk.count(b"beat")

    async def watch_self(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(PROBE_S)
            self.own_lag_s = max(self.own_lag_s, time.monotonic() - before - PROBE_S)
