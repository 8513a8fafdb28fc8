"""PURE: what is written down of each attempt, and the one line that tells it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Candidate, Plan


@dataclass(slots=True)
class AttemptRecord:
    """One try of one target. `outcome` and `ended` are None while it is under way."""

    number: int
    candidate: Candidate
    started: float
    outcome: Outcome | None = None
    ended: float | None = None
    failure: Failure | None = None
    committed: bool = False

    @property
    def label(self) -> str:
        return self.candidate.label

    @property
    def status(self) -> int | None:
        """The HTTP status of an upstream that refused."""
        return self.failure.status if self.failure is not None else None

    def seconds(self, now: float) -> float:
        """How long it took, or has taken so far."""
        return (now if self.ended is None else self.ended) - self.started

    def end(self, outcome: Outcome, now: float, failure: Failure | None = None) -> None:
        """Write down how it ended."""
        self.outcome, self.ended, self.failure = outcome, now, failure


def trace(attempts: Collection[AttemptRecord], now: float, plan: Plan | None = None) -> str:
    """The attempts for a header: `local/qwen3-8b=overloaded;dur=3, openai/gpt-4o=ok;dur=812`. What the
    plan left out comes first: `local/qwen3-8b=overloaded;dur=0;skipped`, and with it what it put last
    if that was not tried in the end.

    Durations are milliseconds. One that answers right now is ok so far; of one that still races
    nothing can be said yet.
    """
    passed_by: list[tuple[str, Outcome | None]] = []
    if plan is not None:
        asked = {each.candidate for each in attempts}
        passed_by += [(each.label, each.outcome) for each in plan.skipped]
        passed_by += [(c.label, c.late.outcome) for c in plan.candidates if c.late and c not in asked]
    left_out = [f"{label}={outcome};dur=0;skipped" for label, outcome in passed_by if outcome is not None]
    tried = [f"{each.label}={_word(each)};dur={each.seconds(now) * 1000:.0f}" for each in attempts]
    return ", ".join(left_out + tried)


def _word(attempt: AttemptRecord) -> str:
    if attempt.outcome is not None:
        return attempt.outcome
    if attempt.committed:
        return Outcome.OK
    return "pending" if attempt.ended is None else "cancelled"
