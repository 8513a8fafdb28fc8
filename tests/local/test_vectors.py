"""Vectors of texts, through the pool."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from typing import Any

import pytest

from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import begin, completed, embedded, embedding_call, failure_of, rest, soon, until

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ("vec/last", "vec/mean")


def near(one: list[float], other: list[float]) -> bool:
    return one == pytest.approx(other, abs=1e-5)


def norm(vector: list[float]) -> float:
    return math.sqrt(sum(value * value for value in vector))


async def vectors(pool: LocalPool, model: str, inputs: Any, **fields: Any) -> list[list[float]]:
    body = await embedded(pool, model, inputs, **fields)
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    return [item["embedding"] for item in body["data"]]


@pytest.mark.parametrize("model", MODELS)
async def test_many_at_once_are_what_each_is_alone(pool: LocalPool, model: str) -> None:
    texts = [f"text {n} " * (1 + n * 7 % 9) for n in range(24)]
    alone = [(await vectors(pool, model, text))[0] for text in texts[:6]]
    together = await vectors(pool, model, texts)
    assert len(together) == 24
    assert all(near(one, other) for one, other in zip(alone, together, strict=False))
    assert not near(together[0], together[1])
    assert {len(vector) for vector in together} == {32}
    reversed_ = await vectors(pool, model, texts[::-1])
    assert all(near(one, other) for one, other in zip(together, reversed_[::-1], strict=True))


async def test_how_long_they_are_is_the_models_own_or_what_was_asked(pool: LocalPool) -> None:
    (mean,) = await vectors(pool, "vec/mean", "normal")
    (last,) = await vectors(pool, "vec/last", "normal")
    assert norm(mean) == pytest.approx(1, abs=1e-5)
    assert norm(last) != pytest.approx(1, abs=1e-2)
    for model, whole in (("vec/mean", mean), ("vec/last", last)):
        (short,) = await vectors(pool, model, "normal", dimensions=8)
        assert len(short) == 8
        assert near(short, [value / norm(whole[:8]) for value in whole[:8]])
    failure = await failure_of(pool, embedding_call("vec/mean", "x", dimensions=33))
    assert (failure.outcome, failure.param) == (Outcome.CLIENT_FAULT, "dimensions")
    assert "32" in failure.message


async def test_numbers_and_packed_bytes_are_the_same(pool: LocalPool) -> None:
    plain = await embedded(pool, "vec/mean", ["a", "b"])
    packed = await embedded(pool, "vec/mean", ["a", "b"], encoding_format="base64")
    for one, other in zip(plain["data"], packed["data"], strict=True):
        assert near(one["embedding"], list(struct.unpack("<32f", base64.b64decode(other["embedding"]))))
    assert plain["usage"] == packed["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert plain["model"] == "vec/mean"


async def test_token_ids_are_the_same_as_their_text(pool: LocalPool) -> None:
    by_text = await vectors(pool, "vec/last", ["some", "text"])
    by_tokens = await vectors(pool, "vec/last", [list(b"some"), list(b"text")])
    assert all(near(one, other) for one, other in zip(by_text, by_tokens, strict=True))


@pytest.mark.parametrize("model", MODELS)
async def test_a_long_input_between_short_ones(pool: LocalPool, model: str) -> None:
    """Beyond what is computed at once it goes in pieces; the last tokens of it count as the first do."""
    long = "long " * 410
    found = await vectors(pool, model, ["a", long, "b", long[:-1] + "!"])
    assert near(found[0], (await vectors(pool, model, "a"))[0])
    assert near(found[2], (await vectors(pool, model, "b"))[0])
    assert not near(found[1], found[3])


async def test_streams_of_others_go_on_beside_them(pool: LocalPool) -> None:
    _, chunks = await begin(pool, max_tokens=40)
    streaming = asyncio.create_task(rest(chunks))
    found = await asyncio.gather(*(vectors(pool, "vec/mean", [f"{n}", "x" * 2050]) for n in range(2)))
    assert near(found[0][1], found[1][1])
    assert (await streaming)[-1] == b"[DONE]"


async def test_who_leaves_is_not_computed_for(pool: LocalPool) -> None:
    before = pool.stats()["cancelled"]
    reply = await pool.open(embedding_call("vec/mean", ["x" * 4000] * 64), deadline=soon())
    await reply.aclose()
    await until(lambda: pool.stats()["cancelled"] == before + 1)
    await until(lambda: pool.stats()["engine"] == "idle")
    assert len(await vectors(pool, "vec/mean", "next")) == 1


@pytest.mark.parametrize(
    ("model", "inputs", "outcome", "param"),
    [
        ("tiny", "x", Outcome.UNSUPPORTED, "model"),
        ("vec/last", "x" * 5000, Outcome.CONTEXT_TOO_LONG, "input"),
        ("vec/last", ["a", "x" * 1_000_000], Outcome.CONTEXT_TOO_LONG, "input"),
        ("vec/last", [[99_999]], Outcome.CLIENT_FAULT, "input"),
    ],
)
async def test_refusals_name_the_field(
    pool: LocalPool, model: str, inputs: Any, outcome: Outcome, param: str
) -> None:
    failure = await failure_of(pool, embedding_call(model, inputs))
    assert (failure.outcome, failure.param) == (outcome, param)


async def test_a_model_of_vectors_answers_prompts_too_and_tells_that_it_makes_vectors(
    pool: LocalPool,
) -> None:
    body = await completed(pool, "vec/last", "x", max_tokens=3, logit_bias={"256": -100})
    assert body["usage"]["completion_tokens"] == 3
    facts = {name: (await pool.load(name)).facts for name in ("vec/last", "tiny")}
    assert facts["vec/last"] is not None
    assert facts["tiny"] is not None
    assert (facts["vec/last"].embeddings, facts["tiny"].embeddings) == (True, False)
