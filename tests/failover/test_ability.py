"""What is known of a model of an upstream."""

import pytest

from gateway.failover.ability import NOTHING, Ability, ability_of, lacks
from gateway.failover.outcome import Outcome
from gateway.wire.needs import Needs


def test_nothing_is_known_of_a_model_that_nobody_speaks_of() -> None:
    assert ability_of("gpt-4o", ()) is NOTHING


def test_the_first_that_says_something_counts_for_each_thing_alone() -> None:
    abilities = (
        Ability(pattern="gpt-3.5*", context=16385, vision=False),
        Ability(context=128_000, tools=True),
    )
    assert ability_of("gpt-3.5-turbo", abilities) == Ability(
        pattern="gpt-3.5-turbo", context=16385, vision=False, tools=True
    )
    assert ability_of("gpt-4o", abilities).context == 128_000


@pytest.mark.parametrize(
    ("needs", "ability", "words"),
    [
        (Needs(images=True), Ability(vision=False), "does not take images"),
        (Needs(tools=True), Ability(tools=False), "does not call tools"),
        (Needs(json=True), Ability(json=False), "does not keep answers to a JSON schema"),
        (Needs(prefill=True), Ability(prefill=False), "does not go on from an assistant message"),
    ],
)
def test_a_target_that_cannot_is_passed_over(needs: Needs, ability: Ability, words: str) -> None:
    failure = lacks(needs, ability)
    assert failure is not None
    assert (failure.outcome, failure.message, failure.code) == (Outcome.UNSUPPORTED, words, "unsupported")
    assert lacks(needs, Ability()) is None
    assert lacks(needs, Ability(vision=True, tools=True, json=True, prefill=True)) is None
    assert lacks(Needs(), ability) is None


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs(least_tokens=8193), "takes 8192 tokens; the prompt has at least 8193"),
        (
            Needs(least_tokens=8192, max_tokens=1),
            "takes 8192 tokens; the prompt has at least 8192 and 1 for the answer",
        ),
        (Needs(size=5000), "found a request of 5000 bytes too long; this one has 5000"),
    ],
)
def test_a_target_whose_context_is_too_short_is_passed_over(needs: Needs, message: str) -> None:
    failure = lacks(needs, Ability(context=8192, size=5000))
    assert failure is not None
    assert (failure.outcome, failure.message) == (Outcome.CONTEXT_TOO_LONG, message)
    assert failure.code == "context_length_exceeded"


def test_what_just_fits_is_asked() -> None:
    ability = Ability(context=8192, size=5000)
    assert lacks(Needs(least_tokens=8000, max_tokens=192, size=4999), ability) is None
