from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.dialect import Dialect
from gateway.wire.failure import WireError, error_body, error_event, malformed, read_error
from gateway.wire.sse import SseSplitter, parse_event


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {
                "error": {
                    "message": "m",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model_not_found",
                }
            },
            WireError(
                message="m", kind="invalid_request_error", code="model_not_found", param="model", status=404
            ),
        ),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"},
            WireError(message="m", kind="overloaded_error", status=529),
        ),
        (
            [{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": []}}],
            WireError(message="m", code="RESOURCE_EXHAUSTED", status=429),
        ),
        ({"detail": "m"}, WireError(message="m")),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "m", "type": "missing"}]},
            WireError(message="m", param="body.model"),
        ),
        ({"error": "m"}, WireError(message="m")),
        ({"code": "Client error", "error": "m"}, WireError(message="m", code="Client error")),
        (
            {"object": "error", "message": {"detail": [{"msg": "m"}]}, "type": "t"},
            WireError(message="m", kind="t"),
        ),
        (
            {"object": "error", "message": "m", "type": "NotFoundError", "param": None, "code": 404},
            WireError(message="m", kind="NotFoundError", code="404", status=404),
        ),
        ({"message": "m", "status_code": 503}, WireError(message="m", status=503)),
        ({"error": {"type": "x"}, "message": "m"}, WireError(message="m", kind="x")),
        ({"error": {"code": 1113, "message": "m"}}, WireError(message="m", code="1113")),
        ({"error": {"code": True, "message": "m", "param": 5}}, WireError(message="m", param="5")),
        ({"error": {"code": "", "type": "", "message": "m"}}, WireError(message="m")),
        (
            {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "too long"}}},
            WireError(message="Provider returned error: too long", code="400", status=400),
        ),
        ({"error": {"message": "m", "metadata": {"raw": 5}}}, WireError(message="m")),
        ({"error": {"message": 7}}, WireError(message="7")),
        (["m", "n"], WireError(message="m")),
        ("m", WireError(message="m")),
        ("  a\n\tb ", WireError(message="a b")),
        ({}, WireError(message="the upstream gave no reason")),
        ([], WireError(message="the upstream gave no reason")),
        (None, WireError(message="the upstream gave no reason")),
        ({"error": {}}, WireError(message="the upstream gave no reason")),
        ({"error": {"message": [[[[["deep"]]]]]}}, WireError(message="the upstream gave no reason")),
    ],
)
def test_errors_are_read_in_everyones_words(body: object, error: WireError) -> None:
    for dialect in Dialect:
        assert read_error(json.dumps(body).encode(), dialect) == error


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the upstream gave no reason"),
        (b"upstream connect error", "upstream connect error"),
        (
            b"<html><head><title>502 Bad Gateway</title><style>x{}</style></head>\n<hr></html>",
            "502 Bad Gateway",
        ),
        (b"<p>a &lt; b</p>", "a < b"),
        (b"<html></html>", "the upstream gave no reason"),
        (b'{"error":{"message":"cut sho', '{"error":{"message":"cut sho'),
        (b"\xff\xfe", "��"),
        (b"is 1 < 2?", "is 1 < 2?"),
    ],
)
def test_what_is_no_json_becomes_the_message(body: bytes, message: str) -> None:
    assert read_error(body) == WireError(message=message)


def test_a_long_message_is_cut() -> None:
    message = read_error(b"x" * 65536).message
    assert len(message) == 1000
    assert message.endswith("xxx...")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "Incorrect API key provided: sk-ab1c****wxyz. Find it here",
            "Incorrect API key provided: *** Find it here",
        ),
        ("invalid api_key='gsk_12345678'", "invalid api_key='***'"),
        (
            "API key not valid. Please pass a valid API key.",
            "API key not valid. Please pass a valid API key.",
        ),
        ("Invalid API Key: please check it", "Invalid API Key: please check it"),
    ],
)
def test_a_key_that_is_repeated_is_not_kept(said: str, kept: str) -> None:
    assert read_error(said.encode()).message == kept


