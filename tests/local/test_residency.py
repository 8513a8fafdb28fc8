"""Which models may be in memory together."""

from __future__ import annotations

from gateway.local.residency import Verdict, decide, footprint

GIB = 1024**3


def test_a_model_that_fits_is_loaded() -> None:
    decision = decide("a", GIB, {}, 2 * GIB)
    assert decision.verdict is Verdict.LOAD
    assert decision.needed_bytes == footprint(GIB) > GIB
    assert decision.evict == ()


def test_a_model_that_is_there_needs_nothing() -> None:
    assert decide("a", 100 * GIB, {"a": 100 * GIB}, GIB).verdict is Verdict.RESIDENT


def test_others_may_leave_no_room() -> None:
    decision = decide("b", GIB, {"a": GIB}, 2 * GIB)
    assert decision.verdict is Verdict.NO_ROOM
    assert decision.free_bytes < decision.needed_bytes


def test_a_model_may_be_too_large_alone() -> None:
    assert decide("a", 2 * GIB, {"b": 1}, 2 * GIB).verdict is Verdict.TOO_LARGE
