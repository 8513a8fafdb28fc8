"""The pool as the relay sees it, with real MLX."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from gateway.backend import Framing
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import (
    PLAIN,
    body_of,
    call,
    failure_of,
    raw_call,
    refused,
    soon,
    stream,
    text_of,
    whole,
)
from tests.local.conftest import MakePool

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_stream_and_whole_say_the_same(pool: LocalPool) -> None:
    chunks = await stream(pool, "tiny", temperature=0, max_tokens=20)
    body = await whole(pool, "tiny", temperature=0, max_tokens=20)
    assert text_of(chunks) == body["choices"][0]["message"]["content"] != ""
    assert chunks[-1]["choices"][0]["finish_reason"] == body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 20
    assert body["model"] == chunks[0]["model"] == "tiny"
    assert len({c["id"] for c in chunks}) == 1
    assert chunks[0]["id"].startswith("chatcmpl-")


async def test_a_stream_begins_with_the_role_and_ends_with_finish_usage_done(pool: LocalPool) -> None:
    chunks = await stream(pool, "tiny", max_tokens=3, stream_options={"include_usage": True})
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "length",
    }
    assert chunks[-1]["choices"] == []
    usage = chunks[-1]["usage"]
    assert usage["completion_tokens"] == 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3
    assert all(c["usage"] is None for c in chunks[:-1])


async def test_replies_say_what_their_items_are(pool: LocalPool) -> None:
    for streamed, framing, kind in (
        (True, Framing.EVENTS, "text/event-stream"),
        (False, Framing.WHOLE, "application/json"),
    ):
        reply = await pool.open(call("tiny", stream=streamed, max_tokens=1), deadline=soon())
        assert (reply.status, reply.framing, reply.headers) == (200, framing, (("content-type", kind),))
        await reply.aclose()
        await reply.aclose()


async def test_eight_requests_share_steps(pool: LocalPool) -> None:
    """Eight answers of 40 tokens take about 40 steps in a batch, and 320 one after the other."""
    await whole(pool, "tiny", max_tokens=1)
    before = pool.stats()
    texts = [f"number {n}" for n in range(8)]
    together = await asyncio.gather(
        *(whole(pool, "tiny", t, max_tokens=40, temperature=0, logit_bias={"256": -100}) for t in texts)
    )
    steps = pool.stats()["steps"] - before["steps"]
    assert pool.stats()["completion_tokens"] - before["completion_tokens"] == 320
    assert steps < 100
    alone = [
        await whole(pool, "tiny", t, max_tokens=40, temperature=0, logit_bias={"256": -100}) for t in texts
    ]
    same = [
        a["choices"][0]["message"] == b["choices"][0]["message"] for a, b in zip(alone, together, strict=True)
    ]
    assert all(same)


async def test_two_models_are_resident_and_answer_at_once(pool: LocalPool) -> None:
    one, other = await asyncio.gather(
        whole(pool, "tiny", temperature=0, max_tokens=30),
        whole(pool, "lab/other", temperature=0, max_tokens=30),
    )
    assert one["choices"][0]["message"]["content"] != other["choices"][0]["message"]["content"]
    states = {m.name: m.state for m in pool.models()}
    assert states["tiny"] == states["lab/other"] == "ready"
    assert pool.knows("lab/other")
    assert not pool.knows("other")


async def test_zero_is_a_value(pool: LocalPool) -> None:
    """temperature 0 became 1.0 once, by `or 1.0` (D36): greedy answers are all the same."""
    for zero in ({"temperature": 0}, {"temperature": 0.0}, {"top_p": 0}, {"top_k": 1}):
        texts = {
            (await whole(pool, "tiny", max_tokens=24, **zero))["choices"][0]["message"]["content"]
            for _ in range(4)
        }
        assert len(texts) == 1, zero


async def test_sampling_without_a_seed_varies_and_with_one_repeats_even_in_a_batch(pool: LocalPool) -> None:
    async def content(**fields: Any) -> str:
        body = await whole(pool, "tiny", max_tokens=24, temperature=1.5, **fields)
        return str(body["choices"][0]["message"]["content"])

    assert len({await content() for _ in range(4)}) > 1
    alone = await content(seed=0)
    assert alone == await content(seed=0)
    batch = await asyncio.gather(content(), content(seed=0), content(seed=5), content(top_p=0.5), content())
    assert batch[1] == alone != batch[2]


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 5},
        {"top_k": 1_000_000},
        {"min_p": 0.2},
        {"min_p": 1},
        {"top_p": 0.3, "top_k": 10, "min_p": 0.01},
        {"temperature": 0.00001},
        {"temperature": 2},
        {"presence_penalty": 2, "frequency_penalty": -2, "repetition_penalty": 1.3},
        {"logit_bias": {"0": 100}},
        {"seed": -1},
        {"seed": 2**63 - 1},
    ],
)
async def test_every_way_to_sample_gives_an_answer(pool: LocalPool, fields: dict[str, Any]) -> None:
    body = await whole(pool, "tiny", max_tokens=5, **fields)
    assert body["usage"]["completion_tokens"] >= 1
    assert pool.stats()["rebuilds"] == 0


async def test_a_bias_and_a_penalty_change_the_next_token(pool: LocalPool) -> None:
    biased = await whole(pool, "tiny", max_tokens=6, temperature=0, logit_bias={str(ord("A")): 100})
    assert biased["choices"][0]["message"]["content"] == "AAAAAA"
    tired = await whole(
        pool,
        "tiny",
        max_tokens=6,
        temperature=0,
        logit_bias={str(ord("A")): 10, str(ord("B")): 9},
        frequency_penalty=2,
    )
    assert tired["choices"][0]["message"]["content"] == "ABABAB"


async def test_stop_strings_cut_exactly_across_token_borders(pool: LocalPool) -> None:
    """mlx_lm.server matched token ids: the stop text vanished and the answer went on (mlx.md B.5)."""
    plain = (await whole(pool, "tiny", temperature=0, max_tokens=40))["choices"][0]["message"]["content"]
    for start, size in ((3, 4), (7, 1), (10, 6), (0, 2)):
        stop = plain[start : start + size]
        body = await whole(pool, "tiny", temperature=0, max_tokens=40, stop=[stop, "never there"])
        assert body["choices"][0]["message"]["content"] == plain[: plain.index(stop)]
        assert body["choices"][0]["finish_reason"] == "stop"
        chunks = await stream(pool, "tiny", temperature=0, max_tokens=40, stop=stop)
        assert text_of(chunks) == plain[: plain.index(stop)]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_text_that_only_began_like_a_stop_string_is_given_out_at_the_end(pool: LocalPool) -> None:
    plain = (await whole(pool, "tiny", temperature=0, max_tokens=12))["choices"][0]["message"]["content"]
    body = await whole(pool, "tiny", temperature=0, max_tokens=12, stop=plain[-3:] + "and no more")
    assert body["choices"][0]["message"]["content"] == plain
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_length_limits(pool: LocalPool, name: str) -> None:
    assert (await whole(pool, "tiny", **{name: 1}))["usage"]["completion_tokens"] == 1
    body = await whole(pool, "tiny", temperature=0, **{name: None})
    assert 1 <= body["usage"]["completion_tokens"] <= 64


async def test_a_prompt_that_fills_the_context_is_refused_and_one_below_gives_one_token(
    pool: LocalPool,
) -> None:
    frame = (await whole(pool, "tiny", "", max_tokens=1))["usage"]["prompt_tokens"]
    body = await whole(pool, "tiny", "x" * (512 - frame - 1), max_tokens=50, temperature=0)
    assert body["usage"]["total_tokens"] == 512
    assert body["choices"][0]["finish_reason"] in ("length", "stop")
    for size in (512 - frame, 5000, 200_000):
        failure = await refused(pool, "tiny", "x" * size)
        assert failure.outcome is Outcome.CONTEXT_TOO_LONG
        assert failure.code == "context_length_exceeded"
        assert "512" in failure.message


async def test_prompts_around_the_prefill_step(pool: LocalPool) -> None:
    for size in (1, 126, 127, 128, 129, 130, 256, 257):
        body = await whole(pool, "slow", "x" * size, max_tokens=2)
        assert body["usage"]["completion_tokens"] >= 1


async def test_a_template_that_refuses_the_messages_is_the_clients_fault(pool: LocalPool) -> None:
    failure = await refused(pool, "tiny", "raise")
    assert (failure.outcome, failure.status) == (Outcome.CLIENT_FAULT, 400)
    assert "roles must alternate" in failure.message
    assert "/usr" not in failure.message


async def test_an_assistant_message_at_the_end_is_gone_on_with(pool: LocalPool) -> None:
    """The whole of prefill and answer is what the model would have said in one go."""
    how = {"temperature": 0, "logit_bias": PLAIN}
    said = (await whole(pool, "tiny", max_tokens=10, **how))["choices"][0]["message"]["content"]
    head = said[:4]
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": head}]
    data = json.dumps({"messages": messages, "max_tokens": 6, **how}).encode()
    answer = await body_of(await pool.open(raw_call("tiny", data), deadline=soon()))
    assert head + answer["choices"][0]["message"]["content"] == said


@pytest.mark.parametrize(
    ("model", "fields", "outcome", "param"),
    [
        ("nowhere", {}, Outcome.MODEL_MISSING, "model"),
        ("../tiny", {}, Outcome.MODEL_MISSING, "model"),
        (None, {}, Outcome.CLIENT_FAULT, "model"),
        ("tiny", {"temperature": 3}, Outcome.CLIENT_FAULT, "temperature"),
        ("tiny", {"max_tokens": 0}, Outcome.CLIENT_FAULT, "max_tokens"),
        ("tiny", {"n": 129}, Outcome.CLIENT_FAULT, "n"),
        ("tiny", {"frobnicate": 1}, Outcome.UNSUPPORTED, "frobnicate"),
        ("tiny", {"logit_bias": {"99999": 1}}, Outcome.CLIENT_FAULT, "logit_bias"),
        ("tiny", {"reasoning_effort": "high"}, Outcome.UNSUPPORTED, "reasoning_effort"),
        (
            "tiny",
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            Outcome.UNSUPPORTED,
            "tools",
        ),
        ("base", {}, Outcome.UNSUPPORTED, "messages"),
    ],
)
async def test_refusals_name_the_field(
    pool: LocalPool, model: str | None, fields: dict[str, Any], outcome: Outcome, param: str
) -> None:
    failure = await refused(pool, model, **fields)
    assert (failure.outcome, failure.param) == (outcome, param)


async def test_nothing_blocks_the_event_loop(make_pool: MakePool) -> None:
    """From the first scan of the disk to the end: no file, no lock and no sleep on the loop's thread."""
    with blockbuster_ctx("gateway") as watch:
        # /proc is no file: the kernel writes it while it is read.
        watch.functions["io.TextIOWrapper.read"].can_block_in("local/memory.py", {"_linux", "_group_limits"})
        fresh = await make_pool()
        assert fresh.knows("tiny")
        for text in ("hi", "x" * 200_000):
            await fresh.forecast("/v1/chat/completions", "tiny", call("tiny", text).body.data, limit_s=1.0)
        await asyncio.gather(*(whole(fresh, "tiny", max_tokens=3) for _ in range(3)))
        await refused(fresh, "nobody")
        reply = await fresh.open(call("tiny", max_tokens=500), deadline=soon())
        await reply.aclose()
        fresh.rescan()
        assert fresh.models()
        fresh.stats()
        fresh.outlook("tiny")
        assert await fresh.close(soon(10))


@pytest.mark.parametrize(
    "request_",
    [
        raw_call("tiny", b"{}", path="/v1/responses"),
        raw_call("tiny", b"{}", path="/v1/embeddings/x"),
        raw_call("tiny", None),
    ],
)
async def test_other_paths_and_streamed_bodies_are_unsupported(pool: LocalPool, request_: Any) -> None:
    assert (await failure_of(pool, request_)).outcome is Outcome.UNSUPPORTED


async def test_a_big_body_that_is_wrong_is_refused_like_a_small_one(pool: LocalPool) -> None:
    failure = await refused(pool, "tiny", "x" * 200_000, top_p="much")
    assert (failure.outcome, failure.param) == (Outcome.CLIENT_FAULT, "top_p")
