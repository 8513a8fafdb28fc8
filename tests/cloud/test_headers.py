from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloud.headers import downstream_headers, is_sendable, upstream_headers

SENT = [
    ("Content-Type", "application/json"),
    ("Accept", "text/event-stream"),
    ("User-Agent", "OpenAI/Python 3.54"),
    ("OpenAI-Beta", "assistants=v2"),
    ("OpenAI-Organization", "org-1"),
    ("anthropic-beta", "tools-2025"),
    ("X-Stainless-Lang", "python"),
    ("Idempotency-Key", "k1"),
    ("traceparent", "00-1-2-01"),
    ("tracestate", "a=b"),
]
HELD_BACK = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "host",
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "accept-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-connection",
    "x-forwarded-for",
    "x-forwarded-host",
    "forwarded",
    "x-real-ip",
    "referer",
    "origin",
    "x-request-id",
    "x-gateway-rule",
    "expect",
    "range",
]
RECEIVED = [
    ("Content-Type", "application/json"),
    ("Retry-After", "3"),
    ("x-ratelimit-remaining-requests", "9"),
    ("anthropic-ratelimit-tokens-limit", "100"),
    ("openai-processing-ms", "12"),
    ("openai-version", "2020-10-01"),
    ("request-id", "req_1"),
    ("Content-Disposition", "attachment; filename=a.jsonl"),
]
KEPT_FROM_CLIENTS = [
    "set-cookie",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "server",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "date",
    "access-control-allow-origin",
    "strict-transport-security",
    "alt-svc",
    "location",
    "www-authenticate",
    "cf-ray",
]


def test_what_an_upstream_may_know_goes_through() -> None:
    assert upstream_headers(SENT) == [(name.lower(), value) for name, value in SENT]


@pytest.mark.parametrize("name", HELD_BACK)
def test_no_upstream_sees(name: str) -> None:
    assert upstream_headers([(name.title(), "canary")]) == []


@pytest.mark.parametrize("name", ["openai-beta", "accept"])
def test_a_field_that_connection_names_is_of_one_hop(name: str) -> None:
    fields = [("accept", "a"), ("Connection", f"close, {name.upper()}"), ("openai-beta", "b")]
    assert name not in dict(upstream_headers(fields))
    assert len(upstream_headers(fields)) == 1


def test_an_upstreams_fixed_field_wins_but_for_anthropics_version_and_beta() -> None:
    fixed = {"anthropic-version": "2023-06-01", "openai-organization": "ours", "x-title": "mlx"}
    sent = [("Anthropic-Version", "2099-01-01"), ("OpenAI-Organization", "theirs")]
    assert upstream_headers(sent, fixed) == [
        ("anthropic-version", "2099-01-01"),
        ("openai-organization", "ours"),
        ("x-title", "mlx"),
    ]
    assert ("anthropic-version", "2023-06-01") in upstream_headers([], fixed)


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\0b", "\x7f", "snow ☃", "\x85"])
def test_a_value_that_could_become_a_second_line_is_dropped(value: str) -> None:
    assert upstream_headers([("user-agent", value)]) == []
    assert downstream_headers([("openai-version", value)]) == []
    assert not is_sendable(value)


def test_latin_1_goes_up_as_it_came() -> None:
    assert upstream_headers([("user-agent", "caf\xe9\tx")]) == [("user-agent", "caf\xe9\tx")]


def test_what_a_client_may_know_comes_back() -> None:
    assert downstream_headers(RECEIVED) == [(name.lower(), value) for name, value in RECEIVED]


@pytest.mark.parametrize("name", KEPT_FROM_CLIENTS)
def test_no_client_sees(name: str) -> None:
    assert downstream_headers([(name.title(), "canary")]) == []


def test_the_upstreams_request_id_steps_aside_for_ours() -> None:
    once = downstream_headers([("X-Request-Id", "req_up")])
    assert once == [("x-upstream-request-id", "req_up")]
    assert downstream_headers(once) == once


def test_downstream_too_connection_names_what_stops_here() -> None:
    assert downstream_headers([("openai-x", "1"), ("connection", "openai-x")]) == []


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20))))
def test_nothing_that_is_let_through_can_break_a_line(fields: list[tuple[str, str]]) -> None:
    for name, value in upstream_headers(fields) + downstream_headers(fields):
        assert not set(value) & set("\r\n\0")
        assert name == name.lower()
