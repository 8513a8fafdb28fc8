"""What was computed once is not computed again, and what is said does not depend on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.local.pool import LocalPool
from tests.local.asking import PLAIN, body_of, closing, completed, raw_call, soon, until
from tests.local.conftest import WINDOW, MakePool, NewPool

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ("lab/other", "sliding", "hybrid")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cold(home: Path, new_pool: NewPool) -> AsyncIterator[LocalPool]:
    """The same models, which keep nothing: what they say is the truth."""
    async with closing(new_pool(home, "thread", prompt_cache_gb=0)) as found:
        yield found


def words(subject: str, count: int) -> str:
    """A text that begins like no other."""
    return " ".join(f"{subject}{n * 7 % 31}" for n in range(count))


async def chat(
    pool: LocalPool, model: str, *messages: tuple[str, str], **fields: Any
) -> tuple[str, int, int]:
    """The text, the tokens of the prompt and those of them that were kept."""
    how = {"temperature": 0, "max_tokens": 24, "logit_bias": PLAIN, **fields}
    said = [{"role": role, "content": content} for role, content in messages]
    reply = await pool.open(raw_call(model, json.dumps({"messages": said, **how}).encode()), deadline=soon())
    body = await body_of(reply)
    usage = body["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return body["choices"][0]["message"]["content"], usage["prompt_tokens"], cached


@pytest.mark.parametrize("model", MODELS)
async def test_the_same_prompt_again(pool: LocalPool, cold: LocalPool, model: str) -> None:
    asked = ("user", words("again", 40))
    first, size, kept = await chat(pool, model, asked)
    assert kept == 0
    again, _, kept = await chat(pool, model, asked)
    assert size - len("<|assistant|>") <= kept < size
    assert again == first == (await chat(cold, model, asked))[0]


@pytest.mark.parametrize("model", MODELS)
async def test_a_conversation_goes_on(pool: LocalPool, cold: LocalPool, model: str) -> None:
    """Each prompt is the one before, what was said to it, and a bit more."""
    messages = [("user", words("talk", 30))]
    before = 0
    for turn in range(4):
        text, size, kept = await chat(pool, model, *messages)
        assert (text, size, 0) == await chat(cold, model, *messages)
        if turn:
            assert before <= kept < size
        before = size + len(text) - 1  # the last token that was said has not been read
        messages += [("assistant", text), ("user", f"and {turn}?")]


@pytest.mark.parametrize("model", MODELS)
async def test_one_beginning_and_many_ends(pool: LocalPool, cold: LocalPool, model: str) -> None:
    system = ("system", words("rules", 50))
    questions = [("user", f"{n}: what of it?") for n in range(4)]
    _, _, kept = await chat(pool, model, system, questions[0])
    assert kept == 0
    for question in questions[1:]:
        text, size, kept = await chat(pool, model, system, question)
        assert kept >= len(system[1])
        assert (text, size, 0) == await chat(cold, model, system, question)
    together = await asyncio.gather(*(chat(pool, model, system, q) for q in questions))
    assert [text for text, _, _ in together] == [(await chat(cold, model, system, q))[0] for q in questions]


@pytest.mark.parametrize("model", MODELS)
async def test_prompts_on_either_side_of_a_window(pool: LocalPool, cold: LocalPool, model: str) -> None:
    for size in (WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 127, 128, 129, 300):
        prompt = words(f"w{size}", 120)[:size]
        truth = await completed(cold, model, prompt, max_tokens=20, logit_bias=PLAIN)
        for _ in range(2):
            body = await completed(pool, model, prompt, max_tokens=20, logit_bias=PLAIN)
            assert body["choices"] == truth["choices"], size
        longer = prompt + truth["choices"][0]["text"] + " more"
        truth = await completed(cold, model, longer, max_tokens=20, logit_bias=PLAIN)
        body = await completed(pool, model, longer, max_tokens=20, logit_bias=PLAIN)
        assert body["choices"] == truth["choices"], size


async def test_what_is_drawn_does_not_depend_on_what_was_kept(pool: LocalPool, cold: LocalPool) -> None:
    """The seed alone and in a batch of eight, warm and cold."""
    asked = ("user", words("luck", 40))
    how: dict[str, Any] = {"temperature": 1.2, "seed": 11}
    truth = (await chat(cold, "lab/other", asked, **how))[0]
    first = (await chat(pool, "lab/other", asked, **how))[0]
    warm, _, kept = await chat(pool, "lab/other", asked, **how)
    assert kept > 0
    batch = await asyncio.gather(
        chat(pool, "lab/other", asked, **how),
        *(chat(pool, "lab/other", ("user", f"{n}"), temperature=1.2, seed=n) for n in range(7)),
    )
    assert truth == first == warm == batch[0][0]


async def test_kept_prompts_count_and_go_with_their_model(make_pool: MakePool) -> None:
    pool = await make_pool()
    await chat(pool, "tiny", ("user", words("gone", 40)))
    await until(lambda: pool.stats()["prompt_cache_bytes"])
    assert pool.stats()["cached_tokens"] == 0
    await chat(pool, "tiny", ("user", words("gone", 40)))
    assert pool.stats()["cached_tokens"] > 100
    await pool.unload("tiny")
    _, _, kept = await chat(pool, "tiny", ("user", words("gone", 40)))
    assert kept == 0


async def test_a_pool_that_keeps_nothing(cold: LocalPool) -> None:
    for _ in range(2):
        assert (await chat(cold, "tiny", ("user", words("nothing", 40))))[2] == 0
    assert cold.stats()["prompt_cache_bytes"] == 0


async def test_sixty_four_at_once_with_hardly_any_room_for_prompts(
    make_pool: MakePool, cold: LocalPool
) -> None:
    """Entries come and go while others are read: every answer is right all the same."""
    pool = await make_pool(prompt_cache_gb=0.00005, max_queue=64)  # 50 kB: a prompt or two
    asked = [("user", words("many", 20) + f" {n % 16} " + words("x", n)) for n in range(64)]
    answers = await asyncio.gather(
        *(chat(pool, "lab/other", one, max_tokens=4 + n % 9) for n, one in enumerate(asked))
    )
    await until(lambda: pool.stats()["engine"] == "idle")
    assert pool.stats()["prompt_cache_bytes"] <= 50_000
    for n in range(0, 64, 9):
        assert answers[n][0] == (await chat(cold, "lab/other", asked[n], max_tokens=4 + n % 9))[0]
    assert pool.stats()["rebuilds"] == 0


async def test_prompts_survive_a_restart_where_there_is_a_disk_for_them(
    tmp_path: Path, home: Path, make_pool: MakePool
) -> None:
    (tmp_path / "models").symlink_to(home / "models")
    asked = ("user", words("disk", 60))
    first = await make_pool(tmp_path, prompt_cache_disk_gb=0.1)
    text, size, kept = await chat(first, "tiny", asked)
    assert kept == 0
    assert await first.close(soon(10))
    again = await make_pool(tmp_path, prompt_cache_disk_gb=0.1)
    warm, _, kept = await chat(again, "tiny", asked)
    assert (warm, kept) == (text, size - 1)
