"""Faults of the engine, real threads and real MLX: what hangs, raises or dies becomes an outcome at once."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import call, closing, refused, soon, whole
from tests.local.conftest import SETTINGS
from tests.local.puppets import Gate, hold

pytestmark = pytest.mark.usefixtures("quiet")
LONG = {"max_tokens": 2000, "logit_bias": {"256": -100}, "temperature": 0}


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="gateway.local")


@pytest_asyncio.fixture
async def fresh(home: Path) -> AsyncIterator[LocalPool]:
    async with closing(LocalPool(dataclasses.replace(SETTINGS, step_limit_s=1.0), home)) as found:
        yield found


async def until(condition: Any) -> None:
    """Wait for something that other threads bring about; the test's own time limit ends it."""
    while not condition():
        await asyncio.sleep(0.002)


async def begin(pool: LocalPool, **fields: Any) -> Any:
    """A stream of which the first content has come."""
    reply = await pool.open(call("slow", stream=True, **{**LONG, **fields}), deadline=soon())
    chunks = reply.chunks()
    await anext(chunks)
    await anext(chunks)
    return reply, chunks


async def rest(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [data async for data in chunks]


# --- leaving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_frees_its_place_within_a_step(fresh: LocalPool, streamed: bool) -> None:
    """The work of a client that had left went on to its end, 50 items instead of 3 (D18)."""
    if streamed:
        reply, _ = await begin(fresh)
    else:
        reply = await fresh.open(call("slow", **LONG), deadline=soon())
        await until(lambda: fresh.stats()["completion_tokens"] > 2)
    await reply.aclose()
    await until(lambda: fresh.stats()["cancelled"] == 1)
    made = fresh.stats()["completion_tokens"]
    assert made < 100
    await until(lambda: fresh.stats()["engine"] == "idle")
    assert fresh.stats()["completion_tokens"] == made
    assert fresh.stats()["models"]["slow"]["running"] == 0


async def test_a_client_that_leaves_while_its_prompt_is_read(fresh: LocalPool) -> None:
    reply = await fresh.open(call("slow", "x" * 20_000, stream=True), deadline=soon())
    await until(lambda: fresh.stats()["steps"] > 2)
    await reply.aclose()
    await until(lambda: fresh.stats()["engine"] == "idle")
    assert fresh.stats()["steps"] < 100  # the whole prompt takes 157
    assert fresh.stats()["completion_tokens"] == 0


async def test_a_client_that_leaves_while_the_model_loads(fresh: LocalPool) -> None:
    task = asyncio.create_task(fresh.open(call("slow", **LONG), deadline=soon()))
    await asyncio.sleep(0)
    await until(lambda: fresh.stats()["models"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: fresh.stats()["models"]["slow"]["state"] == "ready")
    await until(lambda: fresh.stats()["cancelled"] == 1)
    assert fresh.stats()["completion_tokens"] == 0


async def test_a_client_that_leaves_the_queue(home: Path) -> None:
    async with closing(LocalPool(dataclasses.replace(SETTINGS, batch_size=1), home)) as pool:
        running, chunks = await begin(pool, max_tokens=100)
        waiting = await pool.open(call("slow", **LONG), deadline=soon())
        assert pool.queued("slow") == 1
        await waiting.aclose()
        assert pool.queued("slow") == 0
        assert (await rest(chunks))[-1] == b"[DONE]"
        await running.aclose()
        await until(lambda: pool.stats()["engine"] == "idle")
        assert pool.stats()["cancelled"] == 1
        assert pool.stats()["completion_tokens"] == 100


async def test_others_go_on_when_one_leaves(fresh: LocalPool) -> None:
    alone = await whole(fresh, "slow", **{**LONG, "max_tokens": 60})
    (one, _), (_, other) = await asyncio.gather(begin(fresh), begin(fresh, max_tokens=60))
    await one.aclose()
    text = "".join(chunk.decode() for chunk in await rest(other))
    assert '"finish_reason":"length"' in text
    again = await whole(fresh, "slow", **{**LONG, "max_tokens": 60})
    assert again["choices"][0]["message"] == alone["choices"][0]["message"]


async def test_a_deadline_that_passes_before_the_model_is_there(fresh: LocalPool) -> None:
    with pytest.raises(AttemptFailed) as caught:
        await fresh.open(call("slow"), deadline=soon(0.001))
    assert caught.value.failure.outcome is Outcome.SLOW
    await until(lambda: fresh.stats()["cancelled"] == 1)


# --- exceptions -----------------------------------------------------------------------------------


async def test_an_exception_before_anything_was_sent_starts_the_request_over(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([True])

    def step(held: Any) -> Any:
        if held.steps == 3 and next(failures, False):
            raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory")
        return held.real.next()

    hold(monkeypatch, step)
    body = await whole(fresh, "tiny", max_tokens=4, temperature=0)
    assert body["usage"]["completion_tokens"] == 4
    assert fresh.stats()["rebuilds"] == 1


async def test_an_exception_after_text_was_sent_ends_that_stream_only_with_an_error(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carrying on with the generator would silently drop one token of every live stream (mlx.md A.6)."""
    boom = Gate()

    def step(held: Any) -> Any:
        if boom.open.is_set():
            boom.open.clear()
            raise ValueError("boom")
        return held.real.next()

    hold(monkeypatch, step)
    _, chunks = await begin(fresh)
    boom.open.set()
    with pytest.raises(AttemptFailed) as caught:
        await rest(chunks)
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    assert "boom" not in caught.value.failure.message
    assert (await whole(fresh, "slow", max_tokens=3))["usage"]["completion_tokens"] == 3


async def test_a_request_is_started_over_once_only(fresh: LocalPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(held: Any) -> Any:
        raise RuntimeError("always")

    hold(monkeypatch, step)
    failure = await refused(fresh, "tiny")
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert fresh.stats()["rebuilds"] == 2
    assert fresh.stats()["models"]["tiny"] == {"state": "ready", "running": 0, "waiting": 0}


async def test_numbers_that_are_none_end_the_answer(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(held: Any) -> Any:
        prompts, responses = held.real.next()
        for response in responses:
            response.logprobs = response.logprobs * float("nan")
        return prompts, responses

    hold(monkeypatch, step)
    failure = await refused(fresh, "tiny", max_tokens=5)
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert "numbers" in failure.message


async def test_a_request_that_the_generator_does_not_take_fails_alone(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(monkeypatch, lambda held: held.real.next())
    monkeypatch.setattr("gateway.local.engine.sampling.processors", lambda *_: 5)
    assert (await refused(fresh, "tiny")).outcome is Outcome.LOCAL_FAULT
    monkeypatch.undo()
    assert (await whole(fresh, "tiny", max_tokens=3))["usage"]["completion_tokens"] == 3
    assert fresh.stats()["rebuilds"] == 0


async def test_a_token_without_a_text_ends_its_own_row_only(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(held: Any) -> Any:
        prompts, responses = held.real.next()
        for response in responses:
            if response.uid == 0 and held.steps > 10:
                response.token = "not a token"
        return prompts, responses

    hold(monkeypatch, step)
    (_, bad), (_, good) = [await begin(fresh), await begin(fresh, max_tokens=60)]
    with pytest.raises(AttemptFailed) as caught:
        await rest(bad)
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    assert (await rest(good))[-1] == b"[DONE]"
    assert fresh.stats()["rebuilds"] == 0


# --- hanging and dying ----------------------------------------------------------------------------


async def test_a_step_that_hangs_is_noticed_and_the_engine_replaced(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    armed = [True]

    def step(held: Any) -> Any:
        if armed and held.steps == 6:
            armed.clear()
            gate.wait()
        return held.real.next()

    hold(monkeypatch, step)
    try:
        streaming = await begin(fresh)
        waiting = asyncio.create_task(refused(fresh, "slow"))
        with pytest.raises(AttemptFailed) as caught:
            await rest(streaming[1])
        assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
        assert "hangs" in caught.value.failure.message
        assert (await waiting).outcome is Outcome.LOCAL_FAULT
        assert fresh.stats()["engines_lost"] == 1
        # The one that hangs is still there; the new one answers.
        assert (await whole(fresh, "slow", max_tokens=3))["usage"]["completion_tokens"] == 3
    finally:
        gate.open.set()


async def test_a_thread_that_dies_is_noticed_and_the_engine_replaced(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(BaseException):
        pass

    deaths = iter([True])

    def step(held: Any) -> Any:
        if next(deaths, False):
            raise Deadly
        return held.real.next()

    hold(monkeypatch, step)
    failure = await refused(fresh, "tiny")
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert (await whole(fresh, "tiny", max_tokens=3))["usage"]["completion_tokens"] == 3
    assert fresh.stats()["engines_lost"] == 1


async def test_an_engine_that_is_lost_again_and_again_rests(
    fresh: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(BaseException):
        pass

    def step(held: Any) -> Any:
        raise Deadly

    hold(monkeypatch, step)
    for _ in range(3):
        assert (await refused(fresh, "tiny")).code == "engine_failed"
    failure = await refused(fresh, "tiny")
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert failure.retry_after_s is not None
    assert 50 < failure.retry_after_s <= 60
    assert fresh.stats()["engines_lost"] == 3


async def test_requests_that_run_when_the_pool_closes_are_told(home: Path) -> None:
    pool = LocalPool(SETTINGS, home)
    await pool.start()
    _, chunks = await begin(pool)
    assert await pool.close(soon(10))
    with pytest.raises(AttemptFailed) as caught:
        await rest(chunks)
    assert caught.value.failure.outcome is Outcome.OVERLOADED
    assert (await refused(pool, "tiny")).message == "the gateway is shutting down"


async def test_a_thread_that_does_not_end_in_time_is_reported(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    def step(held: Any) -> Any:
        gate.wait()
        return held.real.next()

    hold(monkeypatch, step)
    pool = LocalPool(SETTINGS, home)
    await pool.start()
    task = asyncio.create_task(refused(pool, "tiny"))
    await until(gate.reached.is_set)
    assert await pool.close(soon(0.1)) is False
    assert (await task).outcome is Outcome.OVERLOADED
    gate.open.set()


# --- the queue ------------------------------------------------------------------------------------


async def test_a_full_queue_is_overloaded_with_a_wait(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job queue had no bound and no busy signal (D41)."""
    gate = Gate()

    def step(held: Any) -> Any:
        gate.wait()
        return held.real.next()

    hold(monkeypatch, step)
    settings = dataclasses.replace(SETTINGS, batch_size=2, max_queue=3)
    async with closing(LocalPool(settings, home)) as pool:
        tasks = [asyncio.create_task(whole(pool, "tiny", f"{n}", max_tokens=5)) for n in range(5)]
        await until(gate.reached.is_set)
        await until(lambda: pool.queued("tiny") == 3)
        failure = await refused(pool, "tiny")
        assert (failure.outcome, failure.code, failure.status) == (Outcome.OVERLOADED, "queue_full", 503)
        assert failure.retry_after_s is not None
        assert 1 <= failure.retry_after_s <= 60
        assert pool.wait_s("tiny") > 0
        gate.open.set()
        assert len(await asyncio.gather(*tasks)) == 5
        assert pool.queued("tiny") == 0
        assert pool.wait_s("tiny") == 0.0
