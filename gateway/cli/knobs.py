"""The knobs of a policy as options: one for each field of Policy, with what it means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_type_hints

import click

from gateway.failover.outcome import Outcome
from gateway.failover.policy import MOVABLE, Policy

F = TypeVar("F", bound=Callable[..., Any])

MEANINGS = {
    "first_token_s": "Longest wait for the first piece of the answer",
    "idle_s": "Longest silence inside a stream",
    "deadline_s": "Time for a request with all its attempts",
    "attempts": "Upstream calls per request in all",
    "retry_base_s": "First wait before the same target again; it doubles, with jitter",
    "max_wait_s": "Predicted wait for the local model above which it is skipped",
    "max_queue": "Waiting local requests above which it is skipped",
    "hedge_after_s": "Start the next target too when nothing has come by then; the first piece wins",
    "mid_stream": "When a stream breaks after its first piece: say so, or let another target continue",
    "stay_local": "Nothing of a request leaves this machine",
    "on": "Outcomes after which the next target is tried; `none` is never, `all` what the default is",
}
# What none means for the knobs that may be none.
_NONE = {"first_token_s": "60 s for a stream, deadline_s for a whole reply", "hedge_after_s": "never"}

KNOBS: tuple[Field[Any], ...] = tuple(item for item in fields(Policy) if item.name != "name")
_HINTS = get_type_hints(Policy)
_RESET = object()  # given on the command line, and meaning "as built in"


class _Reset(click.ParamType[Any]):
    """A knob's value, or the word that takes it back to its default."""

    none_resets = False

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "default" or (self.none_resets and value == "none"):
            return _RESET
        return self.read(value, param, ctx)

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        raise NotImplementedError


class _Number(_Reset):
    def __init__(self, kind: type[int | float], *, none_resets: bool) -> None:
        self.kind = kind
        self.none_resets = none_resets
        self.name = "N" if kind is int else "SECONDS"

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        try:
            number = self.kind(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{text!r} is no {'whole number' if self.kind is int else 'number'}", param, ctx)
        return number


class _Choice(_Reset):
    def __init__(self, kind: type[StrEnum]) -> None:
        self.kind = kind
        self.name = "|".join(kind)

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if text not in list(self.kind):
            self.fail(f"{text!r} is none of {', '.join(self.kind)}", param, ctx)
        return text


class _Outcomes(_Reset):
    name = "OUTCOME,..."

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        known = [str(outcome) for outcome in Outcome if outcome in MOVABLE]
        if text in ("none", "all"):
            return [] if text == "none" else _RESET
        names = [part.strip().replace("-", "_") for part in text.split(",") if part.strip()]
        for name in names:
            if name not in known:
                self.fail(f"{name!r} is no outcome; known: {', '.join(known)}", param, ctx)
        return names


def knob_options(function: F) -> F:
    """Give a verb an option for every knob; those not given are None."""
    for item in reversed(KNOBS):
        name = item.name.replace("_", "-")
        text = f"{MEANINGS[item.name]}. Default: {_default(item)}."
        kind = _type_of(item)
        if kind is None:
            add = click.option(f"--{name}/--no-{name}", item.name, default=None, help=text)
        else:
            add = click.option(f"--{name}", item.name, type=kind, metavar=kind.name, help=text)
        function = add(function)
    return function


def given(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that were given; None takes one back to its default."""
    return {name: None if value is _RESET else value for name, value in knobs.items() if value is not None}


def shown(item: Field[Any], value: Any) -> str:
    """A knob's value as a person reads it, and as the option takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if item.name == "on":
        return "all" if set(value) == set(MOVABLE) else ",".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def explained(item: Field[Any], value: Any) -> str:
    """The same, with what none means."""
    words = shown(item, value)
    return f"{words} ({_NONE[item.name]})" if value is None and item.name in _NONE else words


def differing(values: Mapping[str, Any]) -> str:
    """What of a policy is not the default, in one line."""
    found = [
        f"{item.name}={shown(item, values[item.name])}"
        for item in KNOBS
        if item.name in values and shown(item, values[item.name]) != shown(item, item.default)
    ]
    return "  ".join(found) or "all defaults"


def _default(item: Field[Any]) -> str:
    return explained(item, item.default)


def _type_of(item: Field[Any]) -> _Reset | None:
    """None for a switch."""
    hint = _HINTS[item.name]
    kind = next((part for part in get_args(hint) if part in (int, float)), hint)
    if kind in (int, float):
        return _Number(kind, none_resets=type(None) in get_args(hint))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _Choice(kind)
    return None if kind is bool else _Outcomes()
