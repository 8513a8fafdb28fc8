"""The memory of breakers: what they know survives a restart, even one that nobody expected.

It is loaded before the first request and saved shortly after it changed, in one transaction on the
database's own thread that doesn't wait for a lock. A save that fails disturbs nobody: it is tried again,
less often while it goes on failing. What is known of credentials is saved at once, so that a key that
was refused is not shown again by a process that takes the place of one that was killed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.errors import StoreError
from gateway.failover.breaker import Breakers, Standing
from gateway.store import standings
from gateway.store.store import Store

log = logging.getLogger(__name__)

_LATER_S = 1.0  # cooldowns may wait: many come together, and each is over soon
_BETWEEN_S = 0.1  # two saves
_RETRY_S, _LONGEST_RETRY_S = 1.0, 10.0
_LAST_WAIT_S = 1.0  # for a lock, when it closes


class Memory:
    """See above. Made where there is an event loop, after the store; closed before it."""

    def __init__(self, store: Store, breakers: Breakers, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._breakers = breakers
        self._clock = clock
        self._now = asyncio.get_running_loop().time
        self._saved = (breakers.version, breakers.marks)
        self._changed = asyncio.Event()
        self._marked = asyncio.Event()
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Load what was saved, and save from now on. Where it can't be read, all begins as healthy."""
        snapshot, now_wall = self._store.snapshot, self._clock()
        try:
            dump = await self._store.read(lambda: standings.read(snapshot, now_wall))
            self._breakers.load(dump, self._now())
        except (StoreError, ValueError, TypeError) as error:
            log.warning("what was known of upstreams could not be read: %s", error)
        self._breakers.on_change = self._notice
        self._task = asyncio.create_task(self._keep(), name="memory of breakers")

    def standings(self) -> list[Standing]:
        """What is left alone now."""
        return self._breakers.standings(self._now())

    async def reset(self, backend: str, credential_id: int | None = None) -> int:
        """Forget a backend or one of its credentials, here and where it is stored; returns how many
        cooldowns and marks that ended. A database that can't be written now is when it can.
        """
        cleared = self._breakers.reset(backend, credential_id)
        await self._save(wait_s=_LAST_WAIT_S)
        return cleared

    async def close(self) -> None:
        """Save what has changed; what can't be saved now is lost. Safe to call twice."""
        self._breakers.on_change = None
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self._save(wait_s=_LAST_WAIT_S)

    def _notice(self) -> None:
        self._changed.set()
        if self._breakers.marks != self._saved[1]:
            self._marked.set()

    async def _keep(self) -> None:
        retry_s = _RETRY_S
        while True:
            await self._changed.wait()
            await _either(self._marked, _LATER_S)
            self._changed.clear()
            self._marked.clear()
            if await self._save(wait_s=0.0):
                retry_s = _RETRY_S
                await asyncio.sleep(_BETWEEN_S)
                continue
            await asyncio.sleep(retry_s)
            retry_s = min(_LONGEST_RETRY_S, 2 * retry_s)
            self._changed.set()
            self._marked.set()

    async def _save(self, *, wait_s: float) -> bool:
        """Write what is known now, if that isn't written yet; whether it is now."""
        version = (self._breakers.version, self._breakers.marks)
        if version == self._saved:
            return True
        dump, now_wall = self._breakers.dump(self._now()), self._clock()
        database = self._store.database

        def job() -> None:
            with database.noting(wait_s=wait_s):
                standings.replace(dump, now_wall)

        try:
            await database.run(job)
        except StoreError as error:
            self._tell(str(error))
            return False
        except Exception:
            # The border of a task: inference goes on without a memory.
            log.exception("what is known of upstreams could not be saved")
            return False
        self._saved, self._failing = version, False
        return True

    def _tell(self, reason: str) -> None:
        """Once, not with every try."""
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        log.log(level, "what is known of upstreams can't be saved now, it is tried again: %s", reason)


async def _either(event: asyncio.Event, most_s: float) -> None:
    try:
        async with asyncio.timeout(most_s):
            await event.wait()
    except TimeoutError:
        return
