"""PURE: what one request still has to try: the untried, and those that may be tried again.

Untried candidates are tried at once, one after the other. Only when none may follow is a target
asked again that failed before, after a wait that counts from its failure: of several the one
whose wait is over soonest. The waits:
- a fault (of the server, the connection, the pool): once, full-jitter backoff;
- an upstream that is overloaded: full-jitter backoff, not before a told Retry-After;
- a told rate limit: the Retry-After, and a little jitter, because others wait for the same moment.
A told wait of more than 8 s is the client's to wait: it may have better things to do.

The local pool is not asked again when it is full: a request that waited here would be in a second,
hidden queue in front of the one whose length is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.failover.outcome import MEANING, Again, Failure, Outcome
from gateway.failover.plan import Candidate
from gateway.failover.policy import Policy

LONGEST_WAIT_S = 8.0  # of a backoff, and of a Retry-After that is waited for here


@dataclass(slots=True)
class _Turn:
    candidate: Candidate
    failure: Failure
    at: float
    asked: int = 0  # how often it was really asked; it may only have been waited for
    offered: int = 0  # how often it was named as the one to ask again


class Remaining:
    """What is left of a plan."""

    __slots__ = ("_jitter", "_last", "_outcomes", "_policy", "_turns", "untried")

    def __init__(
        self, candidates: tuple[Candidate, ...], policy: Policy, jitter: Callable[[], float]
    ) -> None:
        self.untried = list(candidates)
        self._policy = policy
        self._jitter = jitter
        self._turns: dict[Candidate, _Turn] = {}
        self._outcomes: dict[int, Outcome] = {}  # of each target, the last
        self._last: _Turn | None = None

    def note(self, candidate: Candidate, failure: Failure, now: float, *, asked: bool) -> None:
        """Write down that `candidate` failed, or that it is barred and was not even asked."""
        turn = self._last = self._turns.setdefault(candidate, _Turn(candidate, failure, now))
        turn.failure, turn.at = failure, now
        turn.asked += asked
        self._outcomes[candidate.aim_index] = failure.outcome

    def following(self) -> list[Candidate]:
        """The untried that may come after the last failure.

        Another credential of a target is worth a try only when the last one was the trouble; another
        target only when the table and the policy let this outcome move on.
        """
        last = self._last
        assert last is not None  # the caller has just noted it
        return [
            each
            for each in self.untried
            if self._worth(each) and (each.aim_index == last.candidate.aim_index or self._moves(last))
        ]

    def again(self, now: float) -> tuple[float, Candidate] | None:
        """Whom to ask once more, and when; None when nobody may be. It counts as having been done."""
        if self._last is None:
            return None
        turns = list(self._turns.values()) if self._moves(self._last) else [self._last]
        dues = [(due, turn) for turn in turns if (due := self._due(turn)) is not None]
        if not dues:
            return None
        due, turn = min(dues, key=lambda pair: pair[0])
        turn.offered += 1
        return max(due, now), turn.candidate

    def followers(self, candidate: Candidate) -> int:
        """How many other targets may have to share the time that is left."""
        if not self.untried or Outcome.SLOW not in self._policy.on:
            return 0
        return len({each.aim_index for each in self.untried if each.aim_index != candidate.aim_index})

    def _moves(self, turn: _Turn) -> bool:
        outcome = turn.failure.outcome
        return MEANING[outcome].next_target and outcome in self._policy.on

    def _worth(self, candidate: Candidate) -> bool:
        outcome = self._outcomes.get(candidate.aim_index)
        return outcome is None or MEANING[outcome].next_credential

    def _due(self, turn: _Turn) -> float | None:
        told = turn.failure.retry_after_s
        if (
            turn.failure.offline
            or turn.offered >= self._policy.attempts
            or (told is not None and told > LONGEST_WAIT_S)
        ):
            return None
        base = self._policy.retry_base_s
        backoff = self._jitter() * min(LONGEST_WAIT_S, base * 2.0 ** (turn.asked - 1))
        match MEANING[turn.failure.outcome].again:
            case Again.ONCE if turn.asked == 1:
                return turn.at + max(backoff, told or 0.0)
            case Again.BY_POLICY if not turn.candidate.is_local:
                return turn.at + max(backoff, told or 0.0)
            case Again.CREDENTIAL_OR_WAIT if told is not None:
                return turn.at + told + self._jitter() * min(base, 1.0)
            case _:
                return None
