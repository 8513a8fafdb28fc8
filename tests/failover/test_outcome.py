"""What an upstream's error reply means."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.outcome import MEANING, Again, Failure, Mark, Outcome, classify, parse_retry_after
from gateway.wire.failure import WireError, malformed, read_error

# Sunday, 6 November 1994, 08:49:37: the date of RFC 9110's own example
RFC_DATE, RFC_TIME = "Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0


def of(
    reply: int, message: str = "sorry", *, headers: dict[str, str] | None = None, **said: object
) -> Failure:
    """What a reply with this status means whose error says `message` and `said`."""
    error = WireError(message=message, **said)  # type: ignore[arg-type]
    return classify(status=reply, error=error, headers=headers or {}, now_wall=RFC_TIME)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (301, Outcome.SERVER_FAULT),
        (307, Outcome.SERVER_FAULT),
        (400, Outcome.CLIENT_FAULT),
        (401, Outcome.AUTH),
        (402, Outcome.BILLING),
        (403, Outcome.AUTH),
        (404, Outcome.CLIENT_FAULT),
        (405, Outcome.CLIENT_FAULT),
        (408, Outcome.SERVER_FAULT),
        (409, Outcome.SERVER_FAULT),
        (413, Outcome.CLIENT_FAULT),
        (415, Outcome.CLIENT_FAULT),
        (422, Outcome.CLIENT_FAULT),
        (425, Outcome.SERVER_FAULT),
        (429, Outcome.RATE_LIMITED),
        (451, Outcome.CLIENT_FAULT),
        (500, Outcome.SERVER_FAULT),
        (501, Outcome.UNSUPPORTED),
        (502, Outcome.SERVER_FAULT),
        (503, Outcome.OVERLOADED),
        (504, Outcome.SERVER_FAULT),
        (520, Outcome.SERVER_FAULT),
        (529, Outcome.OVERLOADED),
        (599, Outcome.SERVER_FAULT),
    ],
)
def test_the_status_alone(status: int, outcome: Outcome) -> None:
    failure = of(status)
    assert (failure.outcome, failure.status) == (outcome, status)


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (400, {"code": "context_length_exceeded"}, Outcome.CONTEXT_TOO_LONG),
        (400, {"message": "prompt is too long: 210000 tokens"}, Outcome.CONTEXT_TOO_LONG),
        (500, {"message": "the prompt exceeds the context window"}, Outcome.CONTEXT_TOO_LONG),
        (413, {"code": "rate_limit_exceeded", "status": 429}, Outcome.CONTEXT_TOO_LONG),
        (400, {"code": "model_not_found"}, Outcome.MODEL_MISSING),
        (404, {"code": "model_not_found"}, Outcome.MODEL_MISSING),
        (403, {"code": "model_not_found"}, Outcome.MODEL_MISSING),  # a project without access to it
        (403, {"message": "your input was flagged by moderation"}, Outcome.CLIENT_FAULT),
        (429, {"code": "insufficient_quota"}, Outcome.BILLING),
        (400, {"message": "Your credit balance is too low"}, Outcome.BILLING),
        (400, {"message": "API key not valid. Please pass a valid API key."}, Outcome.AUTH),
        (400, {"code": "unsupported_parameter"}, Outcome.UNSUPPORTED),
        (400, {"code": "unsupported_value"}, Outcome.UNSUPPORTED),
        (400, {"message": "this model does not support image input"}, Outcome.UNSUPPORTED),
        (404, {"message": "No endpoints found that support tool use."}, Outcome.UNSUPPORTED),
        (500, {"kind": "overloaded_error", "status": 529}, Outcome.OVERLOADED),
        # inside of a 200: whatever it says, the request was taken
        (200, {}, Outcome.SERVER_FAULT),
        (200, {"kind": "invalid_request_error", "status": 400}, Outcome.SERVER_FAULT),
        (200, {"status": 500}, Outcome.SERVER_FAULT),
        (200, {"status": 401}, Outcome.AUTH),
        (200, {"status": 402}, Outcome.BILLING),
        (200, {"code": "insufficient_quota", "status": 429}, Outcome.BILLING),
        (200, {"status": 429}, Outcome.RATE_LIMITED),
        (200, {"status": 503}, Outcome.OVERLOADED),
        (200, {"kind": "overloaded_error", "status": 529}, Outcome.OVERLOADED),
        (200, {"code": "context_length_exceeded", "status": 400}, Outcome.CONTEXT_TOO_LONG),
        (200, {"code": "model_not_found", "status": 404}, Outcome.MODEL_MISSING),
        (200, {"code": "insufficient_quota", "malformed": True}, Outcome.SERVER_FAULT),
    ],
)
def test_what_the_error_says_besides(status: int, error: dict[str, object], outcome: Outcome) -> None:
    assert of(status, **error).outcome is outcome  # type: ignore[arg-type]


def test_real_bodies_are_understood() -> None:
    body = b'{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":null}}'
    failure = classify(
        status=429, error=read_error(body), headers={"retry-after": "7", "x": "y"}, now_wall=None, body=body
    )
    assert (failure.outcome, failure.retry_after_s) == (Outcome.BILLING, 7.0)
    assert failure.headers == (("retry-after", "7"), ("x", "y"))
    assert failure.body == body
    assert "body" not in repr(failure)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (of(400, "bad n", param="n", code="c"), "the upstream refused the request (400): bad n"),
        (of(400, "x", code="context_length_exceeded"), "the prompt is too long for this model (400): x"),
        (of(501, "x"), "the upstream does not support a part of the request (501): x"),
        (of(404, "x", code="model_not_found"), "the upstream does not have this model (404)"),
        (
            of(401, "Incorrect API key provided: sk-abcd1234"),
            "the upstream refused the gateway's credential (401)",
        ),
        (of(402, "org-1 is broke"), "the upstream's account is out of credit or quota (402)"),
        (of(429, "limit of org-1"), "the upstream's rate limit is reached (429)"),
        (of(529, "x"), "the upstream is overloaded (529)"),
        (of(500, "at /srv/app.py"), "the upstream failed (500)"),
        (of(307, "x"), "the upstream redirects (307), which is not followed; check its base_url"),
        (of(200, "x"), "the upstream sent an error in place of an answer"),
        (of(200, "bad JSON", malformed=True), "the upstream's reply is malformed: bad JSON"),
        (of(500, "bad JSON", malformed=True), "the upstream's reply is malformed: bad JSON"),
        (of(200, "x", status=429), "the upstream's rate limit is reached"),
    ],
)
def test_the_sentence_is_ours_and_gives_nothing_away(failure: Failure, message: str) -> None:
    assert failure.message == message


def test_code_and_param_are_kept() -> None:
    failure = of(400, param="n", code="c")
    assert (failure.param, failure.code) == ("n", "c")


def test_a_malformed_reply_made_by_the_reader() -> None:
    assert (
        classify(status=200, error=malformed("cut"), headers={}, now_wall=None).outcome
        is Outcome.SERVER_FAULT
    )


# --- Retry-After -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("2.", 2.0),
        ("300", 300.0),
        ("3600", 300.0),
        ("1e9", 300.0),
        ("1000000000", 300.0),
        ("9" * 18, 300.0),
        (RFC_DATE, 0.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 09:50:37 +0100", 60.0),
        ("Sun, 06 Nov 1984 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:37 GMT", 300.0),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1_0", None),
        ("0x10", None),
        ("٣", None),
        ("7 8", None),
        ("9" * 400, None),
        ("Sun, 99 Nov 99999999999999999 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT" + " " * 200 + "x", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, RFC_TIME) == seconds


def test_a_date_needs_the_time_of_day() -> None:
    assert parse_retry_after(RFC_DATE, None) is None


@given(st.text(max_size=80) | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [-+A-Z0-9]+"))
def test_no_header_of_a_peer_does_harm(value: str) -> None:
    seconds = parse_retry_after(value, RFC_TIME)
    assert seconds is None or (0 <= seconds <= 300 and math.isfinite(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "x"}, None),
        ({"retry-after-ms": "400000"}, 300.0),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-reset": "12", "retry-after": "2"}, 2.0),
        ({"x-ratelimit-reset": "12", "retry-after": "soon"}, 12.0),
        ({"x-ratelimit-reset": "301"}, 300.0),
    ],
)
def test_which_header_counts(headers: dict[str, str], seconds: float | None) -> None:
    assert of(429, headers=headers).retry_after_s == seconds


# --- the table -----------------------------------------------------------------------------------------


def test_the_table_is_the_contracts() -> None:
    no, once = Again.NO, Again.ONCE
    rows = {
        outcome: (meaning.again, meaning.next_target, meaning.mark is Mark.COUNTS)
        for outcome, meaning in MEANING.items()
    }
    assert rows == {
        Outcome.OK: (no, False, False),
        Outcome.CLIENT_FAULT: (no, False, False),
        Outcome.MODEL_MISSING: (no, True, False),
        Outcome.CONTEXT_TOO_LONG: (no, True, False),
        Outcome.UNSUPPORTED: (no, True, False),
        Outcome.AUTH: (Again.CREDENTIAL, True, False),
        Outcome.BILLING: (Again.CREDENTIAL, True, False),
        Outcome.RATE_LIMITED: (Again.CREDENTIAL_OR_WAIT, True, False),
        Outcome.OVERLOADED: (Again.BY_POLICY, True, True),
        Outcome.SERVER_FAULT: (once, True, True),
        Outcome.CONNECT_FAULT: (once, True, True),
        Outcome.SLOW: (no, True, True),
        Outcome.LOCAL_FAULT: (once, True, True),
        Outcome.CLIENT_LEFT: (no, False, False),
    }


def test_only_trouble_with_a_credential_asks_for_another_one() -> None:
    assert {outcome for outcome, meaning in MEANING.items() if meaning.next_credential} == {
        Outcome.AUTH,
        Outcome.BILLING,
        Outcome.RATE_LIMITED,
    }


def test_a_refusal_of_what_only_its_provider_can_read_may_be_mended_and_blames_nobody() -> None:
    failure = of(400, "messages.1.content.0: Invalid `signature` in `thinking` block")
    assert (failure.outcome, failure.mend) == (Outcome.CLIENT_FAULT, "thinking_signature")
    assert MEANING[failure.outcome].mark is Mark.NOTHING
    assert of(404, "Previous response with id 'resp_1' not found.").mend == "previous_response"
    assert of(500, "Invalid `signature` in `thinking` block").mend == ""
    assert of(400, "n must be 1").mend == ""


def test_only_a_limit_that_was_reached_waits_for_its_reset() -> None:
    headers = {"x-ratelimit-reset": "12", "x-ratelimit-remaining": "0"}
    assert of(503, headers=headers).retry_after_s is None
    assert of(429, headers=headers, code="insufficient_quota").retry_after_s is None
    assert of(200, headers=headers, status=429).retry_after_s is None
