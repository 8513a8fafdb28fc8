"""A committed answer that broke is gone on with, where the policy says so and it can be."""

from gateway.failover.budget import RetryBudget
from gateway.failover.policy import DEFAULT, MidStream, Policy
from tests.failover.play import START, Play

GO_ON = Policy(name="p", mid_stream=MidStream.CONTINUE, deadline_s=60.0)


def answering(*targets: str, policy: Policy = GO_ON, **how: object) -> Play:
    """The first target has shown content."""
    play = Play(*targets, policy=policy, **how)  # type: ignore[arg-type]
    play.start()
    play.content(1, after=1)
    return play


def test_a_local_model_goes_on_exactly_where_its_worker_died() -> None:
    play = answering("local:q", "one:a")
    assert play.broke(1, "local_fault") == ["continue 1 by 2 local/q exactly"]
    assert play.content(2) == ["commit 2"]
    assert play.ended(2) == ["done 2"]
    assert play.session.trace(play.now) == "local/q=local_fault;dur=1000, local/q=ok;dur=0"


def test_a_local_model_goes_on_where_a_cloud_stopped() -> None:
    play = answering("one:a", "two:b", "local:q")
    assert play.broke(1, "server_fault") == ["continue 1 by 2 local/q"]


def test_a_local_model_that_failed_before_may_go_on() -> None:
    play = Play("local:q", "one:a", policy=GO_ON)
    play.start()
    play.failed(1, "overloaded")
    play.content(2)
    assert play.broke(2, "server_fault") == ["continue 2 by 3 local/q"]


def test_a_cloud_goes_on_only_where_it_says_that_it_can() -> None:
    play = answering("one:a", "two:b", "three:c", prefills=lambda aim: aim.backend == "three")
    assert play.broke(1, "server_fault") == ["continue 1 by 2 three/c"]
    play = answering("one:a", "two:b")
    assert play.broke(1, "server_fault") == ["break 1 502 upstream_stream_interrupted"]


def test_the_next_goes_on_when_the_first_cannot() -> None:
    play = answering("local:q", "local:r", "one:a")
    assert play.broke(1, "local_fault") == ["continue 1 by 2 local/q exactly"]
    assert play.failed(2, "local_fault") == ["continue 1 by 3 local/r"]
    # The policy's limit of three attempts is reached, and what is told is the break.
    assert play.failed(3, "server_fault") == ["break 1 503 generation_failed"]


def test_one_that_is_slow_to_go_on_is_passed_over() -> None:
    policy = Policy(name="p", mid_stream=MidStream.CONTINUE, first_token_s=3.0)
    play = answering("one:a", "local:q", "local:r", policy=policy)
    play.broke(1, "server_fault")
    assert play.due == 3.0
    assert play.wait() == ["cancel 2", "continue 1 by 3 local/r"]


def test_what_goes_on_may_break_too() -> None:
    play = answering("local:q", "one:a")
    play.broke(1, "local_fault")
    play.content(2)
    assert play.broke(2, "local_fault") == ["continue 2 by 3 local/q exactly"]
    play.content(3)
    assert play.broke(3, "local_fault") == ["break 3 503 generation_failed"]


def test_what_cannot_be_gone_on_with_is_broken() -> None:
    play = answering("local:q")
    assert play.broke(1, "local_fault", resumable=False) == ["break 1 503 generation_failed"]


def test_an_error_is_the_default() -> None:
    play = answering("local:q", policy=DEFAULT)
    assert play.broke(1, "local_fault") == ["break 1 503 generation_failed"]


def test_going_on_draws_on_the_budget_and_on_the_deadline() -> None:
    budget = RetryBudget()
    while budget.withdraw(START):
        pass
    play = answering("local:q", budget=budget)
    assert play.broke(1, "local_fault") == ["break 1 503 generation_failed"]
    play = answering("local:q")
    play.broke(1, "local_fault")
    assert play.tick(after=100) == ["cancel 2", "break 1 503 generation_failed"]


def test_a_client_that_leaves_meanwhile_stops_it() -> None:
    play = answering("local:q")
    play.broke(1, "local_fault")
    assert play.left() == ["cancel 2"]


def test_nobody_hedges_while_going_on() -> None:
    policy = Policy(name="p", mid_stream=MidStream.CONTINUE, hedge_after_s=1.0)
    play = answering("local:q", "one:a", policy=policy)
    play.broke(1, "local_fault")
    assert play.tick(after=30) == []
    assert play.content(2) == ["commit 2"]
