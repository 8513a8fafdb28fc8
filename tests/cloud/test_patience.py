"""Waiting for a hub, told by what it slept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.cloud.hub import HubBusyError
from gateway.cloud.patience import Patience


def failing(times: int, wait_s: float | None = None) -> Callable[[], str]:
    left = [times]

    def ask() -> str:
        if left[0] == 0:
            return "here"
        left[0] -= 1
        raise HubBusyError("the hub is busy", wait_s=wait_s)

    return ask


def test_each_wait_is_longer_than_the_one_before_and_is_told() -> None:
    slept: list[float] = []
    notes: list[str] = []
    assert Patience(4, notes.append, slept.append).call(failing(3)) == "here"
    assert slept == [0.5, 1.0, 2.0]
    assert notes[0] == "the hub is busy; trying again in 0.5 s"


def test_the_hub_says_how_long() -> None:
    slept: list[float] = []
    assert Patience(2, lambda _: None, slept.append).call(failing(1, wait_s=0.0)) == "here"
    assert slept == [0.0]


def test_the_last_failure_is_told_as_it_was() -> None:
    slept: list[float] = []
    with pytest.raises(HubBusyError, match="the hub is busy"):
        Patience(3, lambda _: None, slept.append).call(failing(3))
    assert slept == [0.5, 1.0]
