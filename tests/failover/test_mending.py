"""A target that refuses a part of the request which it can do without is asked again without it."""

from gateway.failover.breaker import State
from gateway.failover.policy import Policy
from tests.failover.play import Play


def test_the_same_target_is_asked_again_without_what_it_refused() -> None:
    play = Play("one:a", "two:b")
    play.start()
    assert play.refused(1, "thinking") == ["open 2 one/a without thinking"]
    assert play.content(2) == ["commit 2"]


def test_several_parts_are_left_out_one_after_the_other() -> None:
    play = Play("one:a", policy=Policy(name="p", attempts=4))
    play.start()
    play.refused(1, "thinking")
    assert play.refused(2, "tool ids") == ["open 3 one/a without thinking and tool ids"]
    # The same once more is nothing that helps.
    assert play.refused(3, "thinking") == ["give up 400 invalid_request"]


def test_a_refusal_that_cannot_be_mended_stands() -> None:
    play = Play("one:a", "two:b")
    play.start()
    assert play.refused(1, "previous response", mendable=False) == ["give up 400 invalid_request"]


def test_the_limit_of_attempts_holds() -> None:
    play = Play("one:a", policy=Policy(name="p", attempts=1))
    play.start()
    assert play.refused(1, "thinking") == ["give up 400 invalid_request"]


def test_the_next_target_gets_the_request_as_it_came() -> None:
    play = Play("one:a", "two:b")
    play.start()
    play.refused(1, "thinking")
    assert play.failed(2, "server_fault") == ["open 3 two/b"]


def test_a_refusal_benches_nobody() -> None:
    play = Play("one:a")
    for _ in range(20):
        play = Play("one:a", breakers=play.breakers)
        play.start()
        play.refused(1, "thinking")
        play.refused(2, "thinking")
    assert play.breakers.judge(play.key("one:a"), play.now).state is State.HEALTHY
