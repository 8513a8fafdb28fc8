"""An answer whose engine was lost goes on, and comes to the same text as if nothing had happened.

The engine repeats itself exactly when a request is alone, so nothing runs beside these.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from gateway.backend import AttemptFailed, Call
from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from gateway.local.reply import LocalReply
from tests.local.asking import PLAIN, body_of, call, completion_call, failure_of, soon, until
from tests.local.conftest import MARKERS, GetPool, MakePool, NewPool, lazily
from tests.local.models import TOOL_TEMPLATE
from tests.local.puppets import Strings
from tests.scenarios.parrots import BEGIN, make_parrot

pytestmark = pytest.mark.asyncio(loop_scope="session")

NO_END = {"256": -100}
TREE = "\N{EVERGREEN TREE}".encode()
THOUGHTS = ["<think>", "so ", "it ", "is", "</think>", "\n\n", "gr", b"\xc3", b"\xbc", "n is ", "the "]
THOUGHTS += [TREE[:1], TREE[1:2], TREE[2:3], TREE[3:], " and", " the EN", "D of ", "it"]
TEXT = "grün is the \N{EVERGREEN TREE} and the END of it"
CALLS = ["I look. ", "<tool_call>", '{"name": "get_', 'weather", "argu', 'ments": {"city": ', '"Köln"}}']
CALLS += ["</tool_call>"]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def parrots(tmp_path_factory: pytest.TempPathFactory, new_pool: NewPool) -> AsyncIterator[GetPool]:
    """`thoughts` thinks, and then speaks of a tree; `caller` looks for the weather."""
    home = tmp_path_factory.mktemp("parrots")
    make_parrot(home / "models" / "thoughts", {BEGIN: THOUGHTS})
    make_parrot(home / "models" / "caller", {BEGIN: CALLS}, markers=MARKERS, template=TOOL_TEMPLATE)
    async with lazily(partial(new_pool, home)) as get:
        yield get


@pytest_asyncio.fixture(loop_scope="session")
async def parrot(parrots: GetPool, isolation: str) -> LocalPool:
    return await parrots(isolation)


def again(request: Call, resume: tuple[int, ...], *, keep: bool = False) -> Call:
    return dataclasses.replace(request, resume=resume, keep=keep)


async def kept(pool: LocalPool, request: Call) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The whole answer, and its tokens."""
    reply = await pool.open(again(request, (), keep=True), deadline=soon())
    body = await body_of(reply)
    assert reply.trail is not None
    return body, reply.trail


async def finished(pool: LocalPool, request: Call, resume: tuple[int, ...]) -> dict[str, Any]:
    return await body_of(await pool.open(again(request, resume), deadline=soon()))


def essence(body: dict[str, Any]) -> Any:
    """What must be the same in both; ids of calls are made up anew, and the cache may know more."""
    (choice,), usage = body["choices"], dict(body["usage"])
    usage.pop("prompt_tokens_details")
    choice = json.loads(json.dumps(choice))
    for made in choice.get("message", {}).get("tool_calls") or []:
        made.pop("id")
    return choice, usage


async def same_from(pool: LocalPool, request: Call, *, every: int = 1) -> tuple[dict[str, Any], int]:
    """Assert that it comes to the same from wherever it is resumed; the whole answer and its tokens."""
    body, trail = await kept(pool, request)
    for size in [*range(1, len(trail), every), len(trail)]:
        found = await finished(pool, request, trail[:size])
        assert essence(found) == essence(body), size
        cached, prompt = (
            found["usage"]["prompt_tokens_details"]["cached_tokens"],
            body["usage"]["prompt_tokens"],
        )
        assert 0 <= cached <= prompt
    return body, len(trail)


