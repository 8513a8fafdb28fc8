"""Notices that the machine has slept, and mends what a sleep leaves behind.

Connections are dead then without anybody having said so, what failed on the way in and out of the
sleep says nothing of its target, and a cooldown must not last through a night longer because its
clock stood still. The sleep is what one clock of the system counts and another does not, so
setting the time of day is never taken for one.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cloud.client import CloudClient
from gateway.failover.breaker import Breakers

_log = logging.getLogger(__name__)

SHORTEST_S = 10.0  # a shorter sleep hurts no connection
_TICK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Seconds since some moment: `boot` counts those that the machine slept, `awake` does not."""

    boot: Callable[[], float]
    awake: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Slept:
    """A sleep of `seconds`, of which the loop's clock has not counted `missed_s`; it began after `since`."""

    seconds: float
    missed_s: float
    since: float


class SleepWatch:
    """Compares the clocks from one look to the next; `now` is the loop's, which may be like either."""

    def __init__(self, clocks: Clocks, now: float) -> None:
        self._clocks = clocks
        self._last = (clocks.boot(), clocks.awake(), now)

    def tick(self, now: float) -> Slept | None:
        """The sleep since the last look, if there was one that matters."""
        boot, awake, before = self._last
        self._last = (self._clocks.boot(), self._clocks.awake(), now)
        passed = self._last[0] - boot
        seconds = passed - (self._last[1] - awake)
        if seconds <= SHORTEST_S:
            return None
        return Slept(seconds, max(0.0, passed - (now - before)), before)


def system_clocks() -> Clocks:
    """Those of this system."""
    if sys.platform == "darwin":
        return Clocks(
            boot=lambda: time.clock_gettime(time.CLOCK_MONOTONIC_RAW),
            awake=lambda: time.clock_gettime(time.CLOCK_UPTIME_RAW),
        )
    return Clocks(boot=lambda: time.clock_gettime(time.CLOCK_BOOTTIME), awake=time.monotonic)


async def watch(
    cloud: CloudClient, breakers: Breakers, clocks: Clocks | None = None, *, tick_s: float = _TICK_S
) -> None:
    """Watch until cancelled."""
    loop = asyncio.get_running_loop()
    sleeps = SleepWatch(clocks or system_clocks(), loop.time())
    while True:
        await asyncio.sleep(tick_s)
        slept = sleeps.tick(loop.time())
        if slept is not None:
            _log.warning("awake after %.0f s of sleep; connections to upstreams start afresh", slept.seconds)
            breakers.forgive(since=slept.since, now=loop.time(), slept_s=slept.missed_s)
            cloud.awoke()
