"""Samplers on known distributions: what a filter forbids never comes, what it allows does."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from gateway.local.request import Sampling

Run = Callable[[Callable[[], Any]], Any]
PROBABILITIES = [0.5, 0.25, 0.15, 0.07, 0.03]


def drawn(on_mlx: Run, defaults: dict[str, Any] | None = None, **fields: Any) -> set[int]:
    """The tokens that come in many draws."""

    def work() -> set[int]:
        import mlx.core as mx

        from gateway.local.engine import sampling

        asked = Sampling(**fields)
        pick = sampling.sampler(sampling.choice(asked, defaults or {}, 5), asked.seed)
        rows = mx.broadcast_to(mx.array([math.log(p) for p in PROBABILITIES]), (3000, 5))
        return set(pick(rows).tolist())

    found: set[int] = on_mlx(work)
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"temperature": 0.0}, {0}),
        ({"top_p": 0.0}, {0}),
        ({"top_k": 1}, {0}),
        ({"top_k": 0}, {0, 1, 2, 3, 4}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 5}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.49}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 1.0}, {0, 1, 2, 3, 4}),
        ({"min_p": 0.0}, {0, 1, 2, 3, 4}),
        ({"min_p": 0.4}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),
        ({"temperature": 0.01}, {0}),
        ({"seed": 7, "top_k": 2}, {0, 1}),
    ],
)
def test_filters(on_mlx: Run, fields: dict[str, Any], expected: set[int]) -> None:
    assert drawn(on_mlx, **fields) == expected


def test_a_models_own_defaults_yield_to_what_is_asked(on_mlx: Run) -> None:
    assert drawn(on_mlx, {"top_k": 2, "temperature": 0.9}) == {0, 1}
    assert drawn(on_mlx, {"do_sample": False}) == {0}
    assert len(drawn(on_mlx, {"do_sample": False}, temperature=1.0)) == 5
    assert len(drawn(on_mlx, {"top_p": "odd", "top_k": True, "min_p": -1, "temperature": math.inf})) == 5


def test_rows_with_the_same_parameters_share_a_sampler(on_mlx: Run) -> None:
    """The generator samples a batch in one call only if its rows have the very same sampler."""

    def work() -> tuple[bool, bool, bool]:
        from gateway.local.engine import sampling

        one, two = sampling.Choice(0.7, 0.9, 0, 0.0), sampling.Choice(0.7, 0.9, 0, 0.0)
        return (
            sampling.sampler(one, None) is sampling.sampler(two, None),
            sampling.sampler(one, 1) is sampling.sampler(two, 1),
            sampling.sampler(sampling.GREEDY, 5) is sampling.greedy,
        )

    assert on_mlx(work) == (True, False, True)


def test_penalties_count_as_openai_says(on_mlx: Run) -> None:
    def work() -> list[list[float]]:
        import mlx.core as mx

        from gateway.local.engine import sampling

        asked = Sampling(presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=2.0)
        (penalise,) = sampling.processors(asked, [3, 99], 4, {})
        logits = mx.array([[4.0, 4.0, -4.0, 4.0]])
        found = [penalise(mx.array([3, 99]), logits)]
        found.append(penalise(mx.array([3, 99, 0]), logits))
        found.append(penalise(mx.array([3, 99, 0, 0]), logits))
        found.append(penalise(mx.array([3, 99, 0, 0, 2]), logits))
        return [row.tolist()[0] for row in found]

    assert on_mlx(work) == [
        [4.0, 4.0, -4.0, 2.0],
        [0.5, 4.0, -4.0, 2.0],
        [0.0, 4.0, -4.0, 2.0],
        [0.0, 4.0, -9.5, 2.0],
    ]


def test_a_processor_that_fails_leaves_the_row_as_it_is(
    on_mlx: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception would poison the generator and with it every other row."""
    caplog.set_level(logging.CRITICAL)

    def work() -> list[float]:
        import mlx.core as mx

        from gateway.local.engine import sampling

        (bias,) = sampling.processors(Sampling(logit_bias=((1, 5.0),)), [0], 2, {})
        assert bias(mx.array([0]), "no logits") == "no logits"
        found: list[float] = bias(mx.array([0]), mx.array([[1.0, 1.0]])).tolist()[0]
        return found

    assert on_mlx(work) == [1.0, 6.0]


def test_defaults_bring_a_repetition_penalty(on_mlx: Run) -> None:
    def work() -> tuple[int, int]:
        from gateway.local.engine import sampling

        quiet = sampling.processors(Sampling(), [0], 4, {})
        return len(quiet), len(sampling.processors(Sampling(), [9], 4, {"repetition_penalty": 1.1}))

    assert on_mlx(work) == (0, 1)
