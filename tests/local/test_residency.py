"""Which models may be in memory together, and which one goes for another."""

from __future__ import annotations

import pytest

from gateway.local.residency import (
    Decision,
    Occupant,
    Verdict,
    decide,
    expired,
    footprint,
    held,
    kv_bytes,
    soonest,
)

GIB = 1024**3
SIZE = footprint(GIB)
LIMIT = 3 * SIZE


def there(*paths: str, busy: str = "", pinned: str = "") -> list[Occupant]:
    """Models of one GiB each; the first was used longest ago."""
    return [
        Occupant(path, GIB, used, busy=path in busy, pinned=path in pinned) for used, path in enumerate(paths)
    ]


def test_a_model_takes_more_memory_than_disk() -> None:
    assert GIB < footprint(GIB) < 2 * GIB
    assert footprint(0) > 0


def test_a_model_that_fits_is_loaded() -> None:
    assert decide("a", GIB, [], 2 * GIB) == Decision(Verdict.LOAD, SIZE, 2 * GIB)
    assert decide("c", GIB, there("a", "b"), LIMIT) == Decision(Verdict.LOAD, SIZE, SIZE)


def test_a_model_that_is_there_needs_nothing() -> None:
    assert decide("a", 100 * GIB, there("a"), GIB).verdict is Verdict.RESIDENT


def test_the_least_recently_used_goes_and_no_more_than_needed() -> None:
    decision = decide("d", GIB, there("a", "b", "c"), LIMIT)
    assert (decision.verdict, decision.evict, decision.free_bytes) == (Verdict.LOAD, ("a",), SIZE)
    assert decide("d", 2 * GIB, there("a", "b", "c"), LIMIT).evict == ("a", "b")
    old = Occupant("old", GIB, used=-1)
    assert decide("d", GIB, [*there("a", "b"), old], LIMIT).evict == ("old",)


@pytest.mark.parametrize(("busy", "pinned", "evict"), [("a", "", "b"), ("", "a", "b"), ("b", "a", "c")])
def test_one_in_use_and_one_pinned_never_go(busy: str, pinned: str, evict: str) -> None:
    decision = decide("d", GIB, there("a", "b", "c", busy=busy, pinned=pinned), LIMIT)
    assert (decision.verdict, decision.evict) == (Verdict.LOAD, (evict,))


def test_nothing_goes_in_vain() -> None:
    decision = decide("d", 2 * GIB, there("a", "b", "c", busy="a", pinned="b"), LIMIT)
    assert decision == Decision(Verdict.NO_ROOM, footprint(2 * GIB), 0)


def test_a_model_may_be_too_large_alone() -> None:
    decision = decide("a", 4 * GIB, there("b"), LIMIT)
    assert (decision.verdict, decision.evict) == (Verdict.TOO_LARGE, ())


def test_what_the_process_grew_by_counts_where_it_is_more_than_the_sums() -> None:
    assert decide("b", GIB, there("a"), LIMIT, grown_bytes=SIZE // 2).free_bytes == 2 * SIZE
    decision = decide("b", GIB, there("a", busy="a"), LIMIT, grown_bytes=LIMIT - SIZE + 1)
    assert (decision.verdict, decision.free_bytes) == (Verdict.NO_ROOM, SIZE - 1)
    assert decide("b", GIB, there("a"), LIMIT, grown_bytes=LIMIT - SIZE + 1).evict == ("a",)


def test_prompts_that_only_may_be_of_use_are_room_that_is_made_when_it_is_needed() -> None:
    grown = {"grown_bytes": LIMIT, "prompt_bytes": 2 * SIZE}
    assert decide("b", GIB, there("a"), LIMIT, **grown) == Decision(
        Verdict.LOAD, SIZE, 2 * SIZE, prompts=SIZE
    )
    assert decide("b", GIB, there("a"), LIMIT, prompt_bytes=SIZE).prompts is None
    assert decide("b", 2 * GIB, there("a"), LIMIT, **grown).prompts == 2 * SIZE - footprint(2 * GIB)
    # After an eviction no more of them go than have to.
    evicting = decide("d", GIB, there("a", "b", "c"), LIMIT, grown_bytes=LIMIT, prompt_bytes=100)
    assert (evicting.evict, evicting.prompts) == (("a",), 0)


def test_who_was_idle_for_too_long_expires() -> None:
    models = there("a", "b", "c", "d", busy="b", pinned="c")
    idle = dict.fromkeys("abc", 100.0)
    assert expired(models, idle, 100.0) == ["a"]
    assert expired(models, idle, 100.1) == []
    assert expired(models, {**idle, "d": 1000.0}, 10.0) == ["a", "d"]
    assert expired(models, idle, 0) == []


def test_there_is_room_as_soon_as_enough_of_those_in_use_have_ended() -> None:
    full = there("a", "b", "c", busy="abc", pinned="c")
    ends = {"a": 5.0, "b": 2.0, "c": 1.0}
    assert soonest("d", GIB, full, LIMIT, ends) == 2.0
    assert soonest("d", 2 * GIB, full, LIMIT, ends) == 5.0
    assert soonest("d", 3 * GIB, full, LIMIT, ends) is None, "a pinned one never goes"
    assert soonest("d", GIB, full, LIMIT, {}) is None
    assert soonest("d", GIB, full, LIMIT, ends, grown_bytes=LIMIT + SIZE, prompt_bytes=0) == 5.0


def test_what_is_held_is_what_was_foreseen_or_more() -> None:
    assert held(there("a", "b"), grown_bytes=SIZE, prompt_bytes=0) == 2 * SIZE
    assert held(there("a"), grown_bytes=3 * SIZE, prompt_bytes=SIZE) == 2 * SIZE


def test_memory_is_set_aside_for_a_prompt_and_the_beginning_of_an_answer() -> None:
    assert kv_bytes(10, 100, 5) == 1050
    assert kv_bytes(10, 100, 1_000_000) == kv_bytes(10, 100, 1024)
