"""Stories of one request: what happens goes in, what is ordered comes out."""

from __future__ import annotations

import pytest

from gateway.failover.breaker import Breakers, State
from gateway.failover.budget import RetryBudget
from gateway.failover.command import Failed
from gateway.failover.outcome import MEANING, Outcome
from gateway.failover.policy import LOCAL_ONLY, MOVABLE, Policy
from tests.failover.play import START, Play, failure

NO_BACKOFF = Policy(name="quick", retry_base_s=0.0)


def test_the_first_target_answers() -> None:
    play = Play("local:q", "openai:g")
    assert play.start() == ["open 1 local/q"]
    assert play.content(1, after=0.8) == ["commit 1"]
    assert play.session.trace(play.now) == "local/q=ok;dur=800"
    assert play.ended(1, after=0.2) == ["done 1"]
    assert play.session.timer is None
    assert play.session.trace(play.now + 9) == "local/q=ok;dur=1000"


def test_a_failed_target_is_followed_at_once_by_the_next() -> None:
    play = Play("local:q", "openai:g")
    play.start()
    assert play.failed(1, "local_fault", after=0.003) == ["open 2 openai/g"]
    assert play.content(2, after=0.812) == ["commit 2"]
    assert play.session.trace(play.now) == "local/q=local_fault;dur=3, openai/g=ok;dur=812"


@pytest.mark.parametrize("outcome", sorted(MOVABLE))
def test_every_outcome_of_the_table_moves_on(outcome: str) -> None:
    play = Play("one:a", "two:b")
    play.start()
    assert play.failed(1, outcome) == ["open 2 two/b"]


@pytest.mark.parametrize("outcome", sorted(MOVABLE))
def test_a_policy_may_keep_an_outcome_from_moving_on(outcome: str) -> None:
    # D9: any failure used to ship the prompt to a cloud; `on` says which may.
    play = Play("one:a", "two:b", policy=Policy(name="p", on=MOVABLE - {Outcome(outcome)}))
    play.start()
    lines = play.failed(1, outcome) or play.wait()
    assert "two/b" not in " ".join(lines)


def test_on_never_widens_the_table() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", on=frozenset(Outcome)))
    play.start()
    assert play.failed(1, "client_fault", status=400) == ["give up 400 invalid_request"]


def test_a_clients_fault_is_told_untouched_and_tried_nowhere_else() -> None:
    play = Play("one:a", "two:b")
    play.start()
    reply = {"status": 422, "code": "bad", "param": "n", "body": b'{"error":1}'}
    assert play.failed(1, "client_fault", **reply) == ["give up 422 bad"]
    assert play.verdict is not None
    assert play.verdict.relay == failure("client_fault", **reply)
    assert play.breakers.judge(play.key("one:a"), START).state is State.HEALTHY


def test_a_role_and_then_an_error_is_an_ordinary_failure() -> None:
    # D6: the client used to get 200, a role, and a dead connection. Here no content means no commit,
    # so the shell reports the error of the second event and the next target starts.
    play = Play("one:a", "two:b")
    play.start()
    assert play.failed(1, "server_fault", after=0.1) == ["open 2 two/b"]
    assert play.content(2) == ["commit 2"]


def test_an_empty_answer_with_a_proper_end_is_an_answer() -> None:
    play = Play("one:a", "two:b")
    play.start()
    assert play.ended(1) == ["commit 1", "done 1"]


def test_after_commit_there_is_no_second_try() -> None:
    play = Play("one:a", "two:b")
    play.start()
    play.content(1)
    assert play.failed(1, "server_fault", after=1) == ["break 1 502 upstream_stream_interrupted"]
    assert play.session.timer is None
    assert play.session.trace(play.now) == "one/a=server_fault;dur=1000"
    assert play.breakers.judge(play.key("one:a"), play.now).state is State.HEALTHY  # one of five


def test_content_is_committed_once() -> None:
    play = Play("one:a")
    play.start()
    play.content(1)
    assert play.content(1) == []
    assert play.tick(after=100) == []
    assert play.ended(1) == ["done 1"]


