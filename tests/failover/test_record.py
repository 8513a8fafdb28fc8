"""What is written down of attempts."""

from __future__ import annotations

from gateway.failover.outcome import Outcome
from gateway.failover.plan import Candidate, Plan, Skipped
from gateway.failover.policy import DEFAULT
from gateway.failover.record import AttemptRecord, trace
from tests.failover.play import failure


def test_an_attempt_from_its_start_to_its_end() -> None:
    attempt = AttemptRecord(1, Candidate(0, "one", "a"), 100.0)
    assert (attempt.label, attempt.status, attempt.seconds(103.0)) == ("one/a", None, 3.0)
    assert trace([attempt], 100.0123) == "one/a=pending;dur=12"
    attempt.committed = True
    assert trace([attempt], 101.0) == "one/a=ok;dur=1000"
    attempt.end(Outcome.SLOW, 102.0, failure("slow", status=504))
    assert (attempt.status, attempt.seconds(999.0)) == (504, 2.0)
    assert trace([attempt, attempt], 999.0) == "one/a=slow;dur=2000, one/a=slow;dur=2000"


def test_nothing_was_tried() -> None:
    assert trace([], 0.0) == ""


def test_what_was_left_out_is_told_with_its_reason() -> None:
    left_out = [
        Skipped("local/big", "it is busy", Outcome.OVERLOADED, failure("overloaded")),
        Skipped("two/b", "the policy keeps requests on this machine"),
    ]
    plan = Plan((), tuple(left_out), DEFAULT, local_only=False)
    assert trace([], 0.0, plan) == "local/big=overloaded;dur=0;skipped"


def test_what_was_put_last_is_told_like_what_was_left_out_until_it_is_tried() -> None:
    late = Candidate(0, "local", "big", late=failure("slow"))
    plan = Plan((Candidate(1, "one", "a"), late), (), DEFAULT, local_only=False)
    assert trace([], 0.0, plan) == "local/big=slow;dur=0;skipped"
    assert trace([AttemptRecord(1, late, 0.0)], 0.003, plan) == "local/big=pending;dur=3"
