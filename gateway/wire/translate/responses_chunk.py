"""PURE: what of a chat's chunk, or of its whole reply, a response is made of."""

from __future__ import annotations

import json
from typing import Any

import msgspec


class Function(msgspec.Struct, gc=False):
    name: object = None
    arguments: object = None


class Call(msgspec.Struct, gc=False):
    """A tool call, or a piece of one."""

    index: object = None
    id: object = None
    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    """A piece of the message, or all of it. Leaves take any type: odd ones are overlooked."""

    content: object = None
    reasoning_content: object = None
    reasoning: object = None  # the same elsewhere: Groq, OpenRouter, vLLM
    refusal: object = None
    tool_calls: list[Call] | None = None


class Logprobs(msgspec.Struct, gc=False):
    content: object = None


class Choice(msgspec.Struct, gc=False):
    """One choice; `message` is that of a whole reply."""

    index: object = None
    delta: Delta | None = None
    message: Delta | None = None
    logprobs: Logprobs | None = None
    finish_reason: object = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a chat's stream, or its whole reply."""

    choices: list[Choice] | None = None
    usage: object = None
    model: object = None


_decode = msgspec.json.Decoder(Chunk).decode


def read_chunk(data: bytes) -> Chunk | None:
    """The chunk that an event holds; None for [DONE] and whatever is no object. Nothing in it raises."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        return _read_odd(data)


def _read_odd(data: bytes) -> Chunk | None:
    """A chunk in which something has an unusual type, or half of a surrogate pair."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    choices = [_choice(found) for found in _tables(value.get("choices"))]
    return Chunk(choices=choices, usage=value.get("usage"), model=_sound(value.get("model")))


def _choice(value: dict[str, Any]) -> Choice:
    probs = value.get("logprobs")
    return Choice(
        index=value.get("index"),
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        logprobs=Logprobs(_sound(probs.get("content"))) if isinstance(probs, dict) else None,
        finish_reason=value.get("finish_reason"),
    )


def _delta(value: Any) -> Delta | None:
    if not isinstance(value, dict):
        return None
    texts = {name: _sound(value.get(name)) for name in ("content", "reasoning_content", "reasoning")}
    calls = [_call(found) for found in _tables(value.get("tool_calls"))]
    return Delta(refusal=_sound(value.get("refusal")), tool_calls=calls, **texts)


def _call(value: dict[str, Any]) -> Call:
    found = value.get("function")
    function = (
        Function(_sound(found.get("name")), _sound(found.get("arguments")))
        if isinstance(found, dict)
        else None
    )
    return Call(value.get("index"), _sound(value.get("id")), function)


def _tables(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _sound(value: Any) -> Any:
    """The same without halves of surrogate pairs, which UTF-8 can't write."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_sound(item) for item in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    return value
