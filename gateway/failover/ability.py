"""PURE: what a model of an upstream can do, as far as it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What is known of the models whose names match `pattern`; None is what nobody has said.

    `context` is in tokens, prompt and answer together. `vision`: it takes images; `tools`: it calls
    tools; `json`: it keeps answers to a JSON schema; `prefill`: it goes on from an assistant message
    that ends the conversation.
    """

    pattern: str = "*"
    context: int | None = None
    vision: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    prefill: bool | None = None


_SAID = tuple(field.name for field in fields(Ability) if field.name != "pattern")


def ability_of(model: str, abilities: Iterable[Ability]) -> Ability:
    """All that is said of `model`: where several say something, the first one does."""
    found = Ability(pattern=model)
    for each in abilities:
        if not fnmatchcase(model, each.pattern):
            continue
        news = {name: getattr(each, name) for name in _SAID if getattr(found, name) is None}
        found = replace(found, **news)
    return found
