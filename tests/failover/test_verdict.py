"""What a client is told when nothing is left, or when a stream breaks."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Plan, Skipped
from gateway.failover.policy import DEFAULT, LOCAL_ONLY
from gateway.failover.verdict import Tried, Verdict, broken, give_up
from tests.failover.play import failure, plan_for

PLAN = plan_for(["one:a"])
LOCAL_PLAN = plan_for(["local:q"], LOCAL_ONLY)
FAULTS = [each for each in Outcome if each not in (Outcome.OK, Outcome.CLIENT_LEFT)]


def told(*outcomes: str | Failure, plan: Plan = PLAN, why: str = "") -> Verdict:
    """The verdict when targets a, b, ... came to these."""
    failures = [each if isinstance(each, Failure) else failure(each) for each in outcomes]
    tried = [Tried(f"up/{letter}", each) for letter, each in zip("abcdefghijklm", failures, strict=False)]
    return give_up(plan, tried, why=why)


@pytest.mark.parametrize(
    ("outcome", "status", "kind", "code"),
    [
        ("client_fault", 400, "invalid_request_error", "invalid_request"),
        ("rate_limited", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("overloaded", 503, "server_error", "overloaded"),
        ("slow", 504, "server_error", "upstream_timeout"),
        ("server_fault", 502, "server_error", "upstream_error"),
        ("connect_fault", 502, "server_error", "upstream_unreachable"),
        ("local_fault", 503, "server_error", "model_unavailable"),
        ("context_too_long", 400, "invalid_request_error", "context_length_exceeded"),
        ("unsupported", 400, "invalid_request_error", "unsupported"),
        ("billing", 429, "insufficient_quota", "insufficient_quota"),
        ("auth", 502, "server_error", "provider_auth_failed"),
        ("model_missing", 404, "invalid_request_error", "model_not_found"),
    ],
)
def test_each_outcome_has_its_status(outcome: str, status: int, kind: str, code: str) -> None:
    verdict = told(outcome)
    assert (verdict.status, verdict.kind, verdict.code) == (status, kind, code)
    assert not verdict.should_retry  # nothing was told about waiting
    assert verdict.overloaded is (outcome == "overloaded")
    assert verdict.relay is None


def test_a_machine_that_is_offline_says_so() -> None:
    offline = failure("connect_fault", code="offline", offline=True)
    verdict = told(offline, "local_fault")
    assert (verdict.status, verdict.code, verdict.retry_after_s) == (503, "offline", 2.0)
    assert not verdict.should_retry
    assert "up/a: connect_fault (it was connect_fault)" in verdict.message


@pytest.mark.parametrize("status", [401, 403])
def test_a_401_of_an_upstream_is_never_passed_on(status: int) -> None:
    for outcome in FAULTS:
        reply = Failure(outcome=outcome, message="no", status=status, body=b"{}")
        verdict = told(reply)
        assert verdict.status not in (401, 403)
        assert verdict.relay is None


def test_the_most_useful_outcome_gives_the_status() -> None:
    order = [
        "client_fault",
        "rate_limited",
        "overloaded",
        "slow",
        "server_fault",
        "connect_fault",
        "local_fault",
        "context_too_long",
        "unsupported",
        "billing",
        "auth",
        "model_missing",
    ]
    assert set(order) == {str(each) for each in FAULTS}
    for first, second in product(order, order):
        best = min(first, second, key=order.index)
        assert told(first, second).status == told(best).status


def test_every_attempt_is_named() -> None:
    plan = Plan(
        (),
        (
            Skipped("two/b", "it is disabled", Outcome.MODEL_MISSING, failure("model_missing")),
            Skipped("three/c", "kept out"),
        ),
        DEFAULT,
        False,
    )
    verdict = told("slow", "auth", plan=plan, why="and that is all")
    assert verdict.message == (
        "no target answered: up/a: slow (it was slow); up/b: auth (it was auth); "
        "two/b: not asked (it was model_missing); three/c: not asked (kept out); and that is all"
    )


def test_a_message_has_an_end() -> None:
    verdict = told(*[Failure(outcome=Outcome.SLOW, message="x" * 500)] * 9)
    assert len(verdict.message) == 2000
    assert verdict.message.endswith("...")


# --- the client's own fault --------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["client_fault", "context_too_long", "unsupported", "model_missing"])
def test_a_sole_refusal_is_relayed_untouched(outcome: str) -> None:
    reply = failure(outcome, status=404, code="c", body=b"{}")
    assert told(reply).relay is reply


def test_a_refusal_after_others_keeps_its_status_and_names_them_all() -> None:
    verdict = told("server_fault", failure("client_fault", status=422, code="c", param="n", body=b"{}"))
    assert (verdict.status, verdict.code, verdict.param, verdict.relay) == (422, "c", "n", None)
    assert "up/a: server_fault" in verdict.message


def test_a_refusal_of_the_pool_is_told_in_its_own_words() -> None:
    verdict = told(failure("unsupported", param="n", code="unsupported_value"))
    assert (verdict.status, verdict.param, verdict.code) == (400, "n", "unsupported_value")
    assert verdict.message == "it was unsupported"


def test_an_error_in_a_200_is_not_relayed_as_one() -> None:
    verdict = told(failure("context_too_long", status=200, body=b"{}"))
    assert (verdict.status, verdict.relay) == (400, None)


def test_a_missing_model_is_relayed_only_where_there_was_nothing_else() -> None:
    skipped = Skipped("local/q", "no such model", Outcome.MODEL_MISSING, failure("model_missing"))
    plan = Plan(PLAN.candidates, (skipped,), DEFAULT, False)
    assert told(failure("model_missing", status=404, body=b"{}"), plan=plan).relay is None
    assert told(failure("client_fault", status=400, body=b"{}"), plan=plan).relay is not None


def test_a_target_that_was_not_asked_has_nothing_to_relay() -> None:
    skipped = Skipped("two/b", "x", Outcome.UNSUPPORTED, failure("unsupported", status=400, body=b"{}"))
    assert told("auth", plan=Plan((), (skipped,), DEFAULT, False)).relay is None


# --- waiting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["rate_limited", "overloaded"])
@pytest.mark.parametrize(
    ("told_s", "shown_s", "should_retry"),
    [(0.0, 0.0, True), (7.0, 7.0, True), (60.0, 60.0, True), (61.0, 60.0, False), (300.0, 60.0, False)],
)
def test_the_wait_is_told_and_capped(outcome: str, told_s: float, shown_s: float, should_retry: bool) -> None:
    # A provider's Retry-After of an hour would freeze a client of the Anthropic SDK for an hour.
    verdict = told(failure(outcome, retry_after_s=told_s))
    assert (verdict.retry_after_s, verdict.should_retry) == (shown_s, should_retry)


def test_the_soonest_of_several_waits_is_told() -> None:
    skipped = Skipped("two/b", "x", Outcome.RATE_LIMITED, failure("rate_limited", retry_after_s=5.0))
    plan = Plan((), (skipped,), DEFAULT, False)
    verdict = told(
        failure("rate_limited", retry_after_s=40.0),
        failure("overloaded", retry_after_s=9.0),
        "slow",
        plan=plan,
    )
    assert (verdict.status, verdict.retry_after_s, verdict.should_retry) == (429, 5.0, True)


def test_who_was_asked_twice_has_been_retried_already() -> None:
    limited = failure("rate_limited", retry_after_s=5.0)
    verdict = give_up(PLAN, [Tried("up/a", limited), Tried("up/a", limited)])
    assert (verdict.retry_after_s, verdict.should_retry) == (5.0, False)


@pytest.mark.parametrize("outcome", ["slow", "server_fault", "connect_fault", "local_fault"])
def test_when_a_target_comes_back_is_told_though_a_client_should_not_try_at_once(outcome: str) -> None:
    verdict = told(failure(outcome, retry_after_s=5.0))
    assert (verdict.retry_after_s, verdict.should_retry) == (5.0, False)


@pytest.mark.parametrize("outcome", ["billing", "auth", "context_too_long"])
def test_no_wait_is_told_where_waiting_does_not_help(outcome: str) -> None:
    verdict = told(failure(outcome, retry_after_s=5.0))
    assert (verdict.retry_after_s, verdict.should_retry) == (None, False)


# --- codes of our own ------------------------------------------------------------------------------------


def test_a_bad_certificate_has_its_own_code() -> None:
    assert told(failure("connect_fault", code="upstream_tls_error")).code == "upstream_tls_error"
    assert told(failure("local_fault", code="model_broken")).code == "model_broken"
    assert told(failure("server_fault", code="their_own_word")).code == "upstream_error"


def test_a_missing_credential_is_not_a_refused_one() -> None:
    plan = plan_for(["one:a"], keys=0)
    verdict = give_up(plan, [])
    assert (verdict.status, verdict.code) == (503, "no_credential")
    assert "mlx-gateway credentials add one" in verdict.message
    assert told("auth", plan=plan).code == "provider_auth_failed"


def test_a_rule_without_targets() -> None:
    verdict = give_up(plan_for([]), [])
    assert (verdict.status, verdict.code) == (503, "no_target")


# --- local only --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", FAULTS)
def test_a_local_only_failure_is_a_typed_503(outcome: Outcome) -> None:
    verdict = told(failure(outcome), plan=LOCAL_PLAN)
    if outcome in (Outcome.CLIENT_FAULT, Outcome.CONTEXT_TOO_LONG, Outcome.UNSUPPORTED):
        assert verdict.status == 400  # what the client can mend stays the client's
        return
    assert (verdict.status, verdict.code, verdict.overloaded) == (503, "local_only", False)
    assert verdict.message.endswith("; the policy of this rule keeps requests on this machine")


def test_a_local_only_endpoint_that_the_pool_does_not_have() -> None:
    plan = plan_for(["local:q"], LOCAL_ONLY, unusable=lambda aim: failure("unsupported"))
    assert (give_up(plan, []).status, give_up(plan, []).code) == (503, "local_only")


def test_a_local_only_queue_tells_its_wait() -> None:
    verdict = told(failure("overloaded", retry_after_s=3.0), plan=LOCAL_PLAN)
    assert (verdict.retry_after_s, verdict.should_retry) == (3.0, True)
    assert told("local_fault", plan=LOCAL_PLAN).retry_after_s is None
    assert told("overloaded", plan=LOCAL_PLAN).should_retry is False


def test_a_local_only_rule_without_a_local_target_says_how_to_mend_it() -> None:
    verdict = give_up(plan_for(["one:a"], LOCAL_ONLY), [])
    assert (verdict.status, verdict.code) == (503, "local_only")
    assert "--to local:NAME" in verdict.message


# --- broken streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "code", "status", "told_code"),
    [
        ("server_fault", None, 502, "upstream_stream_interrupted"),
        ("connect_fault", None, 502, "upstream_stream_interrupted"),
        ("server_fault", "their_own_word", 502, "their_own_word"),
        ("local_fault", None, 503, "generation_failed"),
        ("local_fault", "engine_hung", 503, "engine_hung"),
        ("slow", None, 504, "upstream_timeout"),
        ("overloaded", None, 503, "overloaded"),
        ("client_left", None, 502, "upstream_error"),
    ],
)
def test_a_broken_stream_says_what_broke(outcome: str, code: str | None, status: int, told_code: str) -> None:
    verdict = broken("one/a", failure(outcome, code=code))
    assert (verdict.status, verdict.code) == (status, told_code)
    assert verdict.message == f"the answer of one/a broke off: it was {outcome}"
    assert verdict.overloaded is (outcome == "overloaded")
    assert not verdict.should_retry


def test_what_is_too_long_has_the_one_code_that_clients_look_for() -> None:
    assert (
        told(failure("context_too_long", code="exceed_context_size_error")).code == "context_length_exceeded"
    )
