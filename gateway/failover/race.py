"""PURE: the attempts of one request that are live, and what is written down of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.failover.breaker import Breakers
from gateway.failover.command import Cancel, Open
from gateway.failover.outcome import Failure
from gateway.failover.plan import Candidate
from gateway.failover.policy import Policy
from gateway.failover.record import AttemptRecord
from gateway.failover.remaining import Remaining


@dataclass(slots=True)
class Runner:
    """One live attempt."""

    record: AttemptRecord
    until: float  # when its first content must be there
    probe: bool  # it holds the place of its target's probe
    mend: tuple[str, ...] = ()  # what its request goes without


class Race:
    """Opens and ends attempts; whether and which is the session's to say.

    Each attempt has its own slice of the one deadline: what is left is shared with the targets that
    may still follow, and the last one gets the rest.
    """

    __slots__ = (
        "_breakers",
        "_deadline",
        "_first_content_s",
        "_policy",
        "_remaining",
        "attempts",
        "hedge_at",
        "live",
        "opened",
    )

    def __init__(
        self,
        policy: Policy,
        breakers: Breakers,
        remaining: Remaining,
        *,
        deadline: float,
        first_content_s: float,
    ) -> None:
        self.live: dict[int, Runner] = {}
        self.attempts: list[AttemptRecord] = []
        self.opened = 0  # attempts that count
        self.hedge_at = math.inf  # when the next target starts beside those that are live
        self._policy = policy
        self._breakers = breakers
        self._remaining = remaining
        self._deadline = deadline
        self._first_content_s = first_content_s

    def open(self, candidate: Candidate, now: float, *, probe: bool, mend: tuple[str, ...] = ()) -> Open:
        """One more attempt; `probe` if the breaker gave it the place of the probe."""
        self.opened += 1
        number = len(self.attempts) + 1
        followers = max(0, min(self._remaining.followers(candidate), self._policy.attempts - self.opened))
        slice_s = (self._deadline - now) / (followers + 1)
        # Where nobody set a limit, the last one may think as long as the request lasts: cutting it off
        # would only turn a late answer into none.
        patient = self._policy.first_token_s is None and not followers
        until = now + (slice_s if patient else min(self._first_content_s, slice_s))
        record = AttemptRecord(number, candidate, now)
        self.attempts.append(record)
        self.live[number] = Runner(record, until, probe, mend)
        after_s = self._policy.hedge_after_s
        self.hedge_at = now + after_s if after_s is not None and self._remaining.untried else math.inf
        return Open(number, candidate, until, mend)

    def cancel(self, runner: Runner, now: float, failure: Failure | None = None) -> Cancel:
        """Stop one that is live; without a `failure` it lost, which is nobody's fault."""
        number = runner.record.number
        del self.live[number]
        if failure is not None:
            self.write_down(runner, failure, now)
        else:
            runner.record.ended = now
            self.release(runner)
        return Cancel(number)

    def write_down(self, runner: Runner, failure: Failure, now: float) -> None:
        """How it ended, for the trace and for the breaker."""
        record = runner.record
        record.end(failure.outcome, now, failure)
        self.release(runner)
        self._breakers.record(record.candidate.key, failure, now, started=record.started)

    def release(self, runner: Runner) -> None:
        """Give back the place of the probe, if it has it."""
        if runner.probe:
            runner.probe = False
            self._breakers.release(runner.record.candidate.key)
