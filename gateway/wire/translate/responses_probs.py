"""PURE: the log probabilities of a chat's tokens as those of an output text."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.responses_fields import Json


def read_probs(content: object) -> list[Json]:
    """Those that are well-formed; a token's bytes are never null in a response."""
    if not isinstance(content, list):
        return []
    found = []
    for item in content:
        if (prob := _prob(item)) is not None:
            top = item.get("top_logprobs")
            likely = [_prob(other) for other in top] if isinstance(top, list) else []
            found.append({**prob, "top_logprobs": [other for other in likely if other is not None]})
    return found


def _prob(item: Any) -> Json | None:
    if not isinstance(item, dict):
        return None
    token, logprob, raw = item.get("token"), item.get("logprob"), item.get("bytes")
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    return {"token": token, "bytes": raw if isinstance(raw, list) else [], "logprob": logprob}