def test_what_comes_too_late_is_ignored() -> None:
    play = Play("one:a", "two:b")
    play.start()
    play.failed(1, "server_fault")
    assert play.content(1) == play.ended(1) == play.failed(1, "slow") == []
    play.content(2)
    play.ended(2)
    assert play.content(2) == play.failed(2, "slow") == play.left() == play.tick() == []


# --- the same target again -------------------------------------------------------------------------


def test_a_sole_target_is_asked_once_more_after_a_backoff() -> None:
    play = Play("one:a")
    play.start()
    assert play.failed(1, "server_fault", after=1) == []
    assert play.due == 0.25  # full jitter: a chance of 0.5 of the base of 0.5 s
    assert play.wait() == ["open 2 one/a"]
    assert play.failed(2, "server_fault") == ["give up 502 upstream_error"]
    assert play.verdict is not None
    assert not play.verdict.should_retry
    assert play.verdict.message == (
        "no target answered: one/a: server_fault (it was server_fault); "
        "one/a: server_fault (it was server_fault)"
    )


@pytest.mark.parametrize(
    "outcome", ["slow", "unsupported", "context_too_long", "model_missing", "auth", "billing"]
)
def test_these_are_not_asked_again(outcome: str) -> None:
    play = Play("one:a")
    play.start()
    assert play.failed(1, outcome)[0].startswith("give up")


def test_when_all_targets_failed_the_soonest_is_asked_again() -> None:
    play = Play("local:q", "openai:g")
    play.start()
    play.failed(1, "local_fault")
    assert play.failed(2, "connect_fault", after=0.1) == []
    assert play.due == 0.15  # the first one's backoff counts from its own failure
    assert play.wait() == ["open 3 local/q"]
    assert play.failed(3, "local_fault") == ["give up 502 upstream_unreachable"]
    assert play.verdict is not None
    assert play.verdict.message.endswith("; the policy's limit of attempts, 3, is reached")


def test_a_backoff_that_is_over_already_costs_no_time() -> None:
    play = Play("one:a", "two:b")
    play.start()
    play.failed(1, "server_fault")
    assert play.failed(2, "auth", after=5) == ["open 3 one/a"]


def test_an_outcome_that_may_not_move_on_does_not_move_back_either() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", attempts=9, on=frozenset({Outcome.SERVER_FAULT})))
    play.start()
    play.failed(1, "server_fault")
    assert play.failed(2, "connect_fault") == []
    assert play.wait() == ["open 3 two/b"]
    assert play.failed(3, "connect_fault") == ["give up 502 upstream_error"]


def test_a_second_failure_of_another_kind_may_move_on_where_the_first_might_not() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", on=frozenset({Outcome.OVERLOADED})))
    play.start()
    assert play.failed(1, "server_fault") == []
    assert play.wait() == ["open 2 one/a"]
    assert play.failed(2, "overloaded") == ["open 3 two/b"]


def test_an_overloaded_upstream_is_asked_as_often_as_attempts_last() -> None:
    play = Play("one:a")
    play.start()
    play.failed(1, "overloaded")
    assert play.due == 0.25
    play.wait()
    play.failed(2, "overloaded")
    assert play.due == 0.5  # twice the base
    play.wait()
    assert play.failed(3, "overloaded") == ["give up 503 overloaded"]


def test_backoff_never_exceeds_its_cap() -> None:
    policy = Policy(name="p", attempts=20, retry_base_s=3.0)
    play = Play("one:a", policy=policy, jitter=lambda: 1.0)
    play.start()
    for number in range(1, 12):
        assert play.failed(number, "overloaded") == []
        assert play.due is not None
        assert play.due <= 8.0
        play.wait()


def test_a_full_local_queue_is_told_at_once() -> None:
    # Waiting here would be a second, hidden queue; the client gets the pool's own estimate.
    play = Play("local:q")
    play.start()
    assert play.failed(1, "overloaded", after=0.001, retry_after_s=3.0) == ["give up 503 overloaded"]
    assert play.verdict is not None
    assert (play.verdict.retry_after_s, play.verdict.should_retry, play.verdict.overloaded) == (
        3.0,
        True,
        True,
    )


