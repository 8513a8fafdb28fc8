"""PURE: what is held of one target and of one credential, and how that survives a restart.

The clock that breakers count by does not outlive the process, so what is written down is how much
of a time is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

from gateway.failover.outcome import Outcome
from gateway.failover.window import Window

Row = dict[str, Any]  # plain data, as JSON has it


def _window() -> Window:
    return Window(slots=6, slice_s=10.0)


@dataclass(slots=True)
class TargetHealth:
    """One target's. `until` is 0 where it does not cool."""

    window: Window = field(default_factory=_window)
    in_a_row: int = 0
    cooldowns: int = 0  # since the last success; each doubles the next
    since: float = 0.0  # when it began to cool, the last time
    until: float = 0.0
    told_until: float = 0.0  # that part of it which the upstream told
    outcome: Outcome = Outcome.OK
    probing: bool = False

    def cool(self, outcome: Outcome, now: float, wait_s: float, *, told: bool = False) -> bool:
        """Cool for `wait_s`, never shorter than it does already; whether that changes anything."""
        until = now + wait_s
        longer = told and until > self.told_until
        if longer:
            self.told_until = until
        if until <= max(now, self.until):
            return longer
        if self.until <= now:
            self.since = now
        self.until = until
        self.outcome = outcome
        self.probing = False
        self.start_over()
        return True

    def start_over(self) -> None:
        """Forget what was counted."""
        self.in_a_row = 0
        self.window = _window()

    def to_row(self, key: tuple[Any, ...], now: float) -> Row:
        """As plain data."""
        return {
            "key": list(key),
            "left_s": self.until - now,
            "told_s": max(0.0, self.told_until - now),
            "cooldowns": self.cooldowns,
            "outcome": self.outcome.value,
        }

    @classmethod
    def from_row(cls, row: Row, now: float) -> Self:
        """What `to_row` wrote, counted from now on."""
        return cls(
            since=now,
            until=now + row["left_s"],
            told_until=now + row["told_s"],
            cooldowns=row["cooldowns"],
            outcome=Outcome(row["outcome"]),
        )


@dataclass(slots=True)
class CredentialMark:
    """A credential's, for all its models: refused for good, or unpaid."""

    outcome: Outcome
    since: float
    until: float
    strikes: int

    def to_row(self, key: tuple[Any, ...], now: float) -> Row:
        """As plain data; no time left is for good."""
        return {
            "key": list(key),
            "left_s": None if self.until == math.inf else self.until - now,
            "strikes": self.strikes,
            "outcome": self.outcome.value,
        }

    @classmethod
    def from_row(cls, row: Row, now: float) -> Self:
        """What `to_row` wrote, counted from now on."""
        left = math.inf if row["left_s"] is None else row["left_s"]
        return cls(Outcome(row["outcome"]), now, now + left, row["strikes"])
