"""What is reckoned of a call before it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.failover.outcome import Failure, Outcome
from gateway.local.forecast import (
    Forecast,
    Pace,
    certainly_too_long,
    lacking,
    load_s,
    matters,
    most_tokens,
    plain,
    refused,
    remaining_s,
    soon,
    with_tokens,
)
from gateway.local.request import Chat, Embed, Generate, Text, Tokens, Tooling
from tests.local.fakes import facts

PACE = Pace(prefill_tps=100.0, decode_tps=10.0)
TOO_LONG = Failure(outcome=Outcome.CONTEXT_TOO_LONG, message="x", code="context_length_exceeded")


def chat(content: str = "hi", **fields: Any) -> Generate:
    return Generate(prompts=(Chat(messages=[{"role": "user", "content": content}]),), **fields)


def test_the_first_token_comes_after_load_queue_prompt_and_a_step() -> None:
    found = with_tokens(Forecast(load_s=3.0, queue_s=2.0), PACE, 400, exact=True)
    assert (found.prompt_tokens, found.exact, found.prefill_s) == (400, True, 4.0)
    assert found.ttft_s == pytest.approx(9.1)


def test_what_was_measured_is_believed_and_the_rest_guessed_from_the_size() -> None:
    gib = 1 << 30
    assert Pace.of(gib, 50.0, 5.0, 3.0) == Pace(prefill_tps=50.0, decode_tps=5.0, bytes_per_token=3.0)
    small, large = Pace.of(gib, None, None, None), Pace.of(40 * gib, None, None, None)
    assert small.prefill_tps > large.prefill_tps >= 20.0
    assert small.decode_tps > large.decode_tps >= 1.0
    assert small.bytes_per_token == 4.0
    assert Pace.of(0, None, None, None) == Pace(prefill_tps=5000.0, decode_tps=200.0)


@pytest.mark.parametrize(
    ("limit", "doubtful"),
    [(None, False), (5.9, False), (6.1, True), (8.0, True), (11.9, True), (12.1, False)],
)
def test_tokens_are_counted_where_twice_or_half_as_many_would_decide(
    limit: float | None, doubtful: bool
) -> None:
    """4 s without the prompt, whose reading takes 4, perhaps 2 or 8."""
    pace = replace(PACE, decode_tps=1e9)
    found = with_tokens(Forecast(load_s=4.0), pace, 400, exact=False)
    assert matters(found, pace, limit) is doubtful
    assert not matters(replace(found, exact=True), pace, limit)


def test_a_load_takes_what_it_took_or_what_others_took_or_a_guess() -> None:
    size = 3_000_000_000
    assert load_s(size, 7.0, 1e9, running=True) == 7.0
    assert load_s(size, None, 1e9, running=True) == pytest.approx(3.5)
    assert load_s(size, None, None, running=True) == pytest.approx(2.5)
    assert load_s(size, 7.0, None, running=False) == pytest.approx(8.5)


def test_the_rest_of_a_load_goes_by_its_own_speed_the_further_it_is() -> None:
    assert remaining_s(10.0, 4.0, 0.0) == 6.0
    assert remaining_s(10.0, 40.0, 0.0) == 2.5, "it is overdue, but not over"
    assert remaining_s(10.0, 10.0, 0.5) == pytest.approx(0.5 * 10 + 0.5 * 2.5)
    assert remaining_s(10.0, 99.0, 1.0) == 0.0


@pytest.mark.parametrize(
    ("work", "most"),
    [
        (chat(), 100 + 4096 + 256),
        (chat(tooling=Tooling(tools=[{}])), 400 + 4096 + 256),
        (chat(tooling=Tooling(tools=[{}], choice="none")), 100 + 4096 + 256),
        (Generate(prompts=(Tokens([1] * 9), Tokens([1]))), 9),
        (Generate(prompts=(Tokens([1] * 9), Text("x"))), 100 + 256),
        (Embed(inputs=(Text("x"),)), 100 + 256),
        (Embed(inputs=(Tokens([1, 2]),)), 2),
    ],
)
def test_no_prompt_has_more_tokens_than_its_body_bytes(work: Generate | Embed, most: int) -> None:
    assert most_tokens(work, 100) == most


def test_a_template_that_was_read_adds_no_more_than_its_own_text() -> None:
    assert most_tokens(chat(), 100, 50) == 100 + 50 + 256


@pytest.mark.parametrize(
    ("work", "size"),
    [
        (Generate(prompts=(Tokens([1] * 9),)), None),
        (Generate(prompts=(Tokens([1] * 9), Tokens([1] * 10))), "10"),
        (Embed(inputs=(Tokens([1] * 10),)), None),
        (Embed(inputs=(Tokens([1] * 11),)), "11"),
        (Embed(inputs=(Text("x" * 5000),)), None),
        (Generate(prompts=(Text("x" * 5000),)), None),
        (chat("x" * 1280), None),
        (chat("x" * 1281), "more than 10"),
    ],
)
def test_what_is_too_long_without_a_doubt(work: Generate | Embed, size: str | None) -> None:
    """An answer needs room for a token, a vector does not."""
    found = certainly_too_long(work, 10)
    if size is None:
        assert found is None
    else:
        assert found is not None
        assert (found.outcome, found.status, found.code) == (Outcome.CONTEXT_TOO_LONG, 400, TOO_LONG.code)
        assert f"too long: {size} tokens > 10," in found.message
    assert certainly_too_long(work, 0) is None, "a model that does not say how much it holds"


def test_a_refusal_of_the_prompt_is_not_helped_by_waiting() -> None:
    queued = Forecast(retry_after_s=3.0, prompt_tokens=5, context=100)
    assert refused(queued, None) is queued
    found = refused(queued, TOO_LONG)
    assert (found.failure, found.retry_after_s, found.prompt_tokens) == (TOO_LONG, None, 100)
    other = refused(queued, replace(TOO_LONG, code="template_error"))
    assert other.prompt_tokens == 5


def test_what_a_model_in_memory_can_not_do_at_all() -> None:
    speaks, makes = facts(), msgspec.structs.replace(facts(), chat=False, embeddings=True)
    vector, text = Embed(inputs=(Text("x"),)), Generate(prompts=(Text("x"),))
    assert lacking(chat(), speaks, "m") is None
    assert lacking(text, makes, "m") is None
    assert lacking(vector, makes, "m") is None
    for work, param in ((chat(), "messages"), (vector, "model")):
        found = lacking(work, makes if work is not vector else speaks, "m")
        assert found is not None
        assert (found.outcome, found.status, found.param) == (Outcome.UNSUPPORTED, 400, param)


def test_the_soonest_of_what_is_waited_for() -> None:
    assert soon(0.0, 0.0) is None
    assert soon(0.0, 4.0, 2.0) == 2.0


def test_for_display_everything_is_plain() -> None:
    found = plain(Forecast(failure=TOO_LONG, evicts=("a",), queued=2), PACE, {"state": "cold"})
    assert found["failure"] == "x"
    assert found["evicts"] == ["a"]
    assert (found["queue"], found["prefill_tps"], found["state"]) == (2, 100.0, "cold")
    assert plain(Forecast(), PACE, {})["failure"] is None
    msgspec.json.encode(found)