def test_a_rate_limit_that_ends_soon_is_waited_for() -> None:
    play = Play("one:a")
    play.start()
    assert play.failed(1, "rate_limited", status=429, retry_after_s=7.0) == []
    assert play.due == 7.25  # a little jitter: others wait for the same moment
    assert play.wait() == ["open 2 one/a"]
    assert play.content(2) == ["commit 2"]


@pytest.mark.parametrize(
    ("told", "retry_after_s", "should_retry"), [(8.5, 8.5, True), (60.0, 60.0, True), (61.0, 60.0, False)]
)
def test_a_longer_rate_limit_is_the_clients_to_wait(
    told: float, retry_after_s: float, should_retry: bool
) -> None:
    play = Play("one:a")
    play.start()
    assert play.failed(1, "rate_limited", retry_after_s=told) == ["give up 429 rate_limit_exceeded"]
    assert play.verdict is not None
    assert (play.verdict.retry_after_s, play.verdict.should_retry) == (retry_after_s, should_retry)


def test_a_rate_limit_without_a_time_is_not_waited_for() -> None:
    play = Play("one:a")
    play.start()
    assert play.failed(1, "rate_limited") == ["give up 429 rate_limit_exceeded"]
    assert play.verdict is not None
    assert (play.verdict.retry_after_s, play.verdict.should_retry) == (10.0, False)


def test_a_wait_that_does_not_fit_the_deadline_is_not_begun() -> None:
    play = Play("one:a", policy=Policy(name="p", deadline_s=5.0))
    play.start()
    assert play.failed(1, "rate_limited", retry_after_s=5.0) == ["give up 429 rate_limit_exceeded"]
    assert play.verdict is not None
    assert "leaves no time" in play.verdict.message


# --- credentials -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["auth", "billing", "rate_limited"])
def test_trouble_with_a_credential_tries_the_next_one(outcome: str) -> None:
    play = Play("one:a", "two:b", keys=2)
    play.start()
    assert play.failed(1, outcome) == ["open 2 one/a key2"]
    assert play.failed(2, outcome) == ["open 3 two/b"]


def test_even_where_the_policy_lets_nothing_move_on() -> None:
    play = Play("one:a", "two:b", keys=2, policy=Policy(name="p", on=frozenset()))
    play.start()
    assert play.failed(1, "auth") == ["open 2 one/a key2"]
    assert play.failed(2, "auth") == ["give up 502 provider_auth_failed"]


def test_other_trouble_leaves_the_other_credentials_alone() -> None:
    play = Play("one:a", "two:b", keys=2)
    play.start()
    assert play.failed(1, "server_fault") == ["open 2 two/b"]
    assert play.failed(2, "auth") == ["open 3 two/b key2"]


def test_a_refused_credential_is_not_shown_again_by_the_same_request() -> None:
    play = Play("one:a", "one:b", "local:q")
    play.start()
    assert play.failed(1, "auth") == ["open 2 local/q"]  # one/b would be asked with the same one


# --- stale connections -------------------------------------------------------------------------------


def test_a_stale_connection_costs_nothing() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", attempts=1))
    play.start()
    assert play.failed(1, "connect_fault", stale=True) == ["open 2 one/a"]
    assert play.session.trace(play.now) == "one/a=connect_fault;dur=0, one/a=pending;dur=0"
    assert play.content(2) == ["commit 2"]


def test_a_second_stale_connection_is_an_attempt_but_no_mark() -> None:
    play = Play("one:a", "two:b")
    play.start()
    play.failed(1, "connect_fault", stale=True)
    assert play.failed(2, "connect_fault", stale=True) == ["open 3 two/b"]
    for _ in range(5):
        again = Play("one:a", breakers=play.breakers)
        again.start()
        again.failed(1, "connect_fault", stale=True)
        again.failed(2, "connect_fault", stale=True)
    assert play.breakers.judge(play.key("one:a"), START).state is State.HEALTHY


def test_what_a_client_did_wrong_is_told_untouched_after_a_stale_connection_too() -> None:
    play = Play("one:a")
    play.start()
    play.failed(1, "connect_fault", stale=True)
    play.failed(2, "client_fault", status=400, body=b"{}")
    assert play.verdict is not None
    assert play.verdict.relay is not None


