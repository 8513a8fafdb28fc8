"""PURE: how long a rate limit lasts, by the headers in which providers count what is left of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

# What is left, and when it is full again. OpenAI's are durations as Go writes them, those of others
# seconds or a point in Unix time; Anthropic's are RFC 3339.
_PAIRS = (
    *((f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}") for what in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset")
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = r"([0-9]{1,9}(?:\.[0-9]{0,9})?)(ns|us|\u00b5s|ms|s|m|h)"
_DURATION = re.compile(f"(?:{_PIECE}){{1,8}}")
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,9})?")
_NOTHING = re.compile(r"0(?:\.0*)?")
_EPOCH_S, _EPOCH_MS = 1e9, 1e11  # as seconds the one is 30 years and the other 3000: no wait is


def reset_s(headers: Mapping[str, str], now_wall: float | None) -> float | None:
    """Seconds until the limit that was reached is no longer reached; None where that isn't said.

    Of several limits that are used up it is the last to be full again. Where none says that it is used
    up, any of them may be the one, so that only a sole reset tells anything. Junk is none, and so is a
    point in time without the time of day.
    """
    told = {reset: headers[reset] for _, reset in _PAIRS if reset in headers}
    used_up = [reset for left, reset in _PAIRS if _NOTHING.fullmatch(headers.get(left, "").strip())]
    if not used_up and len(told) == 1:
        used_up = list(told)
    waits = [_seconds(told[reset], now_wall) for reset in used_up if reset in told]
    return max((wait for wait in waits if wait is not None), default=None)


def _seconds(text: str, now_wall: float | None) -> float | None:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number < _EPOCH_S:
            return number
        return _until(number / 1000 if number >= _EPOCH_MS else number, now_wall)
    if len(text) <= 64 and _DURATION.fullmatch(text):
        return sum(float(count) * _UNIT_S[unit] for count, unit in re.findall(_PIECE, text))
    try:
        at = datetime.fromisoformat(text)
        return None if at.tzinfo is None else _until(at.timestamp(), now_wall)
    except (ValueError, OverflowError):
        return None


def _until(at: float, now_wall: float | None) -> float | None:
    return None if now_wall is None else max(0.0, at - now_wall)
