"""What mlx-lm can't do in a batch, one at a time: a draft model, and quantised keys and values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import (
    PLAIN,
    body_of,
    call,
    closing,
    completed,
    refused,
    rest,
    said,
    soon,
    stream,
    text_of,
    until,
    whole,
)
from tests.local.conftest import GetPool, MakePool, NewPool, lazily
from tests.local.models import make_model
from tests.local.puppets import Strings

pytestmark = pytest.mark.asyncio(loop_scope="session")
ALONE = ("wide", "lab/other")
NO_END = {"256": -100}
LONG: dict[str, Any] = {"max_tokens": 1500, "logit_bias": NO_END}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def singles(home: Path, new_pool: NewPool) -> AsyncIterator[GetPool]:
    """`wide` is quantised to 8 bits, and `base` drafts for `lab/other`."""
    new = partial(new_pool, home, kv_bits=("wide=8",), draft_models=("lab/other=base", "tiny=gone"))
    async with lazily(new) as get:
        yield get


@pytest_asyncio.fixture(loop_scope="session")
async def single(singles: GetPool, isolation: str) -> LocalPool:
    return await singles(isolation)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cold(home: Path, new_pool: NewPool) -> AsyncIterator[LocalPool]:
    """The same, but it keeps nothing."""
    async with closing(new_pool(home, "thread", kv_bits=("wide=8",), prompt_cache_gb=0)) as found:
        yield found


async def test_a_draft_model_changes_nothing_of_what_is_said(single: LocalPool, pools: GetPool) -> None:
    plain = await pools("thread")
    for text, size in (("short", 40), ("long " * 80, 40), ("one", 1)):
        # Without a bias: with one nothing is drafted.
        assert await said(single, "lab/other", text, max_tokens=size) == await said(
            plain, "lab/other", text, max_tokens=size
        )
        fields: dict[str, Any] = {"max_tokens": size, "logit_bias": PLAIN}
        assert await said(single, "lab/other", text, **fields) == await said(
            plain, "lab/other", text, **fields
        )


async def test_models_tell_that_they_run_one_at_a_time(single: LocalPool) -> None:
    wide, drafted, tiny = [await single.load(name) for name in ("wide", "lab/other", "tiny")]
    assert wide.facts is not None
    assert drafted.facts is not None
    assert tiny.facts is not None
    assert (wide.facts.batched, drafted.facts.batched, tiny.facts.batched) == (False, False, True)
    assert wide.facts.cache == "KVCache (8 bits)"
    assert (wide.folder.kv_bits, Path(drafted.folder.draft).name, tiny.folder.draft) == (8, "base", "")


@pytest.mark.parametrize("model", ALONE)
async def test_one_after_the_other_in_the_order_they_came(single: LocalPool, model: str) -> None:
    alone = [await said(single, model, f"{n}", max_tokens=12, logit_bias=NO_END) for n in range(3)]
    reply = await single.open(call(model, stream=True, **LONG), deadline=soon())
    tasks = [
        asyncio.create_task(said(single, model, f"{n}", max_tokens=12, logit_bias=NO_END)) for n in range(3)
    ]
    await until(lambda: single.outlook(model)["queue"] == 3)
    assert single.stats()["models"][model]["running"] == 1
    assert not any(task.done() for task in tasks)
    await reply.aclose()
    assert await asyncio.gather(*tasks) == alone
    assert single.outlook(model)["queue"] == 0


@pytest.mark.parametrize("model", ALONE)
async def test_streams_choices_stops_and_probabilities_as_in_a_batch(single: LocalPool, model: str) -> None:
    fields: dict[str, Any] = {"max_tokens": 20, "logit_bias": PLAIN}
    text = await said(single, model, "same", **fields)
    assert text_of(await stream(single, model, "same", **fields)) == text
    body = await whole(single, model, "same", n=2, logprobs=True, **fields)
    assert [choice["message"]["content"] for choice in body["choices"]] == [text, text]
    probs = body["choices"][1]["logprobs"]["content"]
    assert b"".join(bytes(prob["bytes"]) for prob in probs) == text.encode()
    stopped = await whole(single, model, "same", stop=text[4:7], **fields)
    assert stopped["choices"][0]["message"]["content"] == text[: text.index(text[4:7])]
    seeded = [await said(single, model, "dice", temperature=1.5, seed=3, **fields) for _ in range(2)]
    assert seeded[0] == seeded[1] != text
    assert (await whole(single, model, logit_bias={"256": 100}))["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("model", ALONE)
async def test_an_answer_that_was_lost_goes_on(single: LocalPool, model: str) -> None:
    for fields in ({}, {"logit_bias": PLAIN, "frequency_penalty": 0.5}):  # with a draft, and without
        request = call(model, "lost", max_tokens=24, stop="never", **fields)
        reply = await single.open(replace(request, keep=True), deadline=soon())
        (choice,) = (body := await body_of(reply))["choices"]
        assert reply.trail is not None
        for size in {1, len(reply.trail) // 2, len(reply.trail)} - {0}:
            again = replace(request, resume=reply.trail[:size])
            found = await body_of(await single.open(again, deadline=soon()))
            assert found["choices"] == [choice], size
            assert found["usage"]["completion_tokens"] == body["usage"]["completion_tokens"]


async def test_a_quantised_prompt_is_kept_too(single: LocalPool, cold: LocalPool) -> None:
    """It was looked for and never kept; and what a warm prompt came to was not what a cold one did, since keys
    were quantised only at the end of each piece of a prompt.
    """

    async def ask(pool: LocalPool, prompt: str, size: int = 20) -> tuple[str, int]:
        body = await completed(pool, "wide", prompt, max_tokens=size, logit_bias=PLAIN)
        return body["choices"][0]["text"], body["usage"]["prompt_tokens_details"]["cached_tokens"]

    prompt = " ".join(f"kept{n}" for n in range(40))
    text, kept = await ask(single, prompt)
    assert (text, kept) == (await ask(cold, prompt))
    assert kept == 0
    assert await ask(single, prompt) == (text, len(prompt) - 1)
    longer, kept = await ask(single, prompt + text + " and so on")
    assert longer == (await ask(cold, prompt + text + " and so on"))[0]
    assert kept == len(prompt + text)
    other, kept = await ask(single, prompt[:150] + "otherwise")
    assert other == (await ask(cold, prompt[:150] + "otherwise"))[0]
    assert kept == 150
    three = "for three " * 5
    body = await completed(single, "wide", three, n=3, max_tokens=4, logit_bias=PLAIN)
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 2 * (len(three) - 1)


@pytest.mark.parametrize("model", ALONE)
async def test_a_long_prompt_is_left_between_its_pieces(single: LocalPool, model: str) -> None:
    before = single.stats()
    reply = await single.open(call(model, "y" * 1900, stream=True), deadline=soon())
    await reply.aclose()
    await until(lambda: single.stats()["cancelled"] == before["cancelled"] + 1)
    await until(lambda: single.stats()["engine"] == "idle")
    assert single.stats()["completion_tokens"] - before["completion_tokens"] < 64
    assert await said(single, model, max_tokens=2)


@pytest.mark.usefixtures("quiet")
async def test_an_answer_that_fails_starts_over_once_or_ends(single: LocalPool, strings: Strings) -> None:
    text = await said(single, "wide", "over", max_tokens=6, logit_bias=NO_END)
    rebuilds = single.stats()["rebuilds"]
    strings.act("raise", times=1)
    assert await said(single, "wide", "over", max_tokens=6, logit_bias=NO_END) == text
    assert single.stats()["rebuilds"] == rebuilds + 1
    strings.act("raise")
    assert (await refused(single, "wide", "over")).outcome is Outcome.LOCAL_FAULT
    strings.rest()
    reply = await single.open(call("wide", stream=True, **LONG), deadline=soon())
    chunks = reply.chunks()
    await anext(chunks)
    await anext(chunks)
    strings.act("raise", times=1)
    with pytest.raises(AttemptFailed):
        await rest(chunks)
    assert await said(single, "wide", "over", max_tokens=6, logit_bias=NO_END) == text


@pytest.mark.usefixtures("quiet")
async def test_a_draft_of_another_vocabulary_or_keys_that_are_too_narrow_are_no_model(
    tmp_path: Path, make_pool: MakePool
) -> None:
    make_model(tmp_path / "models" / "big")
    make_model(tmp_path / "models" / "odd", extra_tokens=("<x>",))
    make_model(tmp_path / "models" / "narrow")
    pool = await make_pool(tmp_path, draft_models=("big=odd",), kv_bits=("narrow=4",))
    for name in ("big", "narrow"):
        assert (await refused(pool, name)).code == "model_load_failed"
