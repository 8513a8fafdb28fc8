"""PURE: in which order the credentials of an upstream are asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def by_weight(things: Sequence[tuple[T, int]], chance: Callable[[], float]) -> list[T]:
    """All of them in a random order, in which each comes first as often as its weight says. `chance`
    gives numbers from 0 to 1.

    Each draws the time until it rings, from the exponential distribution of its rate: the chance to
    ring first is its share of all rates, and what follows is drawn in the same way from the rest
    (Efraimidis and Spirakis, 2006).
    """
    drawn = [(-math.log(max(chance(), 1e-12)) / weight, place) for place, (_, weight) in enumerate(things)]
    return [things[place][0] for _, place in sorted(drawn)]