def test_a_stale_connection_with_a_body_that_is_gone_gives_up() -> None:
    play = Play("one:a", "two:b", replayable=lambda: False)
    play.start()
    assert play.failed(1, "connect_fault", stale=True) == ["give up 502 upstream_unreachable"]


# --- what keeps from more ----------------------------------------------------------------------------


def test_a_body_that_was_partly_sent_is_not_sent_again() -> None:
    play = Play("one:a", "two:b", replayable=lambda: False)
    play.start()
    assert play.failed(1, "server_fault") == ["give up 502 upstream_error"]
    assert play.verdict is not None
    assert play.verdict.message.endswith(
        "; a part of the request's body was sent, and it can't be sent again"
    )


def test_three_attempts_in_all_whatever_the_rule_lists() -> None:
    # A10: with three attempts here and three in the SDK an upstream would see nine.
    play = Play("a:m", "b:m", "c:m", "d:m", policy=NO_BACKOFF)
    play.start()
    play.failed(1, "overloaded")
    play.failed(2, "server_fault")
    assert play.failed(3, "slow") == ["give up 503 overloaded"]
    assert play.verdict is not None
    assert not play.verdict.should_retry
    assert [each.label for each in play.session.attempts] == ["a/m", "b/m", "c/m"]


def test_an_empty_budget_stops_failover_but_not_first_attempts() -> None:
    budget = RetryBudget()
    while budget.withdraw(START):
        pass
    play = Play("one:a", "two:b", budget=budget)
    assert play.start() == ["open 1 one/a"]
    assert play.failed(1, "server_fault") == ["give up 502 upstream_error"]
    assert play.verdict is not None
    assert play.verdict.message.endswith("; the gateway's budget for retries is used up for now")
    later = Play("one:a", "two:b", budget=budget, now=START + 10)
    later.start()
    assert later.failed(1, "server_fault") == ["open 2 two/b"]


def test_a_retry_of_the_same_target_is_paid_too() -> None:
    budget = RetryBudget()
    while budget.withdraw(START):
        pass
    play = Play("one:a", budget=budget)
    play.start()
    assert play.failed(1, "server_fault") == ["give up 502 upstream_error"]


# --- time --------------------------------------------------------------------------------------------


def test_pings_without_content_do_not_last_longer_than_the_first_content_limit() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", first_token_s=4.0))
    play.start()
    assert play.due == 4.0
    assert play.tick(after=3.9) == []
    assert play.wait() == ["cancel 1", "open 2 two/b"]
    assert play.due == 4.0
    assert play.session.attempts[0].failure is not None
    assert play.session.attempts[0].failure.message == "no content within 4 s"
    assert play.wait() == ["cancel 2", "give up 504 upstream_timeout"]


def test_a_stream_has_a_minute_and_a_whole_reply_the_deadline() -> None:
    """Only while another may follow: an only target that thinks long is cut off for nobody's good."""
    for targets, stream, due in (
        (["one:a", "two:b"], True, 60.0),
        (["one:a"], True, 600.0),
        (["one:a"], False, 600.0),
    ):
        play = Play(*targets, stream=stream)
        play.start()
        assert play.due == due


def test_attempts_share_the_deadline_and_the_last_gets_the_rest() -> None:
    play = Play("a:m", "b:m", "c:m", "d:m", stream=False, policy=Policy(name="p", deadline_s=90.0))
    play.start()
    assert play.due == 30.0  # three attempts are allowed, so three share
    play.failed(1, "server_fault", after=10)
    assert play.due == 40.0
    play.failed(2, "server_fault", after=40)
    assert play.due == 40.0  # all there is
    assert [round(each.until - START) for each in play.opened] == [30, 50, 90]


def test_time_is_not_kept_for_a_target_that_may_not_follow() -> None:
    slow_stays = Policy(name="p", deadline_s=90.0, on=MOVABLE - {Outcome.SLOW})
    assert _first_due("a:m", "b:m", policy=slow_stays) == 90.0
    assert _first_due("a:m", policy=Policy(name="p", deadline_s=90.0), keys=3) == 90.0
    assert _first_due("a:m", "b:m", policy=Policy(name="p", deadline_s=90.0, attempts=1)) == 90.0


