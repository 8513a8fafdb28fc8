"""What is written down of attempts."""

from __future__ import annotations

from gateway.failover.outcome import Outcome
from gateway.failover.plan import Candidate
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
