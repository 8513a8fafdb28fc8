"""The knobs and what follows from them."""

from __future__ import annotations

import pytest

from gateway.failover.outcome import MEANING
from gateway.failover.policy import BUILT_IN, MOVABLE, Policy


@pytest.mark.parametrize(
    ("policy", "stream", "whole"),
    [
        (Policy(name="p"), 60.0, 600.0),
        (Policy(name="p", deadline_s=20.0), 20.0, 20.0),
        (Policy(name="p", first_token_s=4.0), 4.0, 4.0),
    ],
)
def test_how_long_an_attempt_may_take(policy: Policy, stream: float, whole: float) -> None:
    assert policy.first_content_s(stream=True) == stream
    assert policy.first_content_s(stream=False) == whole


def test_what_may_move_on_is_what_the_table_lets_move_on() -> None:
    assert {outcome for outcome, meaning in MEANING.items() if meaning.next_target} == MOVABLE


def test_there_are_two_built_in() -> None:
    assert {name: policy.stay_local for name, policy in BUILT_IN.items()} == {
        "default": False,
        "local-only": True,
    }
