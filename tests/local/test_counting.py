"""The tokens of a prompt, told without an answer: of no model the weights are read for that."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import Call, Framing
from gateway.errors import RequestError
from gateway.failover.outcome import Outcome
from gateway.local.counting import read_count
from gateway.local.paths import COUNT
from gateway.local.pool import LocalPool
from tests.local.asking import body_of, call, failure_of, raw_call, soon, whole
from tests.local.conftest import MakePool
from tests.local.models import make_model
from tests.local.test_demo import WEATHER

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONTEXT = 512  # of `tiny`


def counting(model: str, text: str = "hi", **fields: Any) -> Call:
    chat = call(model, text, **fields)
    assert chat.body is not None
    return raw_call(model, chat.body.data, path=COUNT)


async def count(pool: LocalPool, request: Call) -> int:
    reply = await pool.open(request, deadline=soon())
    assert (reply.status, reply.framing) == (200, Framing.WHOLE)
    told = await body_of(reply)
    await reply.aclose()
    assert list(told) == ["input_tokens"]
    return int(told["input_tokens"])


async def test_the_number_is_the_answers_own_and_no_model_is_loaded_for_it(
    make_pool: MakePool, tmp_path: Path, isolation: str
) -> None:
    make_model(tmp_path / "models" / "tiny", context=CONTEXT)
    fresh = await make_pool(tmp_path)
    request = counting("tiny", "how many \u00e9\u4e2d\U0001f600 are these?")
    told = await asyncio.gather(*(count(fresh, request) for _ in range(3)))
    stats = fresh.stats()
    assert (stats["loads"], stats["models_resident"]) == (0, 0)
    assert len(stats["worker_pids"]) == (1 if isolation == "process" else 0)
    answer = await whole(fresh, "tiny", "how many \u00e9\u4e2d\U0001f600 are these?", max_tokens=1)
    assert told == [answer["usage"]["prompt_tokens"]] * 3
    assert await count(fresh, request) == told[0], "the same when the model is there"


async def test_tools_count(pool: LocalPool) -> None:
    answer = await whole(pool, "demo", "What is the weather in Paris?", tools=[WEATHER], max_tokens=1)
    told = await count(pool, counting("demo", "What is the weather in Paris?", tools=[WEATHER]))
    assert told == answer["usage"]["prompt_tokens"]
    assert told > await count(pool, counting("demo", "What is the weather in Paris?"))


async def test_what_is_too_long_for_an_answer_is_counted_all_the_same(
    make_pool: MakePool, tmp_path: Path
) -> None:
    """Who counts wants to know how much too long it is. What no tokenizer could make fit is refused."""
    make_model(tmp_path / "models" / "tiny", context=CONTEXT)
    fresh = await make_pool(tmp_path)
    for _ in ("cold", "there"):
        one, many = (
            await count(fresh, counting("tiny", "x")),
            await count(fresh, counting("tiny", "x" * 5000)),
        )
        assert many == one + 4999
        failure = await failure_of(fresh, counting("tiny", "x" * 200_000))
        assert failure.outcome is Outcome.CONTEXT_TOO_LONG
        await fresh.load("tiny")


async def test_a_count_is_foreseen_to_take_no_load_and_no_time(make_pool: MakePool, tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "tiny", context=CONTEXT)
    fresh = await make_pool(tmp_path, memory_limit_gb=0.000001)
    request = counting("tiny")
    assert request.body is not None
    found = await fresh.forecast(COUNT, "tiny", request.body.data, limit_s=0.0)
    assert (found.failure, found.load_s, found.queue_s, found.ttft_s) == (None, 0.0, 0.0, 0.0)
    assert await count(fresh, request) > 0, "memory that a model would not fit into is no matter"
    long = counting("tiny", "x" * 200_000)
    assert long.body is not None
    found = await fresh.forecast(COUNT, "tiny", long.body.data)
    assert found.failure == await failure_of(fresh, long)


async def test_what_a_model_can_not_do_is_refused_as_for_an_answer(
    pool: LocalPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    await pool.load("base")
    for request in (counting("base"), counting("tiny", tools=[WEATHER]), counting("tiny", "raise")):
        assert request.body is not None
        failure = await failure_of(pool, request)
        answer = await failure_of(pool, raw_call(request.model, request.body.data))
        assert failure == answer
    assert (await pool.forecast(COUNT, "base", counting("base").body.data)).failure is not None  # type: ignore[union-attr]


async def test_an_engine_that_does_not_say_in_time_is_slow(pool: LocalPool) -> None:
    request = counting("tiny", "x" * 400)
    with pytest.raises(Exception, match="not counted in time") as raised:
        await pool.open(request, deadline=soon(-1.0))
    assert raised.value.failure.outcome is Outcome.SLOW  # type: ignore[attr-defined]
    assert await count(pool, request) > 0


async def test_a_count_has_no_stream() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    with pytest.raises(RequestError, match="one piece"):
        read_count(json.dumps(body).encode())
