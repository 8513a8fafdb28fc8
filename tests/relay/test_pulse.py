"""A stream's pulse: comments in quiet times, an end to idleness, to stuck clients and at the deadline."""

from __future__ import annotations

import asyncio

import pytest

from gateway.failover.outcome import Outcome
from gateway.relay.pulse import Pulse


def pulse(
    beats: list[float],
    *,
    idle_s: float = 9,
    heartbeat_s: float = 9,
    write_s: float = 9,
    deadline_s: float = 9,
) -> Pulse:
    loop = asyncio.get_running_loop()
    return Pulse(
        idle_s=idle_s,
        heartbeat_s=heartbeat_s,
        write_s=write_s,
        deadline=loop.time() + deadline_s,
        beat=lambda: beats.append(loop.time()),
    )


async def test_quiet_times_get_comments_and_then_an_end() -> None:
    beats: list[float] = []
    watched = pulse(beats, idle_s=0.3, heartbeat_s=0.05)
    with pytest.raises(TimeoutError):
        async with watched:
            await asyncio.Event().wait()
    assert watched.failure is not None
    assert watched.failure.outcome is Outcome.SLOW
    assert 2 <= len(beats) <= 6


async def test_a_busy_stream_gets_no_comments() -> None:
    beats: list[float] = []
    async with pulse(beats, idle_s=0.2, heartbeat_s=0.1) as watched:
        for _ in range(30):
            await asyncio.sleep(0.01)
            watched.writing()
            watched.written()
    assert beats == []
    assert watched.failure is None


async def test_deadline_ends_a_stream_that_still_runs() -> None:
    watched = pulse([], deadline_s=0.1)
    with pytest.raises(TimeoutError):
        async with watched:
            while True:
                await asyncio.sleep(0.01)
                watched.writing()
                watched.written()
    assert watched.failure is not None
    assert "deadline" in watched.failure.message


async def test_client_that_takes_nothing_is_told_apart() -> None:
    watched = pulse([], write_s=0.05, idle_s=0.02)
    with pytest.raises(TimeoutError):
        async with watched:
            watched.writing()
            await asyncio.Event().wait()
    assert watched.client_stuck
    assert watched.failure is None


async def test_interrupt_breaks_it_at_once() -> None:
    watched = pulse([])
    with pytest.raises(TimeoutError):
        async with watched:
            asyncio.get_running_loop().call_soon(watched.interrupt, "the end")
            await asyncio.Event().wait()
    assert watched.failure is not None
    assert watched.failure.message == "the end"


async def test_interrupt_of_one_that_is_over_does_nothing() -> None:
    """It raised in the middle of the drain."""
    watched = pulse([])
    async with watched:
        pass
    watched.interrupt("too late")
    assert watched.failure is None


async def test_interrupt_of_a_stuck_client_changes_nothing() -> None:
    watched = pulse([], write_s=0.02)
    with pytest.raises(TimeoutError):
        async with watched:
            watched.writing()
            while not watched.client_stuck:
                await asyncio.sleep(0)
            watched.interrupt("the end")
            await asyncio.Event().wait()
    assert watched.client_stuck
    assert watched.failure is None


async def test_a_slow_write_past_the_deadline_does_not_spin() -> None:
    """The next look was set to the deadline, which had passed: the loop did nothing else any more."""
    looks = 0

    class Counted(Pulse):
        def _look(self) -> None:
            nonlocal looks
            looks += 1
            super()._look()

    watched = Counted(
        idle_s=9,
        heartbeat_s=9,
        write_s=9,
        deadline=asyncio.get_running_loop().time() + 0.01,
        beat=lambda: None,
    )
    async with watched:
        watched.writing()
        await asyncio.sleep(0.1)
        watched.written()
    assert looks <= 3
