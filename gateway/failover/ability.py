"""PURE: what a model of an upstream can do, as far as it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase

from gateway.failover.outcome import Failure, Outcome
from gateway.wire.needs import Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What is known of the models whose names match `pattern`; None is what nobody has said.

    `context` is in tokens, prompt and answer together. `vision`: it takes images; `tools`: it calls
    tools; `json`: it keeps answers to a JSON schema; `prefill`: it goes on from an assistant message
    that ends the conversation; `responses`: it has OpenAI's Responses API; `size`: so many bytes of a
    request are too long for it, a thing to be learnt rather than said.
    """

    pattern: str = "*"
    context: int | None = None
    vision: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    prefill: bool | None = None
    responses: bool | None = None
    size: int | None = None


_KNOWN = tuple(field.name for field in fields(Ability) if field.name != "pattern")


NOTHING = Ability()


def ability_of(model: str, abilities: Iterable[Ability]) -> Ability:
    """All that is said of `model`: where several say something, the first one does. It is `NOTHING` itself
    where nobody says anything.
    """
    found = NOTHING
    for each in abilities:
        if not fnmatchcase(model, each.pattern):
            continue
        news = {name: getattr(each, name) for name in _KNOWN if getattr(found, name) is None}
        found = replace(found, pattern=model, **news)
    return found


def lacks(needs: Needs, ability: Ability) -> Failure | None:
    """Why a target of this ability need not be asked; None where it should be, as where nothing is known.
    What a failure says of length is certain: the bound of the prompt is one that no tokenizer undercuts.
    """
    for wanted, able, words in (
        (needs.images, ability.vision, "does not take images"),
        (needs.tools, ability.tools, "does not call tools"),
        (needs.json, ability.json, "does not keep answers to a JSON schema"),
        (needs.prefill, ability.prefill, "does not go on from an assistant message"),
    ):
        if wanted and able is False:
            return Failure(outcome=Outcome.UNSUPPORTED, message=words, code="unsupported")
    wanted_tokens = needs.least_tokens + (needs.max_tokens or 0)
    if ability.context is not None and wanted_tokens > ability.context:
        asked = f" and {needs.max_tokens} for the answer" if needs.max_tokens else ""
        return _too_long(
            f"takes {ability.context} tokens; the prompt has at least {needs.least_tokens}{asked}"
        )
    if ability.size is not None and needs.size >= ability.size:
        return _too_long(f"found a request of {ability.size} bytes too long; this one has {needs.size}")
    return None


def _too_long(message: str) -> Failure:
    return Failure(outcome=Outcome.CONTEXT_TOO_LONG, message=message, code="context_length_exceeded")
