"""PURE: what was counted, in either API's words.

Anthropic counts what was read from or written to a cache apart from `input_tokens`; OpenAI's
`prompt_tokens` are the whole prompt, and the rest says how much of it was cached.
"""

from __future__ import annotations

from typing import Any

_TIERS_TO_CHAT = {"standard": "default", "priority": "priority"}


def chat_usage(said: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's usage as OpenAI's."""
    read, written = _count(said, "cache_read_input_tokens"), _count(said, "cache_creation_input_tokens")
    prompt = _count(said, "input_tokens") + read + written
    answer = _count(said, "output_tokens")
    thought = _count(_inside(said, "output_tokens_details"), "thinking_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def messages_usage(said: object) -> dict[str, Any]:
    """OpenAI's usage as Anthropic's."""
    said = said if isinstance(said, dict) else {}
    details = _inside(said, "prompt_tokens_details")
    read = _count(details, "cached_tokens") or _count(said, "prompt_cache_hit_tokens")  # DeepSeek
    written = _count(details, "cache_write_tokens")
    usage: dict[str, Any] = {
        "input_tokens": max(0, _count(said, "prompt_tokens") - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _count(said, "completion_tokens"),
    }
    thought = _count(_inside(said, "completion_tokens_details"), "reasoning_tokens")
    if thought:
        usage["output_tokens_details"] = {"thinking_tokens": thought}
    return usage


def chat_tier(said: dict[str, Any]) -> str | None:
    """The service tier that was used, where OpenAI has a word for it."""
    tier = said.get("service_tier")
    return _TIERS_TO_CHAT.get(tier) if isinstance(tier, str) else None


def _inside(said: dict[str, Any], name: str) -> dict[str, Any]:
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def _count(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
