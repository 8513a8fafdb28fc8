"""What would become of a call, told before it is made, and then made: both must say the same."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from gateway.backend import Call
from gateway.config import Local
from gateway.failover.outcome import Outcome
from gateway.local import outlook, reading, residents
from gateway.local.forecast import Forecast
from gateway.local.host import Host
from gateway.local.mailbox import ModelChanged
from gateway.local.pool import LocalPool
from gateway.local.speed import Speeds
from tests.local.asking import (
    begin,
    body_of,
    call,
    completion_call,
    embedding_call,
    failure_of,
    raw_call,
    soon,
)
from tests.local.conftest import MakePool
from tests.local.models import make_model
from tests.local.test_demo import WEATHER
from tests.local.test_residents import SIZE, A, B, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONTEXT = 512  # of `tiny`


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is just starting is waited for, however busy this machine is."""
    monkeypatch.setattr(outlook, "_COUNT_S", 60.0)


async def foreseen(pool: LocalPool, request: Call, **how: Any) -> Forecast:
    data = request.body.data if request.body is not None else b""
    return await pool.forecast(request.path, request.model, data, **how)


async def used(pool: LocalPool, request: Call) -> int:
    """The prompt's tokens as an answer tells them."""
    return int((await body_of(await pool.open(request, deadline=soon())))["usage"]["prompt_tokens"])


@pytest.mark.parametrize(
    "request_",
    [
        call("tiny", "how many \u00e9\u4e2d\U0001f600 are these?", max_tokens=1),
        call("demo", "What is the weather in Paris? " * 20, tools=[WEATHER], max_tokens=1),
        completion_call("tiny", ["one " * 40, "and a second " * 20], max_tokens=1),
        completion_call("tiny", [65, 66, 67], max_tokens=1),
        embedding_call("vec/last", ["one " * 1000, "two"]),
    ],
)
async def test_the_count_is_what_the_answer_says_it_was(pool: LocalPool, request_: Call) -> None:
    assert request_.model is not None
    await pool.load(request_.model)
    found = await foreseen(pool, request_)
    assert (found.failure, found.resident, found.load_s, found.exact) == (None, True, 0.0, True)
    assert found.prompt_tokens == await used(pool, request_)
    assert found.ttft_s > found.prefill_s > 0


