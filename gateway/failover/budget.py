"""PURE: how much trying again the whole daemon may do (design 5.5)."""

from __future__ import annotations

from gateway.failover.window import Window

WINDOW_S = 10
SHARE = 0.2  # of the requests of the window
# Ten a second over the window, to be spent at once where it must be: when an engine dies, all the
# requests that it was answering move on in the same moment, and a quiet gateway has no share yet.
FLOOR = 10 * WINDOW_S


class RetryBudget:
    """Retries and failovers of all requests together.

    When every target is down, each request would be tried three times and the trouble grow
    threefold; past the budget a request gives up with what it has. A request's first attempt is
    never charged.
    """

    __slots__ = ("_window",)

    def __init__(self) -> None:
        self._window = Window(slots=WINDOW_S, slice_s=1.0)

    def deposit(self, now: float) -> None:
        """A request has come."""
        self._window.add(now, marked=False)

    def withdraw(self, now: float) -> bool:
        """May one more attempt be made? If so, it is counted."""
        requests, retries = self._window.totals(now)
        if retries >= max(FLOOR, SHARE * requests):
            return False
        self._window.add(now, marked=True)
        return True
