"""PURE: which waiting prompts begin now, and how many of their tokens share a step.

All prompts that are computed together are padded to the longest piece, and running answers wait
for the whole of it. So a step has a budget of tokens that its prompts divide among them: short
prompts that come beside a long one are done in a step or two, and the long one goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_PROMPTS = 8  # that are computed at once
MOST_LONG = 2  # of these, with more tokens left than one step's budget
LEAST_CHUNK = 32
LONGEST_STALL_S = 0.2  # of a running answer, for a step's share of other prompts
KEPT_TOKENS = 64  # a prompt with fewer is computed faster than it is looked after


def choose(
    waiting: Sequence[int],
    computing: Sequence[int],
    *,
    places: int,
    budget: int,
    most: int = MOST_PROMPTS,
) -> list[int]:
    """The indices of those that begin, first come first served; tokens left are given for each.

    A long prompt waits while enough long ones are computed, and short ones pass it.
    """
    slots = min(places, most - len(computing))
    long = sum(left > budget for left in computing)
    chosen: list[int] = []
    for index, left in enumerate(waiting):
        if len(chosen) >= slots:
            break
        if left > budget:
            if long >= MOST_LONG:
                continue
            long += 1
        chosen.append(index)
    return chosen


def chunk(computing: int, budget: int, *, speed_tps: float | None = None) -> int:
    """How many tokens of each prompt a step takes. With `speed_tps`, how fast prompts are computed here,
    running answers wait for it, and it takes no longer than they should.
    """
    if speed_tps is not None:
        budget = min(budget, int(speed_tps * LONGEST_STALL_S))
    return max(LEAST_CHUNK, budget // max(1, computing))
