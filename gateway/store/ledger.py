"""The request ledger: one row for every request that is over, kept for a while, never in the way.

Whoever answers requests calls `note`, which only puts the facts into a bounded queue. The database's
own thread comes by about once a second and writes what is there in one transaction, without waiting
for a lock. What can't be written is dropped and counted: no request ever waits for its row, and as
soon as the database takes rows again they are written again. A row is no change of the
configuration, so the snapshot and its generation stay what they are.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from gateway import config
from gateway.errors import StoreError
from gateway.store import requests
from gateway.store.faults import mapped
from gateway.store.store import Store
from gateway.telemetry.finished import Finished

log = logging.getLogger(__name__)

_PERIOD_S = 1.0
_BATCH = 1000  # rows of one transaction: about 10 ms, which is what a change may have to wait
_STEP = 500  # rows that are removed at once
_STEP_S = 0.05  # between two steps, so that changes and other programs get their turn
_PRUNE_S = 60.0  # how often an idle ledger looks whether something has grown too old
_TOLD_S = 60.0  # how often drops are worth a line in the log
_LAST_WAIT_S = 1.0  # for a lock, when the ledger closes
_DAY_S = 86400.0


class Ledger:
    """See above. Made where there is an event loop, after the store; closed before it."""

    def __init__(
        self,
        store: Store,
        section: config.Store,
        *,
        clock: Callable[[], float] = time.time,
        queue_size: int = 10_000,
    ) -> None:
        self._database = store.database
        self._section = section
        self._clock = clock
        self._queue_size = queue_size
        self._noted: deque[tuple[float, Finished]] = deque()
        self._batch: list[requests.Row] = []  # the thread's: taken from the queue, not written yet
        self._overflowed = 0  # counted by the event loop
        self._refused = 0  # counted by the thread
        self._reason = ""
        self._told = 0
        self._told_at = -_TOLD_S
        self._prune_at = 0.0
        store.database.chore = self._work

    @property
    def dropped(self) -> int:
        """How many rows were not written."""
        return self._overflowed + self._refused

    def note(self, done: Finished) -> None:
        """Keep the facts of a request that is over. Costs well under a microsecond, never raises."""
        if not self._section.ledger:
            return
        if len(self._noted) >= self._queue_size:
            self._overflowed += 1
            return
        self._noted.append((self._clock(), done))

    async def close(self) -> None:
        """Write what is still to be written; what can't be now is lost. Safe to call twice."""
        try:
            await self._database.run(self._finish)
        except StoreError as error:
            log.debug("the ledger was closed without its last rows: %s", error)

    # From here on: on the database's thread.

    def _work(self) -> float:
        """One batch, and one step of pruning where it is due; returns in how many seconds to come again."""
        goes_on = self._write(wait_s=0.0)
        self._tell()
        if goes_on and self._noted:
            return 0.0
        return _STEP_S if self._prune() else _PERIOD_S

    def _finish(self) -> None:
        self._database.chore = None
        while (self._batch or self._noted) and self._write(wait_s=_LAST_WAIT_S):
            pass
        self._refused += len(self._batch) + len(self._noted)
        self._batch, self._noted = [], deque()
        self._told_at = -_TOLD_S
        self._tell()

    def _write(self, *, wait_s: float) -> bool:
        """Write one batch; False where the database doesn't take rows now."""
        while self._noted and len(self._batch) < _BATCH:
            self._batch.append(requests.row(*self._noted.popleft()))
        if not self._batch:
            return True
        try:
            with self._database.noting(wait_s=wait_s):
                requests.add(self._database.handle, self._batch)
        except StoreError as error:
            self._reason = str(error)
            if error.code != "locked":  # a lock passes: then the queue is long enough
                self._lose_batch()
            return False
        except Exception:
            self._reason = "a row could not be written"
            log.exception("the request ledger could not write %d rows", len(self._batch))
            self._lose_batch()
            return False
        self._batch = []
        self._prune_at = 0.0
        if self.dropped == self._told:
            self._reason = ""
        return True

    def _lose_batch(self) -> None:
        self._refused += len(self._batch)
        self._batch = []

    def _prune(self) -> bool:
        """Remove a few rows that are too many or too old; True where there are probably more."""
        now = time.monotonic()
        if now < self._prune_at:
            return False
        self._prune_at = now + _PRUNE_S
        before = self._clock() - self._section.ledger_days * _DAY_S
        most = self._section.ledger_rows
        try:
            with mapped():
                if not requests.are_too_many(before=before, most=most):
                    return False
            with self._database.noting(wait_s=0.0):
                gone = requests.prune(before=before, most=most, step=_STEP)
        except StoreError as error:
            log.debug("the request ledger could not be pruned now: %s", error)
            return False
        if gone < _STEP:
            return False
        self._prune_at = 0.0
        return True

    def _tell(self) -> None:
        """Say in the log that rows were dropped, once in a while."""
        dropped, now = self.dropped, time.monotonic()
        if dropped == self._told or now - self._told_at < _TOLD_S:
            return
        log.warning(
            "the request ledger dropped %d rows: %s",
            dropped - self._told,
            self._reason or "there were more requests than it could write",
        )
        self._told, self._told_at, self._reason = dropped, now, ""
