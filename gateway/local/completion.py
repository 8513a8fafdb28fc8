"""PURE: the body of /v1/completions, read for the local engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import RequestError
from gateway.local.fields import Unsupported, flag, integer, text, wrong
from gateway.local.options import (
    COMMON,
    MAX_CHOICES,
    Asked,
    Reader,
    only,
    read_fields,
    read_object,
    required,
    whole,
)
from gateway.local.request import Generate, Text, Tokens

DEFAULT_MAX_TOKENS = 16  # as OpenAI documents it
_MOST_TOP = 5


def read_completion(body: bytes) -> Asked:
    """Read a completion request; raise RequestError or Unsupported naming the field."""
    asked = read_object(body)
    prompts = read_texts("prompt", required(asked, "prompt", "send a text, or token ids"))
    found = read_fields(asked, _READERS)
    best = found.pop("best_of", None)
    n = found.get("n", 1)
    if best is not None and best != n:
        raise Unsupported("best_of", "best_of: the local engine returns every answer that it makes; use n")
    if len(prompts) * n > MAX_CHOICES:
        raise RequestError(f"prompt and n make more than {MAX_CHOICES} answers; send fewer", param="n")
    if found.get("echo") and found.get("top_logprobs") is not None:
        raise Unsupported("echo", "echo: the log probabilities of a prompt are not computed here")
    stream, include_usage = found.pop("stream", False), found.pop("include_usage", False)
    if found["max_tokens"] is None:
        found["max_tokens"] = max(DEFAULT_MAX_TOKENS, found["sampling"].min_tokens)
    work = Generate(prompts=prompts, **found)
    return Asked(work=work, stream=stream, include_usage=include_usage)


def read_texts(name: str, value: Any) -> tuple[Text | Tokens, ...]:
    """A text, several, token ids, or several lists of these."""
    if isinstance(value, str):
        return (_text(name, value),)
    if not isinstance(value, list) or not value:
        raise wrong(name, "a text, a list of texts, token ids or a list of these", value)
    if all(isinstance(item, int) for item in value):
        return (_tokens(name, value),)
    if len(value) > 2048:
        raise RequestError(f"{name} takes at most 2048 items, not {len(value)}", param=name)
    return tuple(_item(f"{name}[{index}]", item) for index, item in enumerate(value))


def _item(name: str, value: Any) -> Text | Tokens:
    if isinstance(value, list) and value:
        return _tokens(name, value)
    return _text(name, value)


def _text(name: str, value: Any) -> Text:
    if not text(name, value):
        raise RequestError(f"{name} is empty; send at least one character", param=name)
    return Text(value)


def _tokens(name: str, value: list[Any]) -> Tokens:
    for index, token in enumerate(value):
        integer(f"{name}[{index}]", token, low=0)
    return Tokens(value)


def _echo(name: str, value: Any) -> dict[str, Any]:
    return {name: flag(name, value)}


def _logprobs(name: str, value: Any) -> dict[str, Any]:
    return {"top_logprobs": integer(name, value, low=0, high=_MOST_TOP)}


def _best_of(name: str, value: Any) -> dict[str, Any]:
    return {name: whole(1, MAX_CHOICES)(name, value)}


_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        **COMMON,
        "echo": _echo,
        "best_of": _best_of,
        "logprobs": _logprobs,
        "suffix": only(lambda v: v == "", text, "local models don't fill in before a suffix"),
    }
)
