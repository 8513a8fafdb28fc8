"""Several answers to one request: n, several prompts, and prompts that are no chats."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import (
    chunks_of,
    completed,
    completion_call,
    failure_of,
    said,
    soon,
    stream,
    until,
    whole,
)
from tests.local.conftest import MARKERS, MakePool
from tests.local.puppets import Strings

pytestmark = pytest.mark.asyncio(loop_scope="session")
NO_END = {"256": -100}


def texts(body: dict[str, Any]) -> list[str]:
    assert [choice["index"] for choice in body["choices"]] == list(range(len(body["choices"])))
    return [choice["text"] for choice in body["choices"]]


async def test_n_answers_of_which_the_first_reads_the_prompt_for_all(pool: LocalPool) -> None:
    """The prompt is computed once: the others find it, all but its last token, in the prompt cache."""
    text = "n answers " * 12
    body = await whole(pool, "tiny", text, n=4, temperature=1.5, max_tokens=12, logit_bias=NO_END)
    said = [choice["message"]["content"] for choice in body["choices"]]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert len(set(said)) > 1
    usage = body["usage"]
    assert usage["completion_tokens"] == 48
    assert usage["prompt_tokens"] > 120, "of the one prompt"
    assert usage["prompt_tokens_details"]["cached_tokens"] == 3 * (usage["prompt_tokens"] - 1)


async def test_n_greedy_answers_are_the_same_as_one(pool: LocalPool) -> None:
    alone = await said(pool, "tiny", "greedy", max_tokens=16, logit_bias=NO_END)
    body = await whole(pool, "tiny", "greedy", n=3, max_tokens=16, logit_bias=NO_END)
    assert [choice["message"]["content"] for choice in body["choices"]] == [alone] * 3


async def test_a_seed_gives_each_choice_its_own_draw_again_and_again(pool: LocalPool) -> None:
    async def ask() -> list[str]:
        body = await whole(
            pool, "tiny", "dice", n=3, temperature=1.5, seed=7, max_tokens=16, logit_bias=NO_END
        )
        return [choice["message"]["content"] for choice in body["choices"]]

    first = await ask()
    assert len(set(first)) == 3
    assert await ask() == first
    alone = await said(pool, "tiny", "dice", temperature=1.5, seed=7, max_tokens=16, logit_bias=NO_END)
    assert alone == first[0]


async def test_choices_of_a_stream_come_mixed_and_end_each_for_itself(pool: LocalPool) -> None:
    chunks = await stream(
        pool,
        "tiny",
        "mixed",
        n=3,
        temperature=1.5,
        seed=1,
        max_tokens=10,
        logit_bias=NO_END,
        stream_options={"include_usage": True},
    )
    usage = chunks.pop()
    assert usage["usage"]["completion_tokens"] == 30
    openings = chunks[:3]
    assert [c["choices"][0]["index"] for c in openings] == [0, 1, 2]
    assert all(c["choices"][0]["delta"]["role"] == "assistant" for c in openings)
    ends = [c["choices"][0] for c in chunks if c["choices"][0]["finish_reason"]]
    assert sorted(end["index"] for end in ends) == [0, 1, 2]
    body = await whole(pool, "tiny", "mixed", n=3, temperature=1.5, seed=1, max_tokens=10, logit_bias=NO_END)
    for choice in body["choices"]:
        told = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        joined = "".join(c["delta"].get("content", "") for c in told)
        assert joined == choice["message"]["content"]


async def test_more_answers_than_places(make_pool: MakePool) -> None:
    pool = await make_pool(batch_size=2)
    body = await whole(pool, "tiny", n=5, temperature=1.5, max_tokens=6, logit_bias=NO_END)
    assert len(body["choices"]) == 5
    assert body["usage"]["completion_tokens"] == 30
    assert pool.stats()["models"]["tiny"] == {"state": "ready", "running": 0, "waiting": 0}


async def test_a_client_that_leaves_takes_all_its_choices_with_it(pool: LocalPool) -> None:
    before = pool.stats()
    reply = await pool.open(
        completion_call("slow", "many", n=4, max_tokens=2000, logit_bias=NO_END), deadline=soon()
    )
    await until(lambda: pool.stats()["completion_tokens"] > before["completion_tokens"] + 8)
    await reply.aclose()
    await until(lambda: pool.stats()["engine"] == "idle")
    assert pool.stats()["cancelled"] == before["cancelled"] + 1


# --- completions ----------------------------------------------------------------------------------


async def test_a_text_is_gone_on_with_as_it_is(pool: LocalPool) -> None:
    body = await completed(pool, "tiny", "Once upon", max_tokens=8, logit_bias=NO_END)
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["usage"]["prompt_tokens"] == len("Once upon"), "no template, a token a letter"
    (choice,) = body["choices"]
    assert choice == {"index": 0, "text": choice["text"], "logprobs": None, "finish_reason": "length"}
    assert (await completed(pool, "tiny", "x", logit_bias=NO_END))["usage"]["completion_tokens"] == 16


async def test_several_prompts_are_answered_in_their_order(pool: LocalPool) -> None:
    prompts = ["first", "second one", "third"]
    alone = [texts(await completed(pool, "tiny", p, max_tokens=12, logit_bias=NO_END))[0] for p in prompts]
    body = await completed(pool, "tiny", prompts, max_tokens=12, logit_bias=NO_END)
    assert texts(body) == alone
    assert body["usage"]["prompt_tokens"] == sum(map(len, prompts))
    twice = await completed(pool, "tiny", prompts, n=2, max_tokens=12, logit_bias=NO_END)
    assert texts(twice) == [text for text in alone for _ in range(2)]


async def test_token_ids_are_the_same_as_their_text(pool: LocalPool) -> None:
    tokens = list(b"some text")
    by_text = await completed(pool, "tiny", "some text", max_tokens=12, logit_bias=NO_END)
    by_tokens = await completed(pool, "tiny", tokens, max_tokens=12, logit_bias=NO_END)
    assert texts(by_tokens) == texts(by_text)
    both = await completed(pool, "tiny", [tokens, list(b"other")], max_tokens=12, logit_bias=NO_END)
    assert texts(both)[0] == texts(by_text)[0]


async def test_a_token_that_the_model_has_not_is_refused(pool: LocalPool) -> None:
    failure = await failure_of(pool, completion_call("tiny", [1, 99_999]))
    assert (failure.outcome, failure.param) == (Outcome.CLIENT_FAULT, "prompt")
    assert "99999" in failure.message


async def test_the_prompt_is_repeated_where_it_is_asked_for(pool: LocalPool) -> None:
    plain = texts(await completed(pool, "tiny", "echo me", max_tokens=6, logit_bias=NO_END))[0]
    for prompt in ("echo me", list(b"echo me")):
        body = await completed(pool, "tiny", prompt, echo=True, n=2, max_tokens=6, logit_bias=NO_END)
        assert texts(body) == ["echo me" + plain] * 2
    reply = await pool.open(
        completion_call("tiny", "echo me", echo=True, max_tokens=6, stream=True, logit_bias=NO_END),
        deadline=soon(),
    )
    chunks = await chunks_of(reply)
    assert "".join(c["choices"][0]["text"] for c in chunks) == "echo me" + plain
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_markers_in_a_completion_are_text(pool: LocalPool, strings: Strings) -> None:
    """What would be reasoning or a call in a chat is what the model wrote, here."""
    text = "<think>a</think> <tool_call>{}</tool_call>"
    strings.say(text, MARKERS)
    body = await completed(pool, "thinker", "x", max_tokens=60, logit_bias=NO_END)
    assert texts(body) == [text]


async def test_a_prompt_beyond_the_context_is_refused_in_the_words_of_its_field(pool: LocalPool) -> None:
    for prompt in ("x" * 600, [5] * 600, "x" * 100_000):
        failure = await failure_of(pool, completion_call("tiny", prompt))
        assert failure.outcome is Outcome.CONTEXT_TOO_LONG
        assert failure.param == "prompt"
        assert "512" in failure.message


async def test_stop_strings_and_limits_hold_for_completions(pool: LocalPool) -> None:
    plain = texts(await completed(pool, "tiny", "stop here", max_tokens=30, logit_bias=NO_END))[0]
    stop = plain[5:8]
    body = await completed(pool, "tiny", "stop here", max_tokens=30, logit_bias=NO_END, stop=stop)
    assert texts(body) == [plain[: plain.index(stop)]]
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_no_answer_ends_before_its_least_length(pool: LocalPool) -> None:
    """A model that wants to end at once, and a stop string that is everywhere."""
    eager = {"256": 100}
    assert (await whole(pool, "tiny", logit_bias=eager))["usage"]["completion_tokens"] == 1
    body = await whole(pool, "tiny", logit_bias=eager, min_tokens=7, max_tokens=20)
    assert body["usage"]["completion_tokens"] == 8, "and then its end"
    assert body["choices"][0]["finish_reason"] == "stop"
    a = {str(ord("A")): 100}
    stopped = await completed(pool, "tiny", "x", logit_bias=a, stop="A", min_tokens=3, max_tokens=20)
    assert texts(stopped) == ["AAA"]


async def test_many_requests_of_every_kind_at_once(pool: LocalPool) -> None:
    """What one gets alone it gets beside others."""
    asked: list[tuple[Any, dict[str, Any]]] = [
        ("a", {"max_tokens": 20}),
        (["b", "c"], {"n": 2, "max_tokens": 5}),
        ([1, 2, 3], {"logprobs": 2, "max_tokens": 9}),
        ("e" * 200, {"echo": True, "max_tokens": 3}),
        ("f", {"seed": 4, "temperature": 1, "max_tokens": 30}),
    ]

    async def ask(prompt: Any, fields: dict[str, Any]) -> list[str]:
        return texts(await completed(pool, "tiny", prompt, logit_bias=NO_END, **fields))

    alone = [await ask(*one) for one in asked]
    assert await asyncio.gather(*(ask(*one) for one in asked)) == alone