async def test_a_prompt_is_known_to_fit_or_not_before_its_model_is_loaded(
    make_pool: MakePool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the tokenizer alone. Afterwards the longest that fits is answered, and one more is refused."""
    caplog.set_level(logging.CRITICAL)
    make_model(tmp_path / "models" / "tiny", context=CONTEXT)
    make_model(tmp_path / "models" / "mute", context=CONTEXT)
    (tmp_path / "models" / "mute" / "tokenizer.json").unlink()
    fresh = await make_pool(tmp_path)
    assert (await foreseen(fresh, call("tiny", "x"))).exact
    frame = (await foreseen(fresh, call("tiny", "x"))).prompt_tokens - 1
    fits = call("tiny", "x" * (CONTEXT - 1 - frame), max_tokens=9)
    over = call("tiny", "x" * (CONTEXT - frame), max_tokens=9)
    cold, refusal = await asyncio.gather(foreseen(fresh, fits), foreseen(fresh, over))
    assert (cold.failure, cold.prompt_tokens, cold.exact, cold.resident) == (None, CONTEXT - 1, True, False)
    assert 0 < cold.load_s < cold.ttft_s
    assert (cold.context, cold.max_tokens, cold.evicts) == (CONTEXT, 9, ())
    assert refusal.failure is not None
    assert refusal.failure.outcome is Outcome.CONTEXT_TOO_LONG
    assert refusal.prompt_tokens >= CONTEXT
    unknown = await foreseen(fresh, call("mute", "x"))
    assert (unknown.failure, unknown.exact) == (None, False), "what can't be counted is estimated"
    assert (fresh.stats()["loads"], fresh.stats()["models_resident"]) == (0, 0)
    assert await used(fresh, fits) == CONTEXT - 1
    assert await failure_of(fresh, over) == refusal.failure
    assert (await foreseen(fresh, over)).failure == refusal.failure
    broken = await failure_of(fresh, call("mute", "x"))
    assert (await foreseen(fresh, call("mute", "x"))).failure == broken


@pytest.mark.parametrize(
    "request_",
    [
        call("nowhere"),
        call(None),
        call("tiny", temperature=3),
        call("tiny", frobnicate=1),
        call("tiny", logit_bias={"99999": 1}),
        call("tiny", reasoning_effort="high"),
        call("tiny", tools=[WEATHER]),
        call("tiny", "raise"),
        call("tiny", "x" * 200_000),
        call("base"),
        completion_call("tiny", [65] * CONTEXT),
        completion_call("tiny", "x" * CONTEXT),
        embedding_call("tiny", "x"),
        raw_call("tiny", b"{}", path="/v1/responses"),
        raw_call("tiny", None),
        raw_call("tiny", b"{"),
    ],
)
async def test_what_would_be_refused_is_foreseen_word_for_word(pool: LocalPool, request_: Call) -> None:
    for name in ("tiny", "base"):
        await pool.load(name)
    found = await foreseen(pool, request_)
    assert found.failure == await failure_of(pool, request_)


async def test_a_pool_without_models_foresees_that(tmp_path: Path) -> None:
    off = LocalPool(Local(enabled=False), tmp_path)
    found = await foreseen(off, call("tiny"))
    assert found.failure is not None
    assert found.failure.outcome is Outcome.MODEL_MISSING
    assert off.outlook("tiny") == {}


async def test_nothing_is_counted_or_waited_for_where_nothing_hangs_on_it(pool: LocalPool) -> None:
    """A coroutine that ends at its first step has never given up its turn."""
    await pool.load("slow")
    request = call("slow", "x" * 300)
    assert request.body is not None
    running = pool.forecast(request.path, request.model, request.body.data)
    with pytest.raises(StopIteration) as done:
        running.send(None)
    found = done.value.value
    assert (found.failure, found.exact) == (None, False)
    assert 50 < found.prompt_tokens < 400
    assert (await foreseen(pool, request, limit_s=1000.0)).exact is False
    close = await foreseen(pool, request, limit_s=found.ttft_s)
    assert close.exact
    assert close.prompt_tokens == await used(pool, request)


async def test_an_engine_that_does_not_say_in_time_is_not_waited_for(
    pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "_COUNT_S", 0.0)
    found = await foreseen(pool, call("tiny", "x" * 400))
    assert (found.failure, found.exact) == (None, False)
    assert found.prompt_tokens > 0


async def test_a_body_is_read_once_for_the_forecast_and_its_call(
    pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def counting(path: str, body: bytes) -> Any:
        read.append(body)
        return real(path, body)

    real = reading.read_body
    monkeypatch.setattr(reading, "read_body", counting)
    request = call("tiny", "once", max_tokens=1)
    await foreseen(pool, request)
    await foreseen(pool, request)
    await used(pool, request)
    assert len(read) == 1
    await used(pool, request)
    assert len(read) == 2, "what was read is not kept beyond its call"


async def test_the_size_of_tokens_is_learnt_from_answers(pool: LocalPool) -> None:
    request = call("slow", "abc " * 100, max_tokens=1)
    for _ in range(12):
        tokens = await used(pool, request)
    found = await foreseen(pool, request)
    assert not found.exact
    assert found.prompt_tokens == pytest.approx(tokens, rel=0.15)


async def test_queue_and_memory_are_foreseen_as_they_are(
    make_pool: MakePool, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isolation == "process":
        pytest.skip("who is where and who waits is known on this side of the border")
    pool = await make_pool(memory_limit_gb=0.14, measure=lambda pid: 0, batch_size=1, max_queue=1)
    await pool.load("tiny")
    await pool.load("lab/other")
    assert (await foreseen(pool, call("slow"))).evicts == ("tiny",)
    assert pool.outlook("slow")["evicts"] == ["tiny"]
    assert {m.name for m in pool.models() if m.state == "ready"} == {"tiny", "lab/other"}
    reply, _ = await begin(pool)
    one = await foreseen(pool, call("slow"))
    assert (one.failure, one.queued, one.places, one.evicts) == (None, 0, 1, ())
    assert one.retry_after_s == pytest.approx(one.queue_s, abs=0.1)
    assert one.queue_s > 0
    second = asyncio.create_task(pool.open(call("slow", max_tokens=1), deadline=soon()))
    await asyncio.sleep(0)
    full = await foreseen(pool, call("slow"))
    refusal = await failure_of(pool, call("slow"))
    assert full.failure is not None
    assert (full.failure.code, full.failure.message) == (refusal.code, refusal.message)
    assert full.retry_after_s is not None
    assert full.retry_after_s >= 1.0
    third, _ = await begin_other(pool)
    waits = await foreseen(pool, completion_call("base", "x"))
    assert (waits.failure, waits.evicts) == (None, ())
    assert waits.queue_s > 0
    monkeypatch.setattr(residents, "_PATIENCE_S", 0.0)
    none = await foreseen(pool, completion_call("base", "x"))
    assert none.failure is not None
    assert (none.failure.code, none.failure.outcome) == ("memory_full", Outcome.OVERLOADED)
    assert none.retry_after_s is not None
    assert (await failure_of(pool, completion_call("base", "x"))).code == "memory_full"
    for open_ in (reply, third, await second):
        await open_.aclose()


async def begin_other(pool: LocalPool) -> tuple[Any, Any]:
    reply = await pool.open(
        call("lab/other", stream=True, max_tokens=2000, logit_bias={"256": -100}), deadline=soon()
    )
    chunks = reply.chunks()
    await anext(chunks)
    return reply, chunks


async def test_the_outlook_of_a_model_is_plain_json(pool: LocalPool) -> None:
    await pool.load("tiny")
    found = pool.outlook("tiny")
    assert json.loads(msgspec.json.encode(found)) == found
    assert (found["resident"], found["state"], found["context"]) == (True, "ready", CONTEXT)
    assert found["memory_free_bytes"] > 0
    assert pool.outlook("nowhere") == {}


@pytest.mark.parametrize("one_each", [False, True])
async def test_models_of_one_engine_are_loaded_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, one_each: bool
) -> None:
    place, speeds, now = Place(limit=9 * SIZE), Speeds(tmp_path / "speeds.json"), [100.0]
    clock = type("Clock", (), {"monotonic": lambda: now[0]})
    monkeypatch.setattr(residents, "time", clock)
    monkeypatch.setattr(outlook, "time", clock)
    for model, took_s in ((A, 4.0), (B, 10.0)):
        speeds.loaded(model.fingerprint, took_s)
    looks = outlook.Outlook(
        lambda: cast(Host, place.host),
        place.line,
        place.of,
        speeds,
        limit_bytes=place.limit,
        default_max_tokens=64,
        one_each=one_each,
    )
    assert looks.plain(A)["load_s"] == 4.0
    place.host.runs = False
    assert looks.plain(A)["load_s"] == 5.5
    place.host.runs = True
    place.of.claim(B)
    now[0] += 2.0
    place.of.changed(ModelChanged(B, "loading", progress=0.5))
    rest_s = 0.5 * 2.0 + 0.5 * 8.0
    told = looks.plain(B)
    assert (told["load_s"], told["retry_after_s"], told["state"]) == (rest_s, rest_s, "loading")
    assert looks.plain(A)["load_s"] == (4.0 if one_each else 4.0 + rest_s)
    assert looks.plain(A)["retry_after_s"] is None, "it is not on its way"
