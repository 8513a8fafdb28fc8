"""The next target starts beside the first when nothing has come for a while."""

from gateway.failover.breaker import Breakers, State
from gateway.failover.budget import RetryBudget
from gateway.failover.policy import LOCAL_ONLY, Policy
from tests.failover.play import START, Play, failure

HEDGE = Policy(name="hedge", hedge_after_s=2.0, deadline_s=60.0)


def test_the_first_content_wins_and_the_loser_is_cancelled() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    assert play.start() == ["open 1 one/a"]
    assert play.due == 2.0
    assert play.wait() == ["open 2 two/b"]
    assert play.content(2, after=0.5) == ["cancel 1", "commit 2"]
    assert play.ended(2) == ["done 2"]
    assert play.session.trace(play.now) == "one/a=cancelled;dur=2500, two/b=ok;dur=500"


def test_the_first_may_still_win() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    play.start()
    play.wait()
    assert play.content(1) == ["cancel 2", "commit 1"]


def test_who_lost_is_nobodys_failure() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    for _ in range(10):
        play = Play("one:a", "two:b", policy=HEDGE, breakers=play.breakers)
        play.start()
        play.wait()
        play.content(2)
        play.ended(2)
    assert play.breakers.judge(play.key("one:a"), play.now).state is State.HEALTHY


def test_content_in_time_needs_no_hedge() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    play.start()
    assert play.content(1, after=1.9) == ["commit 1"]
    assert play.tick(after=1.0) == []


def test_an_error_never_wins() -> None:
    play = Play("one:a", "two:b", "three:c", policy=HEDGE)
    play.start()
    play.wait()
    # The hedge fails: the next one starts at once, and the first goes on.
    assert play.failed(2, "server_fault") == []
    assert play.due == 0
    assert play.tick() == ["open 3 three/c"]
    assert play.content(1, after=9) == ["cancel 3", "commit 1"]


def test_not_even_a_clients_fault_wins() -> None:
    play = Play("one:a", "two:b", "three:c", policy=HEDGE)
    play.start()
    play.wait()
    assert play.failed(2, "client_fault", status=400) == []
    # Nobody new is asked for what one has called wrong, but who runs may still answer.
    assert play.tick(after=5) == []
    assert play.content(1) == ["commit 1"]


def test_when_all_fail_the_clients_fault_is_told() -> None:
    play = Play("one:a", "two:b", "three:c", policy=HEDGE)
    play.start()
    play.wait()
    play.failed(2, "client_fault", status=422)
    assert play.failed(1, "server_fault") == ["give up 422 invalid_request"]


def test_a_race_grows_one_by_one_up_to_the_limit_of_attempts() -> None:
    play = Play("one:a", "two:b", "three:c", "four:d", policy=HEDGE)
    play.start()
    assert play.wait() == ["open 2 two/b"]
    assert play.wait() == ["open 3 three/c"]
    assert play.tick(after=10) == []
    assert play.content(3) == ["cancel 1", "cancel 2", "commit 3"]


def test_another_credential_of_a_slow_target_is_no_hedge() -> None:
    play = Play("one:a", "two:b", policy=HEDGE, keys=2)
    play.start()
    assert play.wait() == ["open 2 two/b"]


def test_a_target_that_cools_is_no_hedge() -> None:
    breakers = Breakers()
    play = Play("one:a", "two:b", "three:c", policy=HEDGE, breakers=breakers)
    play.start()
    for _ in range(5):
        breakers.record(play.key("two:b"), failure("server_fault"), START)
    assert play.wait() == ["open 2 three/c"]


def test_hedges_draw_on_the_retry_budget() -> None:
    budget = RetryBudget()
    while budget.withdraw(START):
        pass
    play = Play("one:a", "two:b", policy=HEDGE, budget=budget)
    play.start()
    assert play.wait() == []
    assert play.content(1) == ["commit 1"]


def test_a_body_that_cannot_be_sent_again_is_not_hedged() -> None:
    play = Play("one:a", "two:b", policy=HEDGE, replayable=lambda: False)
    play.start()
    assert play.wait() == []


def test_a_slow_first_does_not_end_the_race() -> None:
    policy = Policy(name="p", hedge_after_s=2.0, first_token_s=5.0)
    play = Play("one:a", "two:b", policy=policy)
    play.start()
    play.wait()
    assert play.wait() == ["cancel 1"]
    assert play.content(2) == ["commit 2"]


def test_when_the_client_leaves_all_are_cancelled() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    play.start()
    play.wait()
    assert sorted(play.left()) == ["cancel 1", "cancel 2"]


def test_a_failure_before_the_hedge_moves_on_at_once_and_starts_the_clock_anew() -> None:
    play = Play("one:a", "two:b", "three:c", policy=HEDGE)
    play.start()
    assert play.failed(1, "server_fault", after=1.5) == ["open 2 two/b"]
    assert play.due == 2.0
    assert play.wait() == ["open 3 three/c"]


def test_a_hedge_under_stay_local_stays_local() -> None:
    policy = Policy(name="p", hedge_after_s=1.0, stay_local=True)
    play = Play("local:q", "one:a", "local:r", policy=policy)
    play.start()
    assert play.wait() == ["open 2 local/r"]
    assert LOCAL_ONLY.hedge_after_s is None


def test_a_stale_connection_in_a_race_is_left_to_the_others() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    play.start()
    play.wait()
    assert play.failed(1, "connect_fault", stale=True) == []
    assert play.content(2) == ["commit 2"]


def test_a_race_that_all_lose() -> None:
    play = Play("one:a", "two:b", policy=Policy(name="p", hedge_after_s=0.0, first_token_s=4.0))
    play.start()
    play.wait()
    assert play.wait() == ["cancel 1", "cancel 2", "give up 504 upstream_timeout"]


def test_a_deadline_ends_a_race() -> None:
    play = Play("one:a", "two:b", policy=HEDGE)
    play.start()
    play.wait()
    assert play.tick(after=HEDGE.deadline_s) == ["cancel 1", "cancel 2", "give up 504 upstream_timeout"]
