"""PURE: the fields that chats and completions share; every field is honoured or refused by name.

A field of the wrong type or range is a `RequestError`; a field that is right but that this engine
can't honour is `Unsupported`, so that a rule with a further target moves on. `null` means that
nothing was asked; 0 and "" are values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.errors import RequestError
from gateway.local.fields import Unsupported, array, flag, integer, number, table, text, wrong
from gateway.local.request import Count, Embed, Generate, Sampling

MAX_STOPS = 16
MAX_CHOICES = 128

Reader = Callable[[str, Any], dict[str, Any]]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request: the work for the engine, and in which form its result is wanted."""

    work: Generate | Embed | Count
    stream: bool = False
    include_usage: bool = False
    base64: bool = False  # of an embedding's numbers


def read_object(body: bytes) -> dict[str, Any]:
    """The fields of a body that were asked for."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(raw, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    return {name: value for name, value in raw.items() if value is not None}


def required(asked: dict[str, Any], name: str, what: str) -> Any:
    """Take a field that must be there."""
    if name not in asked:
        raise RequestError(f"{name} is missing; {what}", code="missing_required_parameter", param=name)
    return asked.pop(name)


def read_fields(asked: dict[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Read all fields, those of sampling as one `Sampling`; an unknown one is refused by its name."""
    found: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    for name, value in asked.items():
        if name in WITHOUT_EFFECT:
            WITHOUT_EFFECT[name](name, value)
        elif name in _SAMPLING:
            sampling[name] = _SAMPLING[name](name, value)
        elif name in readers:
            found.update(readers[name](name, value))
        else:
            raise Unsupported(name, f"{name} is not a field that the local engine knows")
    limits = [found.pop(name) for name in ("max_tokens", "max_completion_tokens") if name in found]
    found["max_tokens"] = min(limits, default=None)  # an older and a newer name: both are kept to
    least = sampling.get("min_tokens", 0)
    if limits and least > found["max_tokens"]:
        raise RequestError(
            f"min_tokens is {least}, more than the longest answer that is asked for ({found['max_tokens']})",
            code="invalid_value",
            param="min_tokens",
        )
    return {**found, "sampling": Sampling(**sampling)}


def only(accepted: Callable[[Any], bool], kind: Callable[[str, Any], Any], sentence: str) -> Reader:
    """A reader of a field of which only the values without effect can be honoured."""

    def read(name: str, value: Any) -> dict[str, Any]:
        kind(name, value)
        if not accepted(value):
            raise Unsupported(name, f"{name}: {sentence}")
        return {}

    return read


def whole(low: int, high: int) -> Callable[[str, Any], int]:
    return lambda name, value: integer(name, value, low=low, high=high)


def _between(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda name, value: number(name, value, low=low, high=high)


def _model(name: str, value: Any) -> dict[str, Any]:
    text(name, value)
    return {}


def _flag(name: str, value: Any) -> dict[str, Any]:
    return {name: flag(name, value)}


def _stream_options(name: str, value: Any) -> dict[str, Any]:
    options = {key: item for key, item in table(name, value).items() if item is not None}
    found = flag(f"{name}.include_usage", options.pop("include_usage", False))
    options.pop("include_obfuscation", None)  # padding against traffic analysis of a cloud
    for key in options:
        raise Unsupported(f"{name}.{key}", f"{name}.{key} is not an option that the local engine knows")
    return {"include_usage": found}


def tokens_limit(name: str, value: Any) -> dict[str, Any]:
    return {name: integer(name, value, low=1)}


def _stop(name: str, value: Any) -> dict[str, Any]:
    stops = [value] if isinstance(value, str) else array(name, value)
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise wrong(name, "a string or a list of strings, none of them empty", value)
    if len(stops) > MAX_STOPS:
        raise RequestError(f"{name} takes at most {MAX_STOPS} strings, not {len(stops)}", param=name)
    return {"stop": tuple(dict.fromkeys(stops))}


def _choices(name: str, value: Any) -> dict[str, Any]:
    return {"n": integer(name, value, low=1, high=MAX_CHOICES)}


def _bias(name: str, value: Any) -> tuple[tuple[int, float], ...]:
    found = []
    for token, bias in table(name, value).items():
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            raise RequestError(f"{name}: {token[:64]!r} is not a token id", param=name)
        found.append((int(token), number(name, bias, low=-100, high=100)))
    return tuple(found)


# Read, understood, and without effect on the answer of a local model; of the right type all the same.
WITHOUT_EFFECT: Mapping[str, Callable[[str, Any], object]] = MappingProxyType(
    {
        "user": text,
        "metadata": table,
        "store": flag,
        "service_tier": text,
        "prompt_cache_key": text,
        "prompt_cache_retention": text,
        "safety_identifier": text,
        "prediction": table,
    }
)

_SAMPLING: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType(
    {
        "temperature": _between(0, 2),
        "top_p": _between(0, 1),
        "top_k": whole(0, 1_000_000),
        "min_p": _between(0, 1),
        "seed": whole(-(2**63), 2**63 - 1),
        "presence_penalty": _between(-2, 2),
        "frequency_penalty": _between(-2, 2),
        "repetition_penalty": _between(0.01, 10),
        "logit_bias": _bias,
        "min_tokens": whole(0, 1_000_000),
    }
)

COMMON: Mapping[str, Reader] = MappingProxyType(
    {
        "model": _model,
        "stream": _flag,
        "stream_options": _stream_options,
        "max_tokens": tokens_limit,
        "stop": _stop,
        "n": _choices,
    }
)
