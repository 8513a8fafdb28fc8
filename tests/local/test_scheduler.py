"""The line of each model, told as stories."""

from __future__ import annotations

import pytest

from gateway.local.scheduler import Admitted, Full, Scheduler


def test_places_first_then_the_queue_then_full() -> None:
    line = Scheduler(batch_size=2, max_queue=1)
    assert line.admit("m", 1, 0.0) == Admitted(0.0)
    assert line.admit("m", 2, 0.0) == Admitted(0.0)
    assert (line.running("m"), line.waiting("m"), line.wait_s("m")) == (2, 0, 1.0)
    assert line.admit("m", 3, 0.0) == Admitted(1.0)
    assert line.admit("m", 4, 0.0) == Full(retry_after_s=1.0, waiting=1)
    assert line.waiting("m") == 1


def test_each_model_has_its_own_line() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    assert line.admit("a", 1, 0.0) == Admitted(0.0)
    assert isinstance(line.admit("a", 2, 0.0), Full)
    assert line.admit("b", 3, 0.0) == Admitted(0.0)
    assert (line.wait_s("c"), line.waiting("c"), line.running("c")) == (0.0, 0, 0)


def test_the_wait_is_learnt_from_how_long_places_were_held() -> None:
    line = Scheduler(batch_size=1, max_queue=5)
    line.admit("m", 1, 0.0)
    line.began("m", 1, 1.0)
    line.left("m", 1, 9.0)
    assert line.wait_s("m") == 0.0
    line.admit("m", 2, 10.0)
    line.began("m", 2, 10.0)
    assert line.wait_s("m") == 8.0
    line.admit("m", 3, 10.0)
    assert line.wait_s("m") == 16.0
    line.left("m", 2, 14.0)
    assert line.wait_s("m") == pytest.approx(7.0)
    full = Scheduler(batch_size=1, max_queue=0)
    full.admit("m", 1, 0.0)
    full.began("m", 1, 0.0)
    full.left("m", 1, 30.0)
    full.admit("m", 2, 30.0)
    assert full.admit("m", 3, 30.0) == Full(retry_after_s=30.0, waiting=0)


def test_one_that_leaves_the_queue_teaches_nothing_and_frees_its_place() -> None:
    line = Scheduler(batch_size=1, max_queue=0)
    line.admit("m", 1, 0.0)
    line.left("m", 1, 100.0)
    assert line.admit("m", 2, 100.0) == Admitted(0.0)
    assert line.wait_s("m") == 2.0


def test_beginning_twice_counts_once() -> None:
    line = Scheduler(batch_size=2, max_queue=0)
    line.admit("m", 1, 0.0)
    line.began("m", 1, 1.0)
    line.began("m", 1, 5.0)
    assert line.running("m") == 1
    line.left("m", 1, 2.0)
    assert line.running("m") == 0