def pieces(chunk: bytes) -> tuple[str, str]:
    """The reasoning and the text of a chunk."""
    if chunk == b"[DONE]":
        return "", ""
    (choice,) = json.loads(chunk)["choices"]
    delta = choice["delta"]
    return delta.get("reasoning_content") or "", delta.get("content") or ""


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (None, TEXT),
        (" END of", "grün is the \N{EVERGREEN TREE} and the"),
        (["ENX", "END!"], TEXT),
        ("\n\n", ""),
        (" \N{EVERGREEN TREE}", "grün is the"),
    ],
)
async def test_from_every_token_it_comes_to_the_same(parrot: LocalPool, stop: Any, text: str) -> None:
    """Also in the middle of a character, of a marker's blanks, and of what may become a stop string."""
    body, tokens = await same_from(parrot, call("thoughts", stop=stop))
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("so it is", text)
    assert body["usage"]["completion_tokens"] >= tokens


@pytest.mark.parametrize("limit", [1, 6, 12, 13])
async def test_a_limit_counts_what_was_said_before(parrot: LocalPool, limit: int) -> None:
    body, _ = await same_from(parrot, call("thoughts", max_tokens=limit))
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == limit
    _, trail = await kept(parrot, call("thoughts"))
    assert essence(await finished(parrot, call("thoughts", max_tokens=limit), trail)) == essence(body)


async def test_what_had_ended_ends_at_once(parrot: LocalPool) -> None:
    """The end of the turn is a token, too, and nothing is computed behind it."""
    request = call("thoughts")
    body, trail = await kept(parrot, request)
    before = parrot.stats()["completion_tokens"]
    assert essence(await finished(parrot, request, (*trail, 256) if trail[-1] != 256 else trail)) == essence(
        body
    )
    assert parrot.stats()["completion_tokens"] == before


async def test_calls_of_tools_and_what_comes_before_them(parrots: GetPool) -> None:
    """Here a grammar watches the answer: it has to know what was said before."""
    parrot = await parrots("thread")
    request = call("caller", tools=TOOLS)
    body, trail = await kept(parrot, request)
    (made,) = body["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"city": "Köln"}
    assert trail, "the text before the call"
    for size in range(1, len(trail) + 1):
        assert essence(await finished(parrot, request, trail[:size])) == essence(body)


async def test_every_chunk_is_covered_and_the_first_one_says_all_again(parrot: LocalPool) -> None:
    request = call("thoughts", stream=True)
    reply = await parrot.open(again(request, (), keep=True), deadline=soon())
    seen: list[tuple[str, str, tuple[int, ...]]] = []
    thought = text = ""
    async for chunk in reply.chunks():
        more = pieces(chunk)
        thought, text = thought + more[0], text + more[1]
        assert reply.trail is not None
        seen.append((thought, text, reply.trail))
    for had_thought, had_text, trail in seen:
        if not trail:
            assert not had_thought + had_text
            continue
        second = await parrot.open(again(request, trail, keep=True), deadline=soon())
        chunks = second.chunks()
        assert second.trail is not None
        assert second.trail[: len(trail)] == trail
        burst = [pieces(await anext(chunks)) for _ in range(2 + bool(had_text))]
        assert "".join(part for part, _ in burst).startswith(had_thought)
        assert "".join(part for _, part in burst).startswith(had_text)
        rest = [pieces(chunk) async for chunk in chunks]
        assert "".join(part for part, _ in (*burst, *rest)) == thought
        assert "".join(part for _, part in (*burst, *rest)) == text
        assert second.trail == seen[-1][2]


HOW: list[dict[str, Any]] = [
    {"logit_bias": PLAIN},
    {},
    {"frequency_penalty": 1.5, "presence_penalty": 0.5, "logit_bias": PLAIN},
    {"repetition_penalty": 1.8, "logit_bias": NO_END},
    {"logit_bias": {"256": 100}, "min_tokens": 9},
    {"temperature": 1.3, "seed": 7, "top_p": 0.9, "logit_bias": NO_END},
    {"response_format": {"type": "json_object"}, "temperature": 1.0, "seed": 4},
]


@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(how) or "plain")
async def test_what_chooses_the_tokens_knows_those_before(pool: LocalPool, how: dict[str, Any]) -> None:
    await same_from(pool, call("lab/other", "resume", max_tokens=40, **how), every=5)


