"""Clients that leave: their work ends within a step, wherever it is, and nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import LONG, begin, call, rest, said, soon, until
from tests.local.conftest import MakePool
from tests.local.puppets import Strings

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_frees_its_place_within_a_step(pool: LocalPool, streamed: bool) -> None:
    """The work of a client that had left went on to its end, 50 items instead of 3 (D18)."""
    before = pool.stats()
    if streamed:
        reply, _ = await begin(pool)
    else:
        reply = await pool.open(call("slow", **LONG), deadline=soon())
        await until(lambda: pool.stats()["completion_tokens"] > before["completion_tokens"] + 2)
    await reply.aclose()
    await until(lambda: pool.stats()["cancelled"] == before["cancelled"] + 1)
    made = pool.stats()["completion_tokens"]
    assert made < before["completion_tokens"] + 1000
    await until(lambda: pool.stats()["engine"] == "idle")
    assert pool.stats()["completion_tokens"] == made
    assert pool.stats()["models"]["slow"]["running"] == 0


async def test_a_client_that_leaves_between_the_pieces_of_its_prompt(
    pool: LocalPool, strings: Strings
) -> None:
    """The third step is held at the gate meanwhile: so it is known which one is the last."""
    await said(pool, "slow", max_tokens=1)  # the model is there
    strings.act("gate", skip=2, times=1)
    before = pool.stats()
    reply = await pool.open(call("slow", "leaving " + "x" * 2_000, stream=True), deadline=soon())
    await until(lambda: strings.reached)
    await reply.aclose()
    strings.open()
    await until(lambda: pool.stats()["cancelled"] == before["cancelled"] + 1)
    await until(lambda: pool.stats()["engine"] == "idle")
    assert pool.stats()["steps"] <= before["steps"] + 3, "the whole prompt takes 16"
    assert pool.stats()["completion_tokens"] == before["completion_tokens"]


async def test_a_client_that_leaves_while_the_model_loads(make_pool: MakePool) -> None:
    pool = await make_pool()
    task = asyncio.create_task(pool.open(call("slow", **LONG), deadline=soon()))
    await asyncio.sleep(0)
    await until(lambda: pool.stats()["models"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: pool.stats()["models"]["slow"]["state"] == "ready")
    await until(lambda: pool.stats()["cancelled"] == 1)
    assert pool.stats()["completion_tokens"] == 0


async def test_a_client_that_leaves_the_queue(make_pool: MakePool) -> None:
    pool = await make_pool(batch_size=1)
    running, chunks = await begin(pool, max_tokens=100)
    waiting = await pool.open(call("slow", **LONG), deadline=soon())
    assert pool.outlook("slow")["queue"] == 1
    await waiting.aclose()
    assert pool.outlook("slow")["queue"] == 0
    assert (await rest(chunks))[-1] == b"[DONE]"
    await running.aclose()
    await until(lambda: pool.stats()["engine"] == "idle")
    assert pool.stats()["cancelled"] == 1
    assert pool.stats()["completion_tokens"] == 100


async def test_others_go_on_when_one_leaves(pool: LocalPool) -> None:
    alone = await said(pool, "slow", **{**LONG, "max_tokens": 60})
    (one, _), (_, other) = await asyncio.gather(begin(pool), begin(pool, max_tokens=60))
    await one.aclose()
    text = "".join(chunk.decode() for chunk in await rest(other))
    assert '"finish_reason":"length"' in text
    assert await said(pool, "slow", **{**LONG, "max_tokens": 60}) == alone


async def test_a_deadline_that_passes_before_the_model_is_there(make_pool: MakePool) -> None:
    pool = await make_pool()
    with pytest.raises(AttemptFailed) as caught:
        await pool.open(call("slow"), deadline=soon(0.001))
    assert caught.value.failure.outcome is Outcome.SLOW
    await until(lambda: pool.stats()["cancelled"] == 1)
