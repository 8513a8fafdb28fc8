"""What a request still has to try, and when."""

from __future__ import annotations

import pytest

from gateway.failover.outcome import Outcome
from gateway.failover.plan import Candidate
from gateway.failover.policy import DEFAULT, MOVABLE, Policy
from gateway.failover.remaining import Remaining
from tests.failover.play import failure, plan_for


def remaining(
    *targets: str, policy: Policy = DEFAULT, keys: int = 1
) -> tuple[Remaining, tuple[Candidate, ...]]:
    candidates = plan_for(targets, keys=keys).candidates
    return Remaining(candidates, policy, lambda: 0.5), candidates


def fails(left: Remaining, candidate: Candidate, outcome: str, now: float = 0.0, **more: object) -> None:
    """`candidate` was asked and failed."""
    if candidate in left.untried:
        left.untried.remove(candidate)
    left.note(candidate, failure(outcome, **more), now, asked=True)


def test_before_anything_failed_nobody_is_asked_again() -> None:
    left, candidates = remaining("one:a")
    assert left.untried == list(candidates)
    assert left.again(0.0) is None


def test_who_may_follow() -> None:
    left, (a1, a2, b1, b2) = remaining("one:a", "two:b", keys=2)
    fails(left, a1, "server_fault")
    assert left.following() == [b1, b2]
    fails(left, b1, "auth")
    assert left.following() == [b2]
    fails(left, a1, "auth")
    assert left.following() == [a2, b2]


def test_a_policy_may_hold_back_other_targets_but_not_other_credentials() -> None:
    left, (a1, a2, _, _) = remaining("one:a", "two:b", keys=2, policy=Policy(name="p", on=frozenset()))
    fails(left, a1, "billing")
    assert left.following() == [a2]
    fails(left, a2, "server_fault")
    assert left.following() == []
    assert left.again(0.0) == (0.25, a2)


@pytest.mark.parametrize(
    ("target", "outcome", "told", "due"),
    [
        ("one:a", "server_fault", None, 0.25),
        ("one:a", "connect_fault", None, 0.25),
        ("local:q", "local_fault", None, 0.25),
        ("one:a", "server_fault", 3.0, 3.0),
        ("one:a", "overloaded", None, 0.25),
        ("one:a", "overloaded", 3.0, 3.0),
        ("one:a", "overloaded", 9.0, None),
        ("local:q", "overloaded", 3.0, None),
        ("one:a", "rate_limited", 0.0, 0.25),
        ("one:a", "rate_limited", 8.0, 8.25),
        ("one:a", "rate_limited", 8.1, None),
        ("one:a", "rate_limited", None, None),
        ("one:a", "slow", None, None),
        ("one:a", "auth", 1.0, None),
    ],
)
def test_what_is_asked_again_and_when(
    target: str, outcome: str, told: float | None, due: float | None
) -> None:
    left, (candidate,) = remaining(target)
    fails(left, candidate, outcome, retry_after_s=told)
    assert left.again(0.0) == (None if due is None else (due, candidate))


def test_a_fault_is_repeated_once() -> None:
    left, (candidate,) = remaining("one:a")
    fails(left, candidate, "server_fault")
    assert left.again(5.0) == (5.0, candidate)  # its wait is long over
    fails(left, candidate, "server_fault", 6.0)
    assert left.again(6.0) is None


def test_a_machine_that_is_offline_asks_nobody_again() -> None:
    left, (a, b) = remaining("one:a", "two:b")
    fails(left, a, "connect_fault", offline=True)
    assert left.following() == [b]
    assert left.again(0.0) is None


def test_a_wait_is_no_repetition() -> None:
    left, (candidate,) = remaining("one:a")
    left.note(candidate, failure("rate_limited", retry_after_s=1.0), 0.0, asked=False)
    assert left.again(0.0) == (1.25, candidate)
    fails(left, candidate, "server_fault", 2.0)
    assert left.again(2.0) == (2.25, candidate)


def test_the_soonest_comes_first() -> None:
    left, (a, b) = remaining("one:a", "two:b")
    fails(left, a, "rate_limited", 0.0, retry_after_s=5.0)
    fails(left, b, "server_fault", 0.0)
    assert left.again(0.0) == (0.25, b)
    fails(left, b, "auth", 1.0)
    assert left.again(1.0) == (5.25, a)


def test_nobody_is_offered_without_end() -> None:
    left, (candidate,) = remaining("one:a")
    for _ in range(3):
        left.note(candidate, failure("rate_limited", retry_after_s=1.0), 0.0, asked=False)
        assert left.again(0.0) is not None
    assert left.again(0.0) is None


def test_who_shares_the_time() -> None:
    left, (a1, a2, b1, b2) = remaining("one:a", "two:b", keys=2)
    left.untried.remove(a1)
    assert left.followers(a1) == 1
    left.untried[:] = [a2]
    assert left.followers(a1) == 0
    left.untried[:] = []
    assert left.followers(a1) == 0
    patient, (first, *_) = remaining("one:a", "two:b", policy=Policy(name="p", on=MOVABLE - {Outcome.SLOW}))
    assert patient.followers(first) == 0
    assert b1.aim_index == b2.aim_index
