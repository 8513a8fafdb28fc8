"""Abilities: what may be said of an upstream's models, and how it stands in a row."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gateway.errors import RefusedError
from gateway.failover.ability import Ability
from gateway.store import shown

_MOST = 100
_LONGEST = 200
_CONTEXT = 2**31 - 1
_SWITCHES = ("vision", "tools", "json", "prefill", "responses")


def check(abilities: Sequence[Ability]) -> None:
    """RefusedError for one that nobody could have meant."""
    if len(abilities) > _MOST:
        raise RefusedError(f"an upstream may have {_MOST} abilities, not {len(abilities)}")
    for ability in abilities:
        name = f"ability {ability.pattern[:80]!r}"
        if not ability.pattern or not ability.pattern.isprintable() or len(ability.pattern) > _LONGEST:
            raise RefusedError(
                f"{name}: a pattern must be printable and have 1 to {_LONGEST} characters; * is all models"
            )
        if ability.context is not None and not 1 <= ability.context <= _CONTEXT:
            raise RefusedError(f"{name}: context must be 1 to {_CONTEXT} tokens, not {ability.context}")
        if ability == Ability(pattern=ability.pattern):
            raise RefusedError(
                f"{name} says nothing; expected at least one of context, {', '.join(_SWITCHES)}"
            )


def write(abilities: Sequence[Ability]) -> str:
    """The text of the column."""
    return json.dumps([shown.ability(ability) for ability in abilities])


def read(text: str) -> tuple[Ability, ...]:
    """What the text of the column says; ValueError or TypeError where it was written by hand and wrong."""
    said = json.loads(text)
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise TypeError("expected abilities as a JSON list of objects")
    return tuple(_ability(each) for each in said)


def _ability(said: dict[str, object]) -> Ability:
    pattern, context = said.get("pattern", "*"), said.get("context")
    if not isinstance(pattern, str):
        raise TypeError("expected the pattern of an ability as text")
    if context is not None and (not isinstance(context, int) or isinstance(context, bool) or context < 1):
        raise TypeError("expected the context of an ability as a number of tokens")
    return Ability(pattern=pattern, context=context, **{name: _switch(said, name) for name in _SWITCHES})


def _switch(said: dict[str, object], name: str) -> bool | None:
    value = said.get(name)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"expected {name} of an ability as true, false or null")
    return value