def _first_due(*targets: str, policy: Policy, keys: int = 1) -> float | None:
    play = Play(*targets, stream=False, policy=policy, keys=keys)
    play.start()
    return play.due


def test_the_deadline_ends_everything_before_commit() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", deadline_s=10.0))
    play.start()
    assert play.tick(after=10) == ["cancel 1", "give up 504 upstream_timeout"]
    assert play.verdict is not None
    assert "one/a: slow (the deadline of 10 s has passed)" in play.verdict.message


def test_the_deadline_ends_a_stream_after_commit() -> None:
    play = Play("one:a", policy=Policy(name="p", deadline_s=10.0))
    play.start()
    play.content(1, after=1)
    assert play.due == 9.0
    assert play.wait() == ["cancel 1", "break 1 504 upstream_timeout"]
    assert play.session.timer is None


def test_content_after_the_deadline_comes_too_late() -> None:
    for end in (Play.content, Play.ended):
        play = Play("one:a", policy=Policy(name="p", deadline_s=10.0))
        play.start()
        assert end(play, 1, after=10) == ["cancel 1", "give up 504 upstream_timeout"]


def test_a_failure_at_the_deadline_opens_nothing() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", deadline_s=10.0))
    play.start()
    assert play.failed(1, "server_fault", after=10) == ["give up 502 upstream_error"]


def test_a_deadline_in_a_backoff_ends_it() -> None:
    play = Play("one:a", policy=Policy(name="p", deadline_s=10.0))
    play.start()
    play.failed(1, "server_fault", after=9.5)
    assert play.due == 0.25
    assert play.tick(after=0.5) == ["give up 502 upstream_error"]  # it was not slow, it failed


def test_an_early_tick_does_no_harm() -> None:
    play = Play("one:a")
    play.start()
    assert play.tick(after=1) == []
    play.failed(1, "server_fault")
    assert play.tick(after=0.1) == []
    assert play.wait() == ["open 2 one/a"]


# --- the client leaves -------------------------------------------------------------------------------


def test_a_client_that_leaves_stops_everything_and_marks_nothing() -> None:
    play = Play("one:a", "two:b")
    play.start()
    assert play.left(after=2) == ["cancel 1"]
    assert play.session.trace(play.now) == "one/a=client_left;dur=2000"
    assert play.session.timer is None
    assert play.failed(1, "server_fault") == []
    for _ in range(9):
        again = Play("one:a", breakers=play.breakers)
        again.start()
        again.left()
    assert play.breakers.judge(play.key("one:a"), START).state is State.HEALTHY


def test_a_client_that_leaves_in_a_backoff_ends_it() -> None:
    play = Play("one:a")
    play.start()
    play.failed(1, "server_fault")
    assert play.left() == []
    assert play.session.timer is None
    assert play.tick(after=9) == []


def test_a_client_that_leaves_mid_stream() -> None:
    play = Play("one:a")
    play.start()
    play.content(1)
    assert play.left() == ["cancel 1"]


def test_a_shell_may_report_the_departure_as_a_failure() -> None:
    play = Play("one:a", "two:b")
    play.start()
    assert play.failed(1, "client_left") == []
    assert play.session.timer is None


# --- breakers ----------------------------------------------------------------------------------------


def down(breakers: Breakers, target: str, now: float = START) -> None:
    """Five requests in a row find `target` down."""
    for _ in range(5):
        play = Play(target, breakers=breakers, now=now)
        play.start()
        play.session.step(Failed(1, failure("slow")), now)
    assert breakers.judge(play.key(target), now).state is State.COOLING


def test_a_dead_target_is_left_alone_and_comes_back() -> None:
    # A11: at most ten of two hundred requests may touch a dead primary.
    breakers = Breakers()
    down(breakers, "one:a")
    play = Play("one:a", "two:b", breakers=breakers)
    assert play.start() == ["open 1 two/b"]
    back = Play("one:a", "two:b", breakers=breakers, now=START + 30)
    assert back.start() == ["open 1 one/a"]
    back.content(1)
    back.ended(1)
    assert breakers.judge(play.key("one:a"), START + 30).state is State.HEALTHY


