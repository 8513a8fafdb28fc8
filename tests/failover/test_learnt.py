"""What the refusals of a target teach, and for how long."""

from __future__ import annotations

import pytest

from gateway.failover.ability import Ability, lacks
from gateway.failover.learnt import CONTEXT_S, KEYS, UNABLE_S, Learnt
from gateway.failover.outcome import Failure, Outcome, classify
from gateway.wire.failure import WireError, read_error
from gateway.wire.needs import Needs

LONG = Needs(size=40_000, least_tokens=9000)


def refusal(message: str, status: int = 400, **said: str) -> Failure:
    return classify(status=status, error=WireError(message=message, **said), headers={}, now_wall=None)  # type: ignore[arg-type]


def taught(
    failure: Failure, needs: Needs = LONG, declared: Ability | None = None, later: float = 1.0
) -> Ability:
    learnt = Learnt()
    learnt.note("up", "m", failure, needs, 100.0)
    return learnt.ability("up", "m", declared or Ability(), 100.0 + later)


@pytest.mark.parametrize(
    ("message", "context"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            8192,
        ),
        ("This model's maximum context length is 16,385 tokens. However, you requested 17000 tokens.", 16385),
        ("prompt is too long: 215000 tokens > 200000 maximum", 200000),
        ("input length and `max_tokens` exceed context limit: 182831 + 64000 > 200000, decrease", 200000),
        ("`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 and 512", 4097),
        ("Prompt contains 40000 tokens, too large for model with 32768 maximum context length", 32768),
        ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 4096),
        ("request (1234 tokens) exceeds the available context size (1024 tokens), try increasing it", 1024),
        ("The model is loaded with context length of only 4096 tokens, which is not enough.", 4096),
        ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096),
        ("Requested tokens (516) exceed context window of 512", 512),
        ("Your request exceeded model token limit: 8192", 8192),
        ("the prompt exceeds the context size, n_ctx = 2048", 2048),
    ],
)
def test_a_refusal_that_names_a_number_teaches_the_context(message: str, context: int) -> None:
    failure = refusal(message)
    assert failure.outcome is Outcome.CONTEXT_TOO_LONG
    ability = taught(failure)
    assert (ability.context, ability.size) == (context, None)
    assert taught(failure, later=CONTEXT_S).context is None


def test_llama_cpp_tells_the_number_beside_its_sentence() -> None:
    body = (
        b'{"error":{"code":400,"message":"the request exceeds the available context size. try increasing it",'
        b'"type":"exceed_context_size_error","n_prompt_tokens":1407,"n_ctx":256}}'
    )
    failure = classify(status=400, error=read_error(body), headers={}, now_wall=None, body=body)
    assert taught(failure).context == 256


@pytest.mark.parametrize(
    "message",
    [
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "This model's maximum context length is 7 tokens",
    ],
)
def test_a_refusal_without_the_number_teaches_the_size(message: str) -> None:
    ability = taught(refusal(message))
    assert (ability.context, ability.size) == (None, 40_000)
    assert lacks(LONG, ability) is not None
    assert lacks(Needs(size=39_999), ability) is None
    assert taught(refusal(message), later=UNABLE_S) == Ability()


def test_the_smallest_request_that_was_too_long_counts() -> None:
    learnt = Learnt()
    failure = refusal("prompt is too long")
    for size, now in ((500, 0.0), (400, 10.0), (450, 20.0)):
        learnt.note("up", "m", failure, Needs(size=size), now)
    assert learnt.ability("up", "m", Ability(), 30.0).size == 400
    learnt.note("up", "m", failure, Needs(size=900), 2000.0)  # the others are forgotten by now
    assert learnt.ability("up", "m", Ability(), 2001.0).size == 900


@pytest.mark.parametrize(
    ("message", "needs", "name"),
    [
        ("this model does not support image input", Needs(images=True), "vision"),
        ("dolphin-mistral does not support tools", Needs(tools=True), "tools"),
        ("Structured outputs are not supported for this model", Needs(json=True), "json"),
        ("This model does not support assistant message prefill.", Needs(prefill=True), "prefill"),
    ],
)
def test_a_refusal_of_a_part_teaches_that_it_is_lacking(message: str, needs: Needs, name: str) -> None:
    failure = refusal(message)
    assert getattr(taught(failure, needs), name) is False
    assert lacks(needs, taught(failure, needs)) is not None
    assert taught(failure, needs, later=UNABLE_S) == Ability()
    # a request that had none of it: the sentence was about something else
    assert taught(failure, Needs()) == Ability()


def test_a_code_teaches_it_too() -> None:
    failure = refusal("Unsupported", code="unsupported_parameter", param="tools")
    assert taught(failure, Needs(tools=True)).tools is False


def test_what_is_declared_beats_what_was_learnt() -> None:
    declared = Ability(context=128_000, vision=True)
    assert taught(refusal("maximum context length is 8192 tokens"), declared=declared) == declared
    assert taught(refusal("prompt is too long"), declared=declared) == declared
    image = refusal("this model does not support image input")
    assert taught(image, Needs(images=True), declared) == declared


@pytest.mark.parametrize(
    "failure",
    [
        Failure(outcome=Outcome.CONTEXT_TOO_LONG, message="takes 8 tokens"),  # our own, of no attempt
        refusal("does not support images", 500),
        refusal("n must be 1"),
        refusal("rate limit", 429),
        Failure(outcome=Outcome.CONTEXT_TOO_LONG, message="prompt is too long", status=200),
    ],
)
def test_other_failures_teach_nothing(failure: Failure) -> None:
    assert taught(failure, Needs(images=True, size=10)) == Ability()


def test_each_model_of_each_backend_has_its_own() -> None:
    learnt = Learnt()
    learnt.note("up", "m", refusal("maximum context length is 8192 tokens"), LONG, 0.0)
    assert learnt.ability("up", "other", Ability(), 1.0) == Ability()
    assert learnt.ability("other", "m", Ability(), 1.0) == Ability()


def test_the_memory_is_bounded() -> None:
    learnt = Learnt()
    failure = refusal("maximum context length is 8192 tokens")
    for number in range(KEYS):
        learnt.note("up", str(number), failure, LONG, 0.0)
    learnt.note("up", "0", failure, LONG, 0.0)  # seen again, so that 1 is the oldest
    learnt.note("up", "new", failure, LONG, 0.0)
    known = [name for name in ("0", "1", "2", "new") if learnt.ability("up", name, Ability(), 1.0).context]
    assert known == ["0", "2", "new"]
