"""PURE: in what servers of OpenAI's chat completions differ from OpenAI, where it changes an answer."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_OPENAI = re.compile(r"(?:^|\.)(?:openai\.com|azure\.com|openrouter\.ai)$")
_OPENAI_MODEL = re.compile(r"(?:^|/)(?:gpt-(?!oss)|chatgpt-|o[1-9])")
_THINKS_ON = re.compile(r"(?:^|\.)deepseek\.com$")
_EXACTING = re.compile(r"(?:^|\.)mistral\.ai$")
_REFUSED = frozenset({"stream_options", "user", "service_tier", "store", "verbosity"})


class Habits(NamedTuple):
    """`limit_field` is what the longest answer is called: OpenAI's newer models refuse `max_tokens`, while
    Mistral refuses the newer name, and Ollama and DeepSeek overlook it. `thoughts`: earlier reasoning is
    taken back; DeepSeek wants it beside calls of tools, OpenAI and others refuse it. `refuses` are fields
    for which the whole request is refused: Mistral's streams tell their usage unasked.
    """

    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    thoughts: bool = False
    refuses: frozenset[str] = frozenset()


LOCAL = Habits(thoughts=True)


def habits_of(host: str, model: str) -> Habits:
    """Those of the server at `host` when it is asked for `model`."""
    newer = _OPENAI.search(host) or _OPENAI_MODEL.search(model)
    return Habits(
        "max_completion_tokens" if newer else "max_tokens",
        thoughts=_THINKS_ON.search(host) is not None,
        refuses=_REFUSED if _EXACTING.search(host) else frozenset(),
    )
