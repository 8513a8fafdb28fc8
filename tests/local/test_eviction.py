"""Models in one memory: who comes, who goes, and what is left of them. The limit has room for two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Outcome
from gateway.local import residents
from gateway.local.mailbox import ModelChanged
from gateway.local.pool import LocalPool
from tests.local.asking import LONG, begin, refused, said, soon, until, whole
from tests.local.conftest import MakePool, NewPool

pytestmark = pytest.mark.asyncio(loop_scope="session")
FOR_TWO: dict[str, Any] = {"memory_limit_gb": 0.14, "measure": lambda pid: 0}


def states(pool: LocalPool) -> dict[str, str]:
    return {model.name: model.state for model in pool.models() if model.state != "cold"}


async def test_the_least_recently_used_goes_for_another(make_pool: MakePool) -> None:
    """`max_models` was never enforced, three were loaded where one was allowed (D40)."""
    pool = await make_pool(**FOR_TWO)
    first = await said(pool, "tiny", max_tokens=8)
    await said(pool, "lab/other", max_tokens=2)
    await said(pool, "tiny", max_tokens=2)
    assert states(pool) == {"tiny": "ready", "lab/other": "ready"}
    await pool.load("base")
    assert states(pool) == {"tiny": "ready", "base": "ready"}
    await until(lambda: pool.stats()["unloads"] == 1)
    assert pool.stats()["loads"] == 3
    assert await said(pool, "tiny", max_tokens=8) == first


async def test_one_in_use_and_one_pinned_stay_and_others_wait_a_while(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await make_pool(**FOR_TWO, pinned=("tiny",))
    await pool.load("tiny")
    reply, _ = await begin(pool)
    monkeypatch.setattr(residents, "_PATIENCE_S", 0.05)
    failure = await refused(pool, "lab/other")
    assert (failure.outcome, failure.code) == (Outcome.OVERLOADED, "memory_full")
    with pytest.raises(AttemptFailed) as caught:
        await pool.unload("slow")
    assert (caught.value.failure.status, caught.value.failure.code) == (409, "model_in_use")
    monkeypatch.setattr(residents, "_PATIENCE_S", 60.0)
    waiting = asyncio.create_task(whole(pool, "lab/other", max_tokens=2))
    await asyncio.sleep(0)
    await reply.aclose()
    assert (await waiting)["model"] == "lab/other"
    assert states(pool) == {"tiny": "ready", "lab/other": "ready"}
    assert {m.name for m in pool.models() if m.pinned} == {"tiny"}


async def test_what_can_not_fit_alone_is_refused_before_anything_is_started(make_pool: MakePool) -> None:
    pool = await make_pool(memory_limit_gb=0.01)
    failure = await refused(pool, "tiny")
    assert (failure.outcome, failure.code) == (Outcome.LOCAL_FAULT, "model_too_large")
    with pytest.raises(AttemptFailed):
        await pool.load("tiny")
    assert pool.stats()["engine"] == "off"


async def test_who_is_idle_for_too_long_goes_but_for_pinned_ones(make_pool: MakePool) -> None:
    pool = await make_pool(keep_alive_s=0.3, pinned=("lab/other",))
    await pool.load("lab/other")
    await said(pool, "tiny", max_tokens=2)
    await until(lambda: pool.stats()["unloads"] == 1)
    assert states(pool) == {"lab/other": "ready"}


async def test_memory_goes_back_with_an_unload(make_pool: MakePool, isolation: str) -> None:
    pool = await make_pool()
    one = await pool.load("tiny")
    await until(lambda: pool.stats()["engine"] == "idle")
    before = pool.stats()["active_bytes"]
    model = await pool.load("slow")
    assert (model.state, model.progress) == ("ready", 1.0)
    assert model.facts is not None
    assert one.facts is not None
    await said(pool, "slow", "x" * 500, max_tokens=20)
    await until(lambda: pool.stats()["active_bytes"] >= before + model.facts.weight_bytes)
    gone = await pool.unload("slow")
    assert (gone.state, gone.progress, gone.facts) == ("cold", 0.0, None)
    await until(lambda: pool.stats()["active_bytes"] <= before + 10_000)
    assert (await pool.unload("slow")).state == "cold", "there is nothing to do"
    if isolation == "process":
        assert len(pool._host.pids()) == 1
    assert await said(pool, "tiny", max_tokens=2)


def noting(pool: LocalPool) -> list[ModelChanged]:
    """All that the pool hears of its models from now on."""
    heard: list[ModelChanged] = []
    hear = pool.model_changed

    def note(event: ModelChanged) -> None:
        heard.append(event)
        hear(event)

    pool.model_changed = note  # type: ignore[method-assign]
    return heard


async def test_a_load_tells_how_far_it_is(make_pool: MakePool) -> None:
    pool = await make_pool(constants={"gateway.local.engine.models._SLICE_BYTES": 100_000})
    heard = noting(pool)
    loading = asyncio.create_task(pool.load("slow"))
    await until(lambda: heard)
    seen = await pool.find("slow")
    assert seen.state in ("loading", "ready")
    with pytest.raises(AttemptFailed) as caught:
        if seen.state == "loading":
            await pool.unload("slow")
        raise AttemptFailed(await refused(pool, "nobody"))
    assert caught.value.failure.code in ("model_in_use", "model_not_found")
    await loading
    assert [event.state for event in heard] == ["loading"] * (len(heard) - 1) + ["ready"]
    told = [event.progress for event in heard]
    assert told == sorted(told)
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert len(set(told)) > 8


async def test_a_stream_goes_on_step_by_step_while_another_model_loads(
    home: Any, new_pool: NewPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two slices of weights each stream has its step: a load stops nobody for longer. On a thread: in
    processes of their own they do not meet.
    """
    for name in ("_SLICE_BYTES", "_SMALL_SLICE_BYTES"):
        monkeypatch.setattr(f"gateway.local.engine.models.{name}", 50_000)
    pool = new_pool(home, "thread")
    await pool.start()
    try:
        reply, _ = await begin(pool)
        steps: list[int] = []
        heard = noting(pool)
        hear = pool.model_changed

        def note(event: ModelChanged) -> None:
            hear(event)
            steps.append(pool.stats()["steps"])

        pool.model_changed = note  # type: ignore[method-assign]
        await pool.load("thinker")
        assert len(heard) == len(steps) > 2
        assert steps[-1] - steps[0] >= len(steps) - 1
        await reply.aclose()
    finally:
        assert await pool.close(soon(10))


async def test_a_model_that_is_asked_for_while_it_goes_comes_back(make_pool: MakePool) -> None:
    pool = await make_pool()
    before = await said(pool, "tiny", max_tokens=8)
    going = asyncio.create_task(pool.unload("tiny"))
    await asyncio.sleep(0)
    again, gone = await asyncio.gather(said(pool, "tiny", max_tokens=8), going)
    assert again == before
    assert gone.name == "tiny"
    assert states(pool) == {"tiny": "ready"}
    assert pool.stats()["loads"] == 2


async def test_figures_are_told_while_others_stream(pool: LocalPool) -> None:
    """They were told only when the engine rested: what was kept meanwhile counted as models do."""
    reply, _ = await begin(pool)
    before = pool.stats()["prompt_cache_bytes"]
    await whole(pool, "slow", "figures " * 20, **{**LONG, "max_tokens": 2})
    await until(lambda: pool.stats()["prompt_cache_bytes"] > before)
    assert pool.stats()["models"]["slow"]["running"] == 1, "the stream still goes on"
    await reply.aclose()
