"""PURE: how much trying again the whole daemon may do (design 5.5)."""

from __future__ import annotations

from gateway.failover.window import Window

SHARE = 0.2  # of the requests of the last ten seconds
FLOOR = 10  # always allowed in a second, so that a quiet gateway fails over freely


class RetryBudget:
    """Retries and failovers of all requests together.

    When every target is down, each request would be tried three times and the trouble grow
    threefold; past the budget a request gives up with what it has. A request's first attempt is
    never charged.
    """

    __slots__ = ("_window",)

    def __init__(self) -> None:
        self._window = Window(slots=10, slice_s=1.0)

    def deposit(self, now: float) -> None:
        """A request has come."""
        self._window.add(now, marked=False)

    def withdraw(self, now: float) -> bool:
        """May one more attempt be made? If so, it is counted."""
        if self._window.marked_now(now) >= FLOOR:
            requests, retries = self._window.totals(now)
            if retries + 1 > SHARE * requests:
                return False
        self._window.add(now, marked=True)
        return True
