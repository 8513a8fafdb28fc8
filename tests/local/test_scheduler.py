"""The line of each model, told as stories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.outcome import Outcome
from gateway.local.scheduler import Admitted, Full, Scheduler


def served(line: Scheduler, number: int, came: float, went: float) -> None:
    """One that had its place from `came` to `went`."""
    line.admit("m", number, came)
    line.began("m", number, came)
    line.left("m", number, went)


def running(line: Scheduler, number: int, now: float, *, places: int = 1) -> Admitted | Full:
    found = line.admit("m", number, now, places=places)
    line.began("m", number, now)
    return found


def test_places_first_then_the_queue_then_full() -> None:
    line = Scheduler(batch_size=2, max_queue=1)
    assert not line.busy("m")
    assert line.admit("m", 1, 0.0) == Admitted(0.0)
    assert line.admit("m", 2, 0.0) == Admitted(0.0)
    assert (line.running("m"), line.waiting("m"), line.wait_s("m", 0.0)) == (2, 0, 2.0)
    assert line.admit("m", 3, 0.0) == Admitted(2.0)
    assert line.admit("m", 4, 0.0) == Full(retry_after_s=2.0, waiting=1)
    assert (line.running("m"), line.waiting("m")) == (2, 1)
    assert line.busy("m")


def test_each_model_has_its_own_line() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    assert line.admit("a", 1, 0.0) == Admitted(0.0)
    assert isinstance(line.admit("a", 2, 0.0), Full)
    assert line.admit("b", 3, 0.0) == Admitted(0.0)
    assert (line.wait_s("c", 0.0), line.waiting("c"), line.running("c"), line.busy("c")) == (0.0, 0, 0, False)


def test_the_wait_is_learnt_from_how_long_places_were_held() -> None:
    line = Scheduler(batch_size=1, max_queue=5)
    served(line, 1, 0.0, 8.0)
    assert line.wait_s("m", 8.0) == 0.0
    running(line, 2, 10.0)
    assert line.wait_s("m", 10.0) == 8.0
    assert line.wait_s("m", 14.0) == 4.0
    line.left("m", 2, 14.0)  # after 4 s: a quarter of the way from 8 to 4
    running(line, 3, 14.0)
    assert line.wait_s("m", 14.0) == pytest.approx(7.0)


def test_a_full_line_says_when_its_next_place_is_free() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    served(line, 1, 0.0, 30.0)
    running(line, 2, 30.0)
    assert line.admit("m", 3, 50.0) == Full(retry_after_s=10.0, waiting=0)
    assert line.admit("m", 3, 59.0) == Full(retry_after_s=7.5, waiting=0), "a quarter of the usual at least"


def test_nobody_is_told_to_come_back_within_a_second() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    served(line, 1, 0.0, 0.01)
    running(line, 2, 1.0)
    assert line.admit("m", 3, 1.0) == Full(retry_after_s=1.0, waiting=0)


def test_those_in_front_are_played_through() -> None:
    """Two places held for 10 s each, five in line: three turns until the sixth has one."""
    line = Scheduler(batch_size=2, max_queue=10)
    served(line, 1, 0.0, 10.0)
    running(line, 2, 100.0)
    running(line, 3, 104.0)
    waits = [line.admit("m", number, 104.0) for number in range(4, 9)]
    assert waits == [Admitted(wait) for wait in (6.0, 10.0, 16.0, 20.0, 26.0)]
    assert line.wait_s("m", 104.0) == 30.0


def test_one_with_several_answers_takes_as_many_places() -> None:
    line = Scheduler(batch_size=4, max_queue=2)
    assert running(line, 1, 0.0, places=3) == Admitted(0.0)
    assert line.admit("m", 2, 0.0, places=3) == Admitted(0.0)
    assert (line.running("m"), line.waiting("m")) == (4, 2)
    assert isinstance(line.admit("m", 3, 0.0), Full)
    line.left("m", 1, 5.0)
    assert (line.running("m"), line.waiting("m")) == (3, 0)


def test_one_that_wants_more_than_there_is_has_an_empty_line_for_itself() -> None:
    line = Scheduler(batch_size=2, max_queue=1)
    assert running(line, 1, 0.0, places=9) == Admitted(0.0)
    assert line.admit("m", 2, 0.0) == Full(retry_after_s=2.0, waiting=7)
    line.left("m", 1, 1.0)
    line.admit("m", 3, 1.0)
    assert isinstance(line.admit("m", 4, 1.0, places=9), Full)


def test_a_model_without_a_batch_has_one_place() -> None:
    line = Scheduler(batch_size=8, max_queue=1)
    line.one_at_a_time("m")
    running(line, 1, 0.0)
    assert line.admit("m", 2, 0.0) == Admitted(2.0)
    assert isinstance(line.admit("m", 3, 0.0), Full)
    known = Scheduler(batch_size=8, max_queue=0)
    known.admit("m", 1, 0.0)
    known.one_at_a_time("m")
    assert isinstance(known.admit("m", 2, 0.0), Full)


def test_counting_takes_no_place() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    running(line, 1, 0.0)
    assert line.admit("m", 2, 0.0, places=0) == Admitted(2.0)
    assert (line.running("m"), line.waiting("m")) == (1, 0)


def test_one_that_leaves_the_queue_teaches_nothing_and_frees_its_place() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    line.admit("m", 1, 0.0)
    line.left("m", 1, 100.0)
    assert not line.busy("m")
    assert line.admit("m", 2, 100.0) == Admitted(0.0)
    assert line.wait_s("m", 100.0) == 2.0


def test_beginning_or_leaving_twice_counts_once() -> None:
    line = Scheduler(batch_size=2, max_queue=0)
    line.admit("m", 1, 0.0)
    line.began("m", 1, 1.0)
    line.began("m", 1, 5.0)
    assert line.running("m") == 1
    line.left("m", 1, 3.0)
    line.left("m", 1, 9.0)
    assert line.running("m") == 0
    running(line, 2, 10.0)
    running(line, 3, 10.0)
    assert line.wait_s("m", 10.0) == 2.0


@given(
    st.integers(1, 4),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(["admit", "began", "left"]), st.integers(0, 9), st.integers(1, 5))),
)
def test_nobody_waits_beyond_the_queue_and_no_wait_is_negative(
    batch_size: int, max_queue: int, moves: list[tuple[str, int, int]]
) -> None:
    line = Scheduler(batch_size=batch_size, max_queue=max_queue)
    inside: dict[int, int] = {}
    for now, (move, number, places) in enumerate(moves):
        if move == "admit" and number not in inside:
            alone = not inside
            found = line.admit("m", number, float(now), places=places)
            if isinstance(found, Admitted):
                inside[number] = places
            else:
                assert not alone
                assert found.retry_after_s >= 1.0
        elif move == "began" and number in inside:
            line.began("m", number, float(now))
        elif move == "left" and number in inside:
            line.left("m", number, float(now))
            del inside[number]
        assert line.busy("m") == bool(inside)
        assert line.wait_s("m", float(now)) >= 0.0
        assert line.running("m") + line.waiting("m") == sum(inside.values())
        if len(inside) > 1:
            assert sum(inside.values()) <= batch_size + max_queue


def test_what_would_be_refused_is_told_without_asking_for_it() -> None:
    line = Scheduler(batch_size=2, max_queue=1)
    assert line.full("m", 0.0, places=50) is None, "nobody is there"
    running(line, 1, 0.0)
    assert line.full("m", 0.0, places=2) is None
    found = line.full("m", 0.0, places=3)
    assert found == line.admit("m", 2, 0.0, places=3)
    assert isinstance(found, Full)
    failure = found.failure("m")
    assert (failure.outcome, failure.code, failure.retry_after_s) == (Outcome.OVERLOADED, "queue_full", 1.0)
    assert line.waiting("m") == 0


def test_a_line_is_over_when_the_last_one_in_it_is() -> None:
    line = Scheduler(batch_size=2, max_queue=9)
    assert (line.ends_s("m", 0.0), line.width("m")) == (0.0, 2)
    served(line, 1, 0.0, 10.0)
    assert line.ends_s("m", 10.0) == 0.0
    running(line, 2, 10.0)
    line.admit("m", 3, 14.0)
    assert line.ends_s("m", 14.0) == 10.0
    for number in (4, 5):
        line.admit("m", number, 14.0)
    assert line.ends_s("m", 14.0) == 20.0
    line.one_at_a_time("m")
    assert line.width("m") == 1
