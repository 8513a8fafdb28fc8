"""How long a rate limit lasts, by what providers say of it in their headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.limits import reset_s

NOW = 1_795_000_000.0  # 2026-11-18T11:06:40Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m", 3720.0),
        ("20ms", 0.02),
        ("1m30.5s", 90.5),
        ("250us", 0.00025),
        ("250\u00b5s", 0.00025),
        ("40ns", 4e-8),
        ("0s", 0.0),
        (" 7 ", 7.0),
        ("7.66", 7.66),
        ("1795000030", 30.0),
        ("1795000030.5", 30.5),
        ("1795000030000", 30.0),
        ("1794999990", 0.0),
        ("2026-11-18T11:07:40Z", 60.0),
        ("2026-11-18T12:07:40+01:00", 60.0),
        ("2026-11-18T11:00:00Z", 0.0),
        ("2026-11-18T11:07:40", None),
        ("-1s", None),
        ("-3", None),
        ("1d", None),
        ("soon", None),
        ("nan", None),
        ("", None),
        ("1s" * 9, None),
        ("9" * 40, None),
    ],
)
def test_a_reset_in_each_of_the_ways_it_is_written(text: str, seconds: float | None) -> None:
    told = reset_s({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}, NOW)
    assert told == (None if seconds is None else pytest.approx(seconds))


def test_a_point_in_time_needs_the_time_of_day() -> None:
    for text in ("1795000030", "2026-11-18T11:07:40Z"):
        assert reset_s({"x-ratelimit-remaining": "0", "x-ratelimit-reset": text}, None) is None
    assert reset_s({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "3"}, None) == 3.0


OPENAI = {"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}
CLAUDE = {
    "anthropic-ratelimit-requests-reset": "2026-11-18T11:06:45Z",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-18T11:07:40Z",
    "anthropic-ratelimit-output-tokens-reset": "2026-11-18T11:07:10Z",
}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        # Any of the two may be the one.
        (OPENAI, None),
        ({**OPENAI, "x-ratelimit-remaining-requests": "59", "x-ratelimit-remaining-tokens": "12"}, None),
        ({**OPENAI, "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "12"}, 1.0),
        ({**OPENAI, "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "0"}, 360.0),
        ({**OPENAI, "x-ratelimit-remaining-requests": "none", "x-ratelimit-remaining-tokens": "0.0"}, 360.0),
        ({"x-ratelimit-reset-tokens": "2s"}, 2.0),
        ({"x-ratelimit-reset": "2", "x-ratelimit-limit": "10"}, 2.0),
        (CLAUDE, None),
        ({**CLAUDE, "anthropic-ratelimit-output-tokens-remaining": "0"}, 30.0),
        (
            {
                **CLAUDE,
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-requests-remaining": "0",
            },
            60.0,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "junk",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "3s",
            },
            3.0,
        ),
    ],
)
def test_which_reset_counts(headers: dict[str, str], seconds: float | None) -> None:
    assert reset_s(headers, NOW) == seconds


@given(st.text(max_size=80), st.text(max_size=5))
def test_whatever_a_stranger_writes_it_is_a_wait_or_nothing(text: str, left: str) -> None:
    told = reset_s({"x-ratelimit-reset": text, "x-ratelimit-remaining": left}, NOW)
    assert told is None or 0 <= told < float("inf")
