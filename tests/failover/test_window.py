"""Counting what happened lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.window import Window

THINGS = st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60)


@given(THINGS)
def test_it_counts_what_a_list_would(things: list[tuple[float, bool]]) -> None:
    window = Window(slots=4, slice_s=1.0)
    now, seen = 5.0, []
    for pause, marked in things:
        now += pause
        window.add(now, marked=marked)
        seen.append((int(now), marked))
    live = [marked for at, marked in seen if at > int(now) - 4]
    assert window.totals(now) == (live.count(False), live.count(True))


def test_it_forgets() -> None:
    window = Window(slots=6, slice_s=10.0)
    window.add(0.0, marked=True)
    assert window.totals(59.9) == (0, 1)
    assert window.totals(60.0) == (0, 0)


def test_an_empty_one_counts_nothing() -> None:
    assert Window(slots=6, slice_s=10.0).totals(0.0) == (0, 0)
