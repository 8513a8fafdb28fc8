"""Faults of the engine, with real MLX: what hangs, raises or dies becomes an outcome at once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import begin, refused, rest, soon, until, whole
from tests.local.conftest import MakePool
from tests.local.puppets import Strings

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.asyncio(loop_scope="session")]


async def count(pool: LocalPool, model: str = "tiny") -> int:
    """It answers: so many tokens as were asked for."""
    body = await whole(pool, model, max_tokens=3, logit_bias={"256": -100})
    return int(body["usage"]["completion_tokens"])


# --- exceptions -----------------------------------------------------------------------------------


async def test_an_exception_before_anything_was_sent_starts_the_request_over(
    pool: LocalPool, strings: Strings
) -> None:
    before = pool.stats()["rebuilds"]
    strings.act("raise", skip=1, times=1)
    assert await count(pool) == 3
    assert pool.stats()["rebuilds"] == before + 1


async def test_an_exception_after_text_was_sent_ends_that_stream_only_with_an_error(
    pool: LocalPool, strings: Strings
) -> None:
    """Carrying on with the generator would silently drop one token of every live stream (mlx.md A.6)."""
    _, chunks = await begin(pool)
    strings.act("raise", times=1)
    with pytest.raises(AttemptFailed) as caught:
        await rest(chunks)
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    assert "METAL" not in caught.value.failure.message
    assert await count(pool, "slow") == 3


async def test_a_request_is_started_over_once_only(pool: LocalPool, strings: Strings) -> None:
    assert await count(pool) == 3
    before = pool.stats()["rebuilds"]
    strings.act("raise")
    failure = await refused(pool, "tiny")
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert pool.stats()["rebuilds"] == before + 2
    assert pool.stats()["models"]["tiny"] == {"state": "ready", "running": 0, "waiting": 0}


async def test_numbers_that_are_none_end_the_answer(pool: LocalPool, strings: Strings) -> None:
    strings.act("nan")
    failure = await refused(pool, "tiny", max_tokens=5)
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert "numbers" in failure.message


async def test_a_request_that_the_generator_does_not_take_fails_alone(
    pool: LocalPool, strings: Strings
) -> None:
    before = pool.stats()["rebuilds"]
    _, chunks = await begin(pool, max_tokens=30)
    strings.act("refuse")
    assert (await refused(pool, "slow")).outcome is Outcome.LOCAL_FAULT
    strings.rest()
    assert (await rest(chunks))[-1] == b"[DONE]"
    assert await count(pool, "slow") == 3
    assert pool.stats()["rebuilds"] == before


async def test_a_token_without_a_text_ends_its_own_row_only(make_pool: MakePool, strings: Strings) -> None:
    pool = await make_pool()
    strings.act("garble", skip=10)
    (_, bad), (_, good) = [await begin(pool), await begin(pool, max_tokens=60)]
    with pytest.raises(AttemptFailed) as caught:
        await rest(bad)
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    assert (await rest(good))[-1] == b"[DONE]"
    assert pool.stats()["rebuilds"] == 0


# --- hanging and dying ----------------------------------------------------------------------------


async def test_a_step_that_hangs_is_noticed_and_the_engine_replaced(
    make_pool: MakePool, strings: Strings
) -> None:
    pool = await make_pool(step_limit_s=1.0)
    strings.act("gate", skip=5, times=1)
    streaming = await begin(pool)
    waiting = asyncio.create_task(refused(pool, "slow"))
    with pytest.raises(AttemptFailed) as caught:
        await rest(streaming[1])
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    assert "hangs" in caught.value.failure.message
    assert (await waiting).outcome is Outcome.LOCAL_FAULT
    assert pool.stats()["engines_lost"] == 1
    # A thread that hangs is still there; the new one answers.
    assert await count(pool, "slow") == 3
    strings.open()


@pytest.mark.parametrize("deed", ["die", "kill"])
async def test_an_engine_that_dies_is_noticed_and_replaced(
    make_pool: MakePool, strings: Strings, isolation: str, deed: str
) -> None:
    if (isolation, deed) == ("thread", "kill"):
        pytest.skip("SIGKILL takes a thread's whole process")
    pool = await make_pool()
    strings.act("kill" if deed == "kill" else "die", times=1)
    failure = await refused(pool, "tiny")
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert await count(pool) == 3
    assert pool.stats()["engines_lost"] == 1


async def test_a_process_that_dies_takes_no_other_model_with_it(
    make_pool: MakePool, strings: Strings, isolation: str
) -> None:
    if isolation == "thread":
        pytest.skip("all models share the thread")
    pool = await make_pool()
    assert await count(pool) == 3
    _, chunks = await begin(pool)
    running = asyncio.create_task(rest(chunks))
    strings.act("kill", times=1)
    await until(lambda: pool.stats()["engines_lost"] == 1)
    with pytest.raises(AttemptFailed):
        await running
    states = {model.name: model.state for model in pool.models()}
    assert (states["tiny"], states["slow"]) == ("ready", "cold")
    loads = pool.stats()["loads"]
    assert await count(pool) == 3
    assert pool.stats()["loads"] == loads


async def test_an_engine_that_is_lost_again_and_again_rests(make_pool: MakePool, strings: Strings) -> None:
    pool = await make_pool()
    strings.act("die")
    for _ in range(3):
        assert (await refused(pool, "tiny")).code == "engine_failed"
    failure = await refused(pool, "tiny")
    assert failure.outcome is Outcome.LOCAL_FAULT
    assert failure.retry_after_s is not None
    assert 50 < failure.retry_after_s <= 60
    assert pool.stats()["engines_lost"] == 3


# --- the end --------------------------------------------------------------------------------------


async def test_requests_that_run_when_the_pool_closes_are_told(make_pool: MakePool) -> None:
    pool = await make_pool()
    _, chunks = await begin(pool)
    assert await pool.close(soon(10))
    with pytest.raises(AttemptFailed) as caught:
        await rest(chunks)
    assert caught.value.failure.outcome is Outcome.OVERLOADED
    assert (await refused(pool, "tiny")).message == "the gateway is shutting down"


async def test_an_engine_that_does_not_end_in_time(
    make_pool: MakePool, strings: Strings, isolation: str
) -> None:
    """A thread can't be ended, so the process has to leave without it; a child is killed."""
    pool = await make_pool()
    strings.act("gate", times=1)
    task = asyncio.create_task(refused(pool, "tiny"))
    await until(lambda: strings.reached)
    assert await pool.close(soon(0.1)) is (isolation == "process")
    assert (await task).outcome is Outcome.OVERLOADED
    strings.open()


# --- the queue ------------------------------------------------------------------------------------


async def test_a_full_queue_is_overloaded_with_a_wait(make_pool: MakePool, strings: Strings) -> None:
    """The job queue had no bound and no busy signal (D41)."""
    pool = await make_pool(batch_size=2, max_queue=3)
    strings.act("gate")
    tasks = [asyncio.create_task(whole(pool, "tiny", f"{n}", max_tokens=5)) for n in range(5)]
    await until(lambda: strings.reached)
    await until(lambda: pool.outlook("tiny")["queue"] == 3)
    failure = await refused(pool, "tiny")
    assert (failure.outcome, failure.code, failure.status) == (Outcome.OVERLOADED, "queue_full", 503)
    assert failure.retry_after_s is not None
    assert 1 <= failure.retry_after_s <= 60
    assert pool.outlook("tiny")["wait_s"] > 0
    strings.open()
    assert len(await asyncio.gather(*tasks)) == 5
    assert pool.outlook("tiny")["queue"] == 0
    assert pool.outlook("tiny")["wait_s"] == 0.0
