"""Which prompts begin, and how large their pieces are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.local.prefill import LEAST_CHUNK, MOST_LONG, MOST_PROMPTS, choose, chunk

BUDGET = 512
LONG = BUDGET + 1


@pytest.mark.parametrize(
    ("waiting", "computing", "places", "chosen"),
    [
        ([], [], 8, []),
        ([10, 20, 30], [], 8, [0, 1, 2]),
        ([10, 20, 30], [], 2, [0, 1]),
        ([10], [], 0, []),
        ([10] * 20, [], 32, list(range(MOST_PROMPTS))),
        ([10] * 20, [10] * 5, 32, [0, 1, 2]),
        ([10], [10] * MOST_PROMPTS, 32, []),
        ([BUDGET, BUDGET, BUDGET], [], 8, [0, 1, 2]),
        ([LONG, LONG, LONG, LONG], [], 8, [0, 1]),
        ([LONG, LONG], [LONG, LONG], 8, []),
        ([LONG], [LONG, BUDGET], 8, [0]),
        ([LONG, 10, LONG, 20], [LONG, LONG], 8, [1, 3]),
        ([LONG, 10, LONG, LONG, 20], [LONG], 8, [0, 1, 4]),
    ],
)
def test_first_come_first_served_but_short_ones_pass_long_ones(
    waiting: list[int], computing: list[int], places: int, chosen: list[int]
) -> None:
    assert choose(waiting, computing, places=places, budget=BUDGET) == chosen


def test_models_that_compute_one_prompt_at_a_time() -> None:
    assert choose([10, 20], [], places=8, budget=BUDGET, most=1) == [0]
    assert choose([10, 20], [5], places=8, budget=BUDGET, most=1) == []


@pytest.mark.parametrize(
    ("computing", "budget", "size"),
    [(0, 512, 512), (1, 512, 512), (2, 512, 256), (3, 512, 170), (8, 512, 64), (8, 128, 32), (1, 16, 32)],
)
def test_a_step_has_so_many_tokens_for_all(computing: int, budget: int, size: int) -> None:
    assert chunk(computing, budget) == size


@pytest.mark.parametrize(
    ("computing", "speed", "size"), [(1, 1000.0, 200), (4, 1000.0, 50), (1, 1e6, 512), (1, 10.0, 32)]
)
def test_running_answers_wait_no_longer_than_they_should(computing: int, speed: float, size: int) -> None:
    """On a slow machine a chunk of 512 tokens held every stream up for half a second."""
    assert chunk(computing, 512, speed_tps=speed) == size


sizes = st.lists(st.integers(1, 5000), max_size=20)


@given(sizes, sizes, st.integers(0, 40), st.integers(16, 2048))
def test_nobody_is_chosen_beyond_the_bounds_and_nobody_starves(
    waiting: list[int], computing: list[int], places: int, budget: int
) -> None:
    chosen = choose(waiting, computing, places=places, budget=budget)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= places
    assert len(chosen) + len(computing) <= max(MOST_PROMPTS, len(computing))
    long_before = sum(left > budget for left in computing)
    long = sum(waiting[index] > budget for index in chosen)
    assert long == 0 or long + long_before <= MOST_LONG
    if waiting and places and not computing:
        assert chosen[0] == 0, "the first in line begins when nothing is computed"
    assert chunk(len(computing), budget) >= LEAST_CHUNK