def test_a_lone_dead_target_is_still_asked() -> None:
    breakers = Breakers()
    down(breakers, "one:a")
    assert Play("one:a", breakers=breakers).start() == ["open 1 one/a"]


def test_when_all_cool_only_the_one_due_soonest_is_asked() -> None:
    breakers = Breakers()
    down(breakers, "two:b")
    down(breakers, "one:a", START + 1)
    play = Play("one:a", "two:b", breakers=breakers, now=START + 2)
    assert play.start() == ["open 1 two/b"]
    assert play.failed(1, "slow") == ["give up 504 upstream_timeout"]
    assert play.verdict is not None
    assert "one/a: not asked (cooling for another" in play.verdict.message


def test_ten_requests_make_one_probe() -> None:
    # D25: a half-open breaker used to let everybody in.
    breakers = Breakers()
    down(breakers, "one:a")
    plays = [Play("one:a", "two:b", breakers=breakers, now=START + 30) for _ in range(10)]
    assert [play.start() for play in plays] == [["open 1 one/a"], *[["open 1 two/b"]] * 9]
    plays[0].failed(1, "slow", after=1)
    assert Play("one:a", "two:b", breakers=breakers, now=START + 89).start() == ["open 1 two/b"]
    assert Play("one:a", "two:b", breakers=breakers, now=START + 92).start() == ["open 1 one/a"]


def test_who_was_put_behind_a_probe_still_has_its_turn() -> None:
    breakers = Breakers()
    down(breakers, "one:a")
    prober, other = (Play("one:a", "two:b", breakers=breakers, now=START + 30) for _ in range(2))
    prober.start()
    assert other.start() == ["open 1 two/b"]
    assert other.failed(1, "slow") == ["open 2 one/a"]


def test_a_cancelled_probe_gives_its_place_back() -> None:
    breakers = Breakers()
    down(breakers, "one:a")
    prober = Play("one:a", "two:b", breakers=breakers, now=START + 30)
    prober.start()
    prober.left()
    assert Play("one:a", "two:b", breakers=breakers, now=START + 30).start() == ["open 1 one/a"]


def test_a_probe_that_shows_content_lets_the_next_one_try() -> None:
    # A long answer must not keep everybody else away until its end.
    breakers = Breakers()
    down(breakers, "one:a")
    prober = Play("one:a", "two:b", breakers=breakers, now=START + 30)
    prober.start()
    prober.content(1)
    assert Play("one:a", "two:b", breakers=breakers, now=START + 30).start() == ["open 1 one/a"]


def test_a_probe_that_is_over_does_not_give_away_the_next_ones_place() -> None:
    breakers = Breakers()
    down(breakers, "one:a")
    first, second, third = (Play("one:a", "two:b", breakers=breakers, now=START + 30) for _ in range(3))
    first.start()
    first.content(1)
    assert second.start() == ["open 1 one/a"]
    first.left()
    assert third.start() == ["open 1 two/b"]


def test_of_two_that_are_probed_by_others_the_first_is_asked() -> None:
    breakers = Breakers()
    play = Play("one:a", "two:b", "three:c", breakers=breakers)
    play.start()
    for target in ("two:b", "three:c"):
        down(breakers, target)
        assert breakers.admit(play.key(target), START + 30)
    assert play.failed(1, "server_fault", after=30) == ["open 2 two/b"]


def test_an_event_that_does_not_exist_is_a_mistake_of_ours() -> None:
    play = Play("one:a")
    play.start()
    with pytest.raises(AssertionError):
        play.session.step("content", START)  # type: ignore[arg-type]


def test_good_streams_record_success() -> None:
    # D26: a stream that went well never counted, so streams alone opened the breaker in the end.
    breakers = Breakers()
    for _ in range(20):
        for outcome in ("", "slow"):
            play = Play("one:a", breakers=breakers)
            play.start()
            play.content(1)
            play.failed(1, outcome) if outcome else play.ended(1)
    assert breakers.judge(play.key("one:a"), START).state is State.HEALTHY


