"""What is known of a model of an upstream."""

from gateway.failover.ability import Ability, ability_of


def test_nothing_is_known_of_a_model_that_nobody_speaks_of() -> None:
    assert ability_of("gpt-4o", ()) == Ability(pattern="gpt-4o")


def test_the_first_that_says_something_counts_for_each_thing_alone() -> None:
    abilities = (
        Ability(pattern="gpt-3.5*", context=16385, vision=False),
        Ability(context=128_000, tools=True),
    )
    assert ability_of("gpt-3.5-turbo", abilities) == Ability(
        pattern="gpt-3.5-turbo", context=16385, vision=False, tools=True
    )
    assert ability_of("gpt-4o", abilities).context == 128_000
