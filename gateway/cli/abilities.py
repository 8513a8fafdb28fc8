"""What a model can do, in one line: `gpt-3.5*: context=16385, vision=no`."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec


class AbilityView(msgspec.Struct):
    pattern: str = "*"
    context: int | None = None
    vision: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    prefill: bool | None = None
    responses: bool | None = None


_WORDS = tuple(name for name in AbilityView.__struct_fields__ if name != "pattern")
_SWITCH = {"yes": True, "no": False}
_EXPECTED = "expected [PATTERN:] context=TOKENS, " + ", ".join(
    f"{w}=yes|no" for w in _WORDS if w != "context"
)


class AbilityType(click.ParamType[dict[str, Any]]):
    """An ability as the operations take it; an empty text is {}."""

    name = "ability"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "'[PATTERN:] WORD=VALUE, ...'"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        # A model's name may hold colons itself; what is said after it holds none.
        pattern, colon, said = str(value).rpartition(":")
        if not said.strip() and not colon:
            return {}
        ability: dict[str, Any] = {"pattern": pattern.strip() if colon else "*"}
        if not ability["pattern"]:
            self.fail(f"there is no pattern before the colon; {_EXPECTED}", param, ctx)
        for part in said.split(","):
            word, _, text = (piece.strip() for piece in part.partition("="))
            if word not in _WORDS:
                self.fail(f"{part.strip()!r} is not understood; {_EXPECTED}", param, ctx)
            if word in ability:
                self.fail(f"{word} is said twice", param, ctx)
            known = _tokens(text) if word == "context" else _SWITCH.get(text.lower())
            if known is None:
                wanted = "a number of tokens" if word == "context" else "yes or no"
                self.fail(f"{word} must be {wanted}, not {text!r}", param, ctx)
            ability[word] = known
        return ability


def in_words(ability: AbilityView) -> str:
    """An ability as a person reads it, and as the option takes it."""
    known = [(word, getattr(ability, word)) for word in _WORDS]
    said = ", ".join(f"{word}={_word(value)}" for word, value in known if value is not None)
    return said if ability.pattern == "*" else f"{ability.pattern}: {said}"


def _tokens(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,9}", text) else None


def _word(value: bool | int) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