def test_no_call_is_made_while_an_upstream_wants_to_be_left_alone() -> None:
    breakers = Breakers()
    first = Play("one:a", "two:b", breakers=breakers)
    first.start()
    first.failed(1, "rate_limited", retry_after_s=7.0)
    for after in (0.0, 3.0, 6.9):
        assert Play("one:a", "two:b", breakers=breakers, now=START + after).start() == ["open 1 two/b"]
    assert Play("one:a", "two:b", breakers=breakers, now=START + 7).start() == ["open 1 one/a"]


def test_a_sole_target_that_wants_to_be_left_alone_is_waited_for_or_told() -> None:
    breakers = Breakers()
    first = Play("one:a", breakers=breakers)
    first.start()
    first.failed(1, "rate_limited", retry_after_s=30.0)
    told = Play("one:a", breakers=breakers, now=START + 10)
    assert told.start() == ["give up 429 rate_limit_exceeded"]
    assert told.verdict is not None
    assert (told.verdict.retry_after_s, told.verdict.should_retry) == (20.0, True)
    assert "one/a: not asked (cooling for another 20 s" in told.verdict.message
    waits = Play("one:a", breakers=breakers, now=START + 25)
    assert waits.start() == []
    assert waits.due == 5.25
    assert waits.wait() == ["open 1 one/a"]
    assert waits.failed(1, "server_fault") == []  # and then like any other
    waits.wait()
    waits.failed(2, "server_fault")
    assert waits.verdict is not None
    assert "not asked" not in waits.verdict.message


def test_a_wait_that_is_prolonged_is_waited_for_again() -> None:
    breakers = Breakers()
    first, second = (Play("one:a", breakers=breakers) for _ in range(2))
    first.start()
    second.start()
    first.failed(1, "rate_limited", retry_after_s=5.0)
    second.failed(1, "rate_limited", retry_after_s=7.0)
    assert first.due == 5.25
    assert first.wait() == []
    assert first.due == 2.0
    assert first.wait() == ["open 2 one/a"]


def test_a_wait_that_is_always_prolonged_has_an_end() -> None:
    breakers = Breakers()
    play = Play("one:a", breakers=breakers)
    play.start()
    play.failed(1, "rate_limited", retry_after_s=5.0)
    waits = 0
    while play.verdict is None:
        breakers.record(play.key("one:a"), failure("rate_limited", retry_after_s=7.0), play.now + 5)
        play.wait()
        waits += 1
    assert waits == 3  # as many as the policy allows attempts
    assert play.verdict.status == 429
    assert len(play.opened) == 1


def test_a_target_that_is_barred_between_plan_and_turn_is_left_out() -> None:
    play = Play("one:a", "two:b", "three:c")
    play.start()
    play.breakers.record(play.key("two:b"), failure("auth"), START)
    assert play.failed(1, "server_fault") == ["open 2 three/c"]
    play.failed(2, "slow")
    play.wait()
    assert play.failed(3, "slow")[0] == "give up 504 upstream_timeout"
    assert play.verdict is not None
    assert "two/b: not asked (its credential was refused" in play.verdict.message


def test_when_all_that_follow_are_barred_the_same_is_asked_again() -> None:
    play = Play("one:a", "two:b")
    play.start()
    play.breakers.record(play.key("two:b"), failure("auth"), START)
    assert play.failed(1, "server_fault") == []
    assert play.wait() == ["open 2 one/a"]


# --- plans without candidates ------------------------------------------------------------------------


def test_a_local_only_rule_without_a_local_target() -> None:
    play = Play("openai:g", policy=LOCAL_ONLY)
    assert play.start() == ["give up 503 local_only"]
    assert play.session.timer is None


def test_a_rule_whose_targets_are_all_unusable() -> None:
    play = Play("local:q", unusable=lambda aim: failure("model_missing"))
    assert play.start() == ["give up 404 model_not_found"]


def test_every_outcome_has_its_row() -> None:
    assert set(MEANING) == set(Outcome)