def test_malformed_is_marked() -> None:
    assert malformed("broken") == WireError(message="broken", code="malformed_reply", malformed=True)


@given(st.binary(max_size=300))
def test_junk_is_always_some_message(body: bytes) -> None:
    assert read_error(body).message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "status", "detail", "param", "metadata", "raw"]
            ),
            inner,
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_odd_json_is_always_some_message(value: object) -> None:
    error = read_error(json.dumps(value).encode())
    assert error.message
    assert error.status is None or 400 <= error.status <= 599


@pytest.mark.parametrize(
    ("status", "code", "param", "kind", "shown"),
    [
        (400, None, "stop", "invalid_request_error", None),
        (401, None, None, "invalid_request_error", "invalid_api_key"),
        (403, None, None, "invalid_request_error", None),
        (404, None, None, "invalid_request_error", None),
        (404, None, "model", "invalid_request_error", "model_not_found"),
        (413, "request_too_large", None, "invalid_request_error", "request_too_large"),
        (429, None, None, "rate_limit_error", "rate_limit_exceeded"),
        (429, "insufficient_quota", None, "insufficient_quota", "insufficient_quota"),
        (500, None, None, "server_error", None),
        (503, "all_targets_failed", None, "server_error", "all_targets_failed"),
    ],
)
def test_openais_error(
    status: int, code: str | None, param: str | None, kind: str, shown: str | None
) -> None:
    body = error_body(Dialect.OPENAI, status=status, message="m", code=code, param=param, request_id="r")
    assert json.loads(body) == {"error": {"message": "m", "type": kind, "param": param, "code": shown}}


def test_a_kind_that_is_given_is_kept() -> None:
    body = error_body(Dialect.OPENAI, status=503, message="m", kind="overloaded")
    assert json.loads(body)["error"]["type"] == "overloaded"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_anthropics_error(status: int, kind: str) -> None:
    body = error_body(
        Dialect.ANTHROPIC, status=status, message="m", kind="server_error", code="c", request_id="r"
    )
    assert json.loads(body) == {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "r"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("this model takes 8 tokens", "prompt is too long: this model takes 8 tokens"),
        ("The prompt is too long: 9 tokens > 8", "The prompt is too long: 9 tokens > 8"),
    ],
)
def test_anthropics_clients_find_the_words_that_make_them_shorten(said: str, told: str) -> None:
    body = error_body(Dialect.ANTHROPIC, status=400, message=said, code="context_length_exceeded")
    assert json.loads(body)["error"]["message"] == told


def test_a_thread_that_nobody_keeps_is_refused_in_the_words_of_threads() -> None:
    body = error_body(Dialect.ANTHROPIC, status=400, message="m", code="untranslatable", param="thread")
    assert json.loads(body)["error"]["details"] == {"error_code": "thread_unsupported_request"}


@given(
    st.text(st.characters() | st.characters(categories=["Cs"]), max_size=30), st.sampled_from(list(Dialect))
)
def test_an_error_event_is_one_event_whatever_it_says(message: str, dialect: Dialect) -> None:
    raw = error_event(dialect, status=502, message=message, code="c", param=None, request_id="r")
    splitter = SseSplitter()
    (only,) = splitter.feed(raw)
    assert splitter.pending == 0
    event = parse_event(only)
    assert event.event == ("error" if dialect is Dialect.ANTHROPIC else None)
    assert event.data is not None
    said = json.loads(event.data)["error"]["message"]
    assert said == message.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("dialect", list(Dialect))
def test_half_a_surrogate_pair_in_a_message_is_replaced(dialect: Dialect) -> None:
    body = error_body(dialect, status=500, message="cut \ud83d here", request_id=None)
    assert json.loads(body)["error"]["message"] == "cut ? here"