@pytest.mark.parametrize("model", ["sliding", "hybrid", "thinker"])
async def test_models_of_other_kinds(pool: LocalPool, model: str) -> None:
    request = call(model, "resume " * 20, max_tokens=60, logit_bias=NO_END, frequency_penalty=0.5)
    await same_from(pool, request, every=13)


async def test_a_text_goes_on_too(pool: LocalPool) -> None:
    await same_from(
        pool, completion_call("base", "resume", max_tokens=30, echo=True, logit_bias=NO_END), every=7
    )


async def test_what_was_kept_of_the_prompt_is_not_computed_again(pool: LocalPool) -> None:
    request = call("lab/other", "resume and keep " * 20, max_tokens=40, logit_bias=PLAIN)
    _, trail = await kept(pool, request)
    before = pool.stats()
    body = await finished(pool, request, trail[:20])
    prompt, after = body["usage"]["prompt_tokens"], pool.stats()
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt
    assert after["cached_tokens"] - before["cached_tokens"] == prompt + 19
    assert after["completion_tokens"] - before["completion_tokens"] == 20


async def test_what_is_kept_only_when_it_was_asked_for(pool: LocalPool) -> None:
    for fields, keep in (({}, False), ({"n": 2}, True)):
        request = again(call("lab/other", max_tokens=3, **fields), (), keep=keep)
        reply = await pool.open(request, deadline=soon())
        await body_of(reply)
        assert reply.trail is None


@pytest.mark.parametrize(
    ("fields", "resume", "param"),
    [
        ({"n": 2}, (65,), "n"),
        ({"logprobs": True}, (65,), "logprobs"),
        ({}, (65, 100_000), "model"),
        ({}, (-1,), "model"),
    ],
)
async def test_what_cannot_be_gone_on_with_is_unsupported(
    pool: LocalPool, fields: dict[str, Any], resume: tuple[int, ...], param: str
) -> None:
    failure = await failure_of(pool, again(call("lab/other", **fields), resume))
    assert (failure.outcome, failure.param) == (Outcome.UNSUPPORTED, param)


async def broken(reply: LocalReply) -> str:
    """The text of a stream until it breaks."""
    found = ""
    with pytest.raises(AttemptFailed) as caught:
        async for chunk in reply.chunks():
            found += pieces(chunk)[1]
    assert caught.value.failure.outcome is Outcome.LOCAL_FAULT
    return found


@pytest.mark.usefixtures("quiet")
async def test_an_engine_that_dies_in_the_midst_of_an_answer(
    make_pool: MakePool, strings: Strings, isolation: str
) -> None:
    """From the first letter to the last it is the text of one that lived, even if the next one dies, too."""
    deaths = 1 if isolation == "process" else 2  # a start of a process takes seconds
    pool = await make_pool()
    request = call("lab/other", "death", max_tokens=60, logit_bias=PLAIN, stream=True)
    unbroken = [pieces(chunk)[1] async for chunk in (await pool.open(request, deadline=soon())).chunks()]
    trail: tuple[int, ...] = ()
    for _ in range(deaths):
        strings.act("kill" if isolation == "process" else "die", skip=15, times=1)
        reply = await pool.open(again(request, trail, keep=True), deadline=soon())
        text = await broken(reply)
        assert reply.trail is not None
        assert len(reply.trail) > len(trail) + 5
        trail = reply.trail
        assert text == "".join(unbroken)[: len(text)]
        assert len(trail) >= len(text), "a letter is a token here"
        await until(lambda: pool.stats()["engine"] == "off")
    reply = await pool.open(again(request, trail, keep=True), deadline=soon())
    assert "".join([pieces(chunk)[1] async for chunk in reply.chunks()]) == "".join(unbroken)
    assert pool.stats()["engines_lost"] == deaths
