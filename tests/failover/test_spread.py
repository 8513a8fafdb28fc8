"""In which order the credentials of an upstream are asked."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.spread import by_weight


def test_each_comes_first_as_often_as_its_weight_says() -> None:
    chance = random.Random(7).random
    orders = [by_weight([("a", 6), ("b", 3), ("c", 1)], chance) for _ in range(4000)]
    first = Counter(order[0] for order in orders)
    assert 0.57 < first["a"] / 4000 < 0.63
    assert 0.07 < first["c"] / 4000 < 0.13
    # Of those that come after `a`, `b` is next three times as often as `c`.
    second = Counter(order[1] for order in orders if order[0] == "a")
    assert 2.5 < second["b"] / second["c"] < 3.6


@given(st.lists(st.integers(1, 1000), max_size=8), st.floats(0, 1))
def test_nobody_is_left_out(weights: list[int], chance: float) -> None:
    things = list(enumerate(weights))
    assert sorted(by_weight(things, lambda: chance)) == list(range(len(weights)))
