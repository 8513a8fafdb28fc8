"""Log probabilities of the tokens that came, and of those that might have."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gateway.local.pool import LocalPool
from tests.local.asking import PLAIN, chunks_of, completed, completion_call, soon, stream, whole
from tests.local.conftest import MARKERS
from tests.local.puppets import Strings

pytestmark = pytest.mark.asyncio(loop_scope="session")
NO_END = {"256": -100}


def raw(probs: list[dict[str, Any]]) -> bytes:
    """The bytes of all tokens, joined."""
    return b"".join(bytes(prob["bytes"]) for prob in probs)


def check(probs: list[dict[str, Any]], top: int) -> None:
    for prob in probs:
        assert prob["logprob"] <= 0
        assert prob["token"] == bytes(prob["bytes"]).decode("utf-8", "replace")
        values = [other["logprob"] for other in prob["top_logprobs"]]
        assert len(values) == top
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) < 1.001


async def test_bytes_of_all_tokens_are_the_text_streamed_and_whole(pool: LocalPool) -> None:
    fields: dict[str, Any] = {"max_tokens": 30, "logit_bias": PLAIN, "logprobs": True, "top_logprobs": 5}
    (choice,) = (await whole(pool, "tiny", "probs", **fields))["choices"]
    probs = choice["logprobs"]["content"]
    assert len(probs) == 30
    assert raw(probs) == choice["message"]["content"].encode()
    check(probs, 5)
    for prob in probs:  # greedy, but for the bias, which every token of this text has escaped
        assert prob["logprob"] in [other["logprob"] for other in prob["top_logprobs"]]
    chunks = await stream(pool, "tiny", "probs", **fields)
    told = [c["choices"][0]["logprobs"] for c in chunks]
    assert [prob for one in told if one for prob in one["content"]] == probs
    for chunk in chunks:  # each piece of text comes with the tokens that begin in it
        delta = chunk["choices"][0]["delta"]
        if delta.get("content"):
            assert raw(chunk["choices"][0]["logprobs"]["content"]).startswith(delta["content"].encode())


async def test_they_are_the_models_own_and_not_those_of_the_draw(pool: LocalPool) -> None:
    """Temperature and filters change what is drawn, not what is told of it."""
    fields: dict[str, Any] = {"max_tokens": 1, "logit_bias": NO_END, "logprobs": True, "top_logprobs": 20}
    first = (await whole(pool, "tiny", "own", **fields))["choices"][0]["logprobs"]["content"][0]
    hot = (await whole(pool, "tiny", "own", temperature=2, top_k=1, **fields))["choices"][0]
    assert hot["logprobs"]["content"][0]["top_logprobs"] == first["top_logprobs"]


async def test_without_top_only_the_token_itself_is_told(pool: LocalPool) -> None:
    body = await whole(pool, "tiny", max_tokens=3, logit_bias=PLAIN, logprobs=True)
    probs = body["choices"][0]["logprobs"]["content"]
    assert len(probs) == 3
    check(probs, 0)
    without = await whole(pool, "tiny", max_tokens=3, logit_bias=PLAIN)
    assert without["choices"][0]["logprobs"] is None


async def test_characters_of_several_tokens_have_the_bytes_of_each(pool: LocalPool, strings: Strings) -> None:
    strings.say("naïve 🙂")
    (choice,) = (await whole(pool, "tiny", max_tokens=50, logit_bias=PLAIN, logprobs=True))["choices"]
    assert choice["message"]["content"] == "naïve 🙂"
    probs = choice["logprobs"]["content"]
    assert raw(probs) == "naïve 🙂".encode()
    assert [len(prob["bytes"]) for prob in probs] == [1] * len("naïve 🙂".encode())
    chunks = await stream(pool, "tiny", max_tokens=50, logit_bias=PLAIN, logprobs=True)
    told = [c["choices"][0]["logprobs"] for c in chunks]
    assert raw([prob for one in told if one for prob in one["content"]]) == "naïve 🙂".encode()


async def test_only_tokens_of_the_content_are_told(pool: LocalPool, strings: Strings) -> None:
    """Reasoning, markers, blanks between and calls make no content."""
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    strings.say(f"<think>\nhm\n</think>\n\nyes {call}", MARKERS)
    tools = [{"type": "function", "function": {"name": "f"}}]
    fields: dict[str, Any] = {"max_tokens": 200, "logit_bias": PLAIN, "logprobs": True, "tools": tools}
    (choice,) = (await whole(pool, "thinker", **fields))["choices"]
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["tool_calls"]
    assert (
        raw(choice["logprobs"]["content"]).decode().strip() == choice["message"]["content"].strip() == "yes"
    )


async def test_a_stop_string_takes_its_tokens_with_it(pool: LocalPool, strings: Strings) -> None:
    strings.say("one two three")
    fields: dict[str, Any] = {"max_tokens": 50, "logit_bias": PLAIN, "logprobs": True, "stop": " tw"}
    (choice,) = (await whole(pool, "tiny", **fields))["choices"]
    assert choice["message"]["content"] == "one"
    assert raw(choice["logprobs"]["content"]) == b"one"


async def test_the_older_form_has_offsets_into_the_text(pool: LocalPool) -> None:
    fields: dict[str, Any] = {"max_tokens": 12, "logit_bias": PLAIN, "logprobs": 3}
    (choice,) = (await completed(pool, "tiny", "older", **fields))["choices"]
    probs = choice["logprobs"]
    assert "".join(probs["tokens"]) == choice["text"]
    assert probs["text_offset"] == list(range(12))
    assert all(len(top) == 3 for top in probs["top_logprobs"])
    reply = await pool.open(completion_call("tiny", "older", stream=True, **fields), deadline=soon())
    told = [c["choices"][0]["logprobs"] for c in await chunks_of(reply)]
    joined = {key: [item for one in told if one for item in one[key]] for key in probs}
    assert joined == probs


async def test_each_of_several_choices_has_its_own(pool: LocalPool) -> None:
    fields: dict[str, Any] = {"temperature": 1.5, "seed": 3, "max_tokens": 6, "logit_bias": PLAIN}
    body = await whole(pool, "tiny", n=3, logprobs=True, **fields)
    for choice in body["choices"]:
        assert raw(choice["logprobs"]["content"]) == choice["message"]["content"].encode()
    assert len({json.dumps(choice["logprobs"]) for choice in body["choices"]}) == 3
