"""How local models choose their words: seeds, filters, penalties, biases, and the probabilities they tell."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local.asking import PLAIN
from tests.local.models import make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import BEGIN, END, make_parrot
from tests.scenarios.talk import choice, content, joined, reason, refusal, stream, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "tiny")
        make_parrot(models / "flat", {}, otherwise={"a": 40, "b": 39})
        make_parrot(models / "even", {}, otherwise={"a": 20, "b": 20, "c": 20, "d": 20})
        make_parrot(models / "brief", {BEGIN: ["done"]})
        make_parrot(
            models / "cafe", {BEGIN: ["caf", b"\xc3", b"\xa9", b"\xf0", b"\x9f", b"\x98", b"\x80", "!"]}
        )

    return make


async def test_seed_gives_the_same_text_alone_and_beside_others(daemon: Daemon) -> None:
    """mlx_lm.server serves a seeded request alone; here it stays in the batch and must not notice."""
    fields = {"temperature": 1.1, "top_p": 0.9, "max_tokens": 40, "logit_bias": PLAIN}

    async def drawn(seed: int | None, said: str = "hello", limit: int = 40) -> str:
        return content(await whole(daemon, "tiny", said, seed=seed, **fields | {"max_tokens": limit}))

    alone = [await drawn(seed) for seed in (1, 2, 1)]
    assert alone[0] == alone[2] != alone[1]
    others = [drawn(seed, "something longer " * seed, 20 * seed) for seed in (3, 4, 5)]
    others += [drawn(None, "no seed") for _ in range(2)]
    together = await asyncio.gather(drawn(1), drawn(2), drawn(1), *others)
    assert list(together[:3]) == alone
    assert joined(await stream(daemon, "tiny", "hello", seed=1, **fields)) == alone[0]


async def test_without_a_seed_no_two_answers_are_alike(daemon: Daemon) -> None:
    fields = {"temperature": 1, "max_tokens": 30, "logit_bias": PLAIN}
    bodies = await asyncio.gather(*(whole(daemon, "tiny", "hello", **fields) for _ in range(4)))
    assert len({content(body) for body in bodies}) == 4


async def test_temperature_zero_is_greedy_whatever_the_seed(daemon: Daemon) -> None:
    said = [content(await whole(daemon, "tiny", "hello", seed=n, max_tokens=40)) for n in (0, 1, 2**62)]
    assert len(set(said)) == 1


@pytest.mark.parametrize(
    "fields", [{"top_k": 1}, {"top_p": 0.0001}, {"top_p": 0}, {"min_p": 1}, {"temperature": 0}], ids=str
)
async def test_narrowest_filters_leave_the_best_token(daemon: Daemon, fields: dict[str, Any]) -> None:
    common = {"max_tokens": 30, "logit_bias": PLAIN}
    greedy = content(await whole(daemon, "tiny", "hello", **common))
    assert content(await whole(daemon, "tiny", "hello", **{"temperature": 1.8} | common | fields)) == greedy


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"top_k": 4}, "abcd"),
        ({"min_p": 0.9}, "abcd"),
        ({"top_p": 0.99}, "abcd"),
        ({"top_k": 4, "logit_bias": {"97": -100}}, "bcd"),
        ({"min_p": 0.5, "logit_bias": {"97": 2, "98": 2}}, "ab"),
    ],
    ids=str,
)
async def test_filters_leave_all_they_should_and_no_more(
    daemon: Daemon, fields: dict[str, Any], allowed: str
) -> None:
    if "top_k" in fields:
        fields = {**fields, "top_k": len(allowed)}
    body = await whole(daemon, "even", "?", temperature=1, seed=11, max_tokens=80, **fields)
    assert set(content(body)) == set(allowed)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "aaaaaaaa"),
        ({"presence_penalty": 2}, "abaaaaaa"),
        ({"frequency_penalty": 2}, "abababab"),
        ({"frequency_penalty": 0.6}, "aabababa"),
        ({"repetition_penalty": 1.5}, "abaaaaaa"),
        ({"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1}, "aaaaaaaa"),
        ({"logit_bias": {"98": 2}}, "bbbbbbbb"),
        ({"logit_bias": {"98": -2}, "frequency_penalty": 2}, "aabababa"),
        ({"presence_penalty": -2, "logit_bias": {"98": 1.5}}, "bbbbbbbb"),
    ],
    ids=str,
)
async def test_penalties_count_what_the_answer_has_said(
    daemon: Daemon, fields: dict[str, Any], expected: str
) -> None:
    """On a model that gives a 40 and b 39, whatever came before, each step can be worked out by hand."""
    assert content(await whole(daemon, "flat", "?", max_tokens=8, **fields)) == expected


async def test_prompt_is_penalised_by_repetition_only(daemon: Daemon) -> None:
    for fields, expected in (
        ({"repetition_penalty": 1.5}, "ba"),
        ({"presence_penalty": 2}, "ab"),
        ({"frequency_penalty": 2}, "ab"),
    ):
        said = content(await whole(daemon, "flat", "a", max_tokens=2, **fields))
        assert said == expected, fields


async def test_bias_forces_and_forbids(daemon: Daemon) -> None:
    forced = await whole(daemon, "tiny", "hello", max_tokens=6, logit_bias={"120": 100})
    assert content(forced) == "xxxxxx"
    drawn = await whole(daemon, "tiny", "hello", max_tokens=6, logit_bias={"120": 100}, temperature=2)
    assert content(drawn) == "xxxxxx"
    free = content(await whole(daemon, "tiny", "hello", max_tokens=30, logit_bias=PLAIN))
    for letter in sorted(set(free))[:3]:
        other = await whole(
            daemon, "tiny", "hello", max_tokens=30, logit_bias=PLAIN | {str(ord(letter)): -100}
        )
        assert letter not in content(other)


async def test_answer_is_not_over_before_min_tokens(daemon: Daemon) -> None:
    assert content(await whole(daemon, "brief", "hello")) == "done"
    for least in (1, 6):
        body = await whole(daemon, "brief", "hello", min_tokens=least)
        assert body["usage"]["completion_tokens"] >= least
        assert content(body).startswith("done")
    cut = await whole(daemon, "brief", "hello", min_tokens=6, max_tokens=6)
    assert (choice(cut)["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 6)


def entries_of(body: dict[str, Any]) -> list[Entry]:
    logprobs = choice(body)["logprobs"]
    assert logprobs.get("refusal") is None
    found: list[Entry] = logprobs["content"]
    return found


def told(entries: list[Entry]) -> str:
    """The text that entries make together; asserts that each is as OpenAI has it."""
    for entry in entries:
        assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        for one in (entry, *entry["top_logprobs"]):
            assert isinstance(one["token"], str)
            assert -math.inf < one["logprob"] <= 0
            assert all(0 <= byte < 256 for byte in one["bytes"])
        values = [one["logprob"] for one in entry["top_logprobs"]]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1.001
        assert not [one for one in entry["top_logprobs"] if one.keys() != {"token", "logprob", "bytes"}]
    return bytes(byte for entry in entries for byte in entry["bytes"]).decode()


@pytest.mark.parametrize("top", [None, 0, 1, 5, 20])
async def test_log_probabilities_make_the_text(daemon: Daemon, top: int | None) -> None:
    fields = {"logprobs": True, "max_tokens": 12, "logit_bias": PLAIN}
    body = await whole(daemon, "tiny", "hello", top_logprobs=top, **fields)
    entries = entries_of(body)
    assert told(entries) == content(body) == "".join(entry["token"] for entry in entries)
    assert len(entries) == body["usage"]["completion_tokens"] == 12
    assert {len(entry["top_logprobs"]) for entry in entries} == {top or 0}
    assert content(await whole(daemon, "tiny", "hello", max_tokens=12, logit_bias=PLAIN)) == content(body)


@pytest.mark.parametrize("model", ["demo", "tiny"])
async def test_greedy_token_is_the_most_probable(daemon: Daemon, model: str) -> None:
    said = "Count to 5"
    entries = entries_of(await whole(daemon, model, said, logprobs=True, top_logprobs=3, max_tokens=8))
    for entry in entries:
        first = entry["top_logprobs"][0]
        assert (first["bytes"], first["logprob"]) == (entry["bytes"], pytest.approx(entry["logprob"]))


async def test_log_probabilities_are_right(daemon: Daemon) -> None:
    """Four tokens of the same logit and nothing else: each has a quarter, drawn or not."""
    body = await whole(daemon, "even", "?", logprobs=True, top_logprobs=4, max_tokens=5, temperature=1)
    for entry in entries_of(body):
        assert entry["logprob"] == pytest.approx(math.log(0.25), abs=1e-3)
        assert {one["token"] for one in entry["top_logprobs"]} == set("abcd")


async def test_torn_characters_keep_their_bytes(daemon: Daemon) -> None:
    body = await whole(daemon, "cafe", "hello", logprobs=True, top_logprobs=1)
    entries = entries_of(body)
    assert told(entries) == content(body) == "café😀!"
    assert [entry["bytes"] for entry in entries] == [
        [*b"caf"], [0xC3], [0xA9], [0xF0], [0x9F], [0x98], [0x80], [*b"!"]
    ]  # fmt: skip
    chunks = await stream(daemon, "cafe", "hello", logprobs=True, top_logprobs=1)
    assert told(streamed(chunks)) == joined(chunks) == "café😀!"


async def test_noise_has_one_entry_for_each_token(daemon: Daemon) -> None:
    """Bytes that make no character are told one by one, whenever their text comes, if it does."""
    fields = {"logprobs": True, "max_tokens": 40, "logit_bias": {"256": -100}, "temperature": 1, "seed": 8}
    body = await whole(daemon, "tiny", "hello", **fields)
    entries = entries_of(body)
    assert len(entries) == body["usage"]["completion_tokens"] == 40
    assert {len(entry["bytes"]) for entry in entries if not entry["token"].startswith("<|")} == {1}
    chunks = await stream(daemon, "tiny", "hello", **fields)
    assert [entry["bytes"] for entry in streamed(chunks)] == [entry["bytes"] for entry in entries]


def streamed(chunks: list[dict[str, Any]]) -> list[Entry]:
    found = [one.get("logprobs") for chunk in chunks for one in chunk["choices"]]
    return [entry for logprobs in found if logprobs for entry in logprobs["content"]]


async def test_log_probabilities_come_with_the_text_they_belong_to(daemon: Daemon) -> None:
    fields = {"logprobs": True, "top_logprobs": 2, "max_tokens": 10, "logit_bias": PLAIN}
    body = await whole(daemon, "tiny", "hello", **fields)
    chunks = await stream(daemon, "tiny", "hello", **fields)
    whole_text = [(entry["token"], pytest.approx(entry["logprob"], abs=1e-3)) for entry in entries_of(body)]
    assert [(entry["token"], entry["logprob"]) for entry in streamed(chunks)] == whole_text
    for chunk in chunks:
        (one,) = chunk["choices"]
        if text := one["delta"].get("content"):
            assert told(one["logprobs"]["content"]) == text
    assert reason(chunks) == "length"


async def test_nobody_gets_log_probabilities_unasked(daemon: Daemon) -> None:
    for fields in ({}, {"logprobs": False}, {"logprobs": None, "top_logprobs": None}):
        assert choice(await whole(daemon, "tiny", "hello", max_tokens=3, **fields))["logprobs"] is None
    for fields in ({"top_logprobs": 2}, {"top_logprobs": 2, "logprobs": False}):
        assert (await refusal(daemon, "tiny", "hello", **fields))["param"] in ("logprobs", "top_logprobs")
    for top in (-1, 21):
        assert (await refusal(daemon, "tiny", "hello", logprobs=True, top_logprobs=top))[
            "param"
        ] == "top_logprobs"


async def test_each_choice_has_its_own_log_probabilities(daemon: Daemon) -> None:
    fields = {"n": 3, "temperature": 1, "seed": 2, "logprobs": True, "max_tokens": 8, "logit_bias": PLAIN}
    body = await whole(daemon, "tiny", "hello", **fields)
    for one in body["choices"]:
        assert told(one["logprobs"]["content"]) == one["message"]["content"]


async def test_an_end_is_no_part_of_the_log_probabilities(daemon: Daemon) -> None:
    body = await whole(daemon, "brief", "hello", logprobs=True)
    assert [entry["token"] for entry in entries_of(body)] == ["done"]
    assert END not in str(body)
