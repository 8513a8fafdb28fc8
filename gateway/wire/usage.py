"""PURE: how many tokens a call took, as the upstream counted them."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call. `input_tokens` is the whole prompt; `cached_tokens` is the part of it that
    was read from a cache. Anthropic counts these apart; here they are added up.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


def read_usage(said: object) -> Usage | None:
    """What a `usage` object says in any dialect's words; None if it is none or empty."""
    if not isinstance(said, dict) or not said:
        return None
    cached = _count(said, "cache_read_input_tokens")
    fresh = _count(said, "prompt_tokens", "input_tokens")
    whole = fresh + cached + _count(said, "cache_creation_input_tokens")
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = said.get(name)
        if isinstance(details, dict):
            cached = cached or _count(details, "cached_tokens")
    cached = cached or _count(said, "prompt_cache_hit_tokens")  # DeepSeek
    return Usage(whole, _count(said, "completion_tokens", "output_tokens"), cached)


def _count(said: dict[str, object], *names: str) -> int:
    for name in names:
        value = said.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return 0
