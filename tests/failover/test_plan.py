"""What a request may try, in which order, and what was left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.breaker import Breakers
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Candidate, CredentialRef, Plan, make_plan
from gateway.failover.policy import DEFAULT, LOCAL_ONLY
from gateway.routing.table import Aim
from tests.failover.play import START, aims, failure, plan_for


def labels(plan: Plan) -> list[str]:
    return [each.label + (f" {each.credential}" if each.credential else "") for each in plan.candidates]


def skips(plan: Plan) -> list[tuple[str, Outcome | None]]:
    return [(each.label, each.outcome) for each in plan.skipped]


def test_targets_stand_in_the_order_of_the_rule_with_their_credentials() -> None:
    plan = plan_for(["one:a", "local:q", "two:b"], keys=2)
    assert labels(plan) == ["one/a key1", "one/a key2", "local/q", "two/b key1", "two/b key2"]
    assert [each.aim_index for each in plan.candidates] == [0, 0, 1, 2, 2]
    assert plan.skipped == ()
    assert not plan.local_only


def test_a_candidate_knows_its_key_and_its_label() -> None:
    candidate = Candidate(0, "one", "a", "main", 7, 3)
    assert candidate.key == ("one", 7, "a", 3)
    assert (candidate.label, candidate.is_local) == ("one/a", False)
    assert (Candidate(0, "local", "").label, Candidate(0, "local", "").is_local) == ("local", True)


def test_an_upstream_that_asks_for_nothing_is_shown_nothing() -> None:
    plan = make_plan(
        aims("ollama:q"),
        DEFAULT,
        credentials={},
        unusable=lambda aim: None,
        judge=lambda key: Breakers().judge(key, 0),
    )
    assert plan.candidates == (Candidate(0, "ollama", "q"),)


def test_an_upstream_without_a_credential_is_left_out_with_the_way_to_mend_it() -> None:
    plan = plan_for(["one:a", "local:q"], keys=0)
    assert labels(plan) == ["local/q"]
    assert skips(plan) == [("one/a", Outcome.AUTH)]
    assert "mlx-gateway credentials add one" in plan.skipped[0].reason


def test_nothing_leaves_the_machine_under_stay_local() -> None:
    asked: list[Aim] = []

    def unusable(aim: Aim) -> Failure | None:
        asked.append(aim)
        return None

    plan = plan_for(["one:a", "local:q", "two:b"], LOCAL_ONLY, unusable=unusable)
    assert labels(plan) == ["local/q"]
    assert skips(plan) == [("one/a", None), ("two/b", None)]
    assert plan.local_only
    assert asked == [Aim("local", "q")]  # the others are not even looked at


@given(st.lists(st.sampled_from(["local:q", "local:r", "one:a", "two:b", "locals:x"]), max_size=8))
def test_a_local_only_plan_has_no_other_candidate(targets: list[str]) -> None:
    plan = plan_for(targets, LOCAL_ONLY)
    assert all(each.backend == "local" for each in plan.candidates)
    assert len(plan.candidates) + len(plan.skipped) == len(targets)


def test_what_cannot_answer_this_request_is_left_out_with_its_reason() -> None:
    missing = failure("model_missing")
    plan = plan_for(["local:q", "one:a"], unusable=lambda aim: missing if aim.backend == "local" else None)
    assert labels(plan) == ["one/a key1"]
    assert plan.skipped[0].failure is missing
    assert (plan.skipped[0].label, plan.skipped[0].reason) == ("local/q", missing.message)


def cool(breakers: Breakers, target: str, wait_s: float) -> None:
    """Make `target` cool for so long, as a guess."""
    for candidate in plan_for([target]).candidates:
        breakers.record(candidate.key, failure("overloaded", retry_after_s=wait_s), START)


def bar(breakers: Breakers, target: str, wait_s: float) -> None:
    """Let the upstream of `target` tell that it wants to be left alone for so long."""
    for candidate in plan_for([target]).candidates:
        breakers.record(candidate.key, failure("rate_limited", retry_after_s=wait_s), START)


def test_one_that_cools_stands_behind_those_that_do_not() -> None:
    breakers = Breakers()
    cool(breakers, "one:a", 20)
    plan = plan_for(["one:a", "two:b", "local:q"], breakers=breakers)
    assert labels(plan) == ["two/b key1", "local/q", "one/a key1"]
    assert plan.skipped == ()


def test_of_several_that_cool_the_one_due_soonest_is_the_last_resort() -> None:
    breakers = Breakers()
    cool(breakers, "one:a", 20)
    cool(breakers, "two:b", 10)
    plan = plan_for(["one:a", "two:b", "local:q"], breakers=breakers)
    assert labels(plan) == ["local/q", "two/b key1"]
    assert skips(plan) == [("one/a", Outcome.OVERLOADED)]
    assert plan.skipped[0].reason == "cooling for another 20 s after overloaded"
    assert plan.skipped[0].failure is not None
    assert plan.skipped[0].failure.retry_after_s == 20
    assert labels(plan_for(["one:a", "two:b"], breakers=breakers)) == ["two/b key1"]


def test_one_whose_time_is_over_has_its_old_place() -> None:
    breakers = Breakers()
    cool(breakers, "one:a", 20)
    assert labels(plan_for(["one:a", "local:q"], breakers=breakers, now=START + 20)) == [
        "one/a key1",
        "local/q",
    ]


def test_a_barred_one_is_left_out_where_there_is_another() -> None:
    breakers = Breakers()
    bar(breakers, "one:a", 7)
    plan = plan_for(["one:a", "local:q"], breakers=breakers)
    assert labels(plan) == ["local/q"]
    assert skips(plan) == [("one/a", Outcome.RATE_LIMITED)]


def test_one_that_only_cools_is_better_than_one_that_is_barred() -> None:
    breakers = Breakers()
    bar(breakers, "one:a", 7)
    cool(breakers, "two:b", 20)
    assert labels(plan_for(["one:a", "two:b"], breakers=breakers)) == ["two/b key1"]


def test_where_all_are_barred_the_one_due_soonest_may_be_waited_for() -> None:
    breakers = Breakers()
    bar(breakers, "one:a", 9)
    bar(breakers, "two:b", 7)
    plan = plan_for(["one:a", "two:b"], breakers=breakers)
    assert labels(plan) == ["two/b key1"]
    assert skips(plan) == [("one/a", Outcome.RATE_LIMITED)]


def test_a_dead_credential_is_never_in_a_plan() -> None:
    breakers = Breakers()
    (candidate,) = plan_for(["one:a"]).candidates
    breakers.record(candidate.key, failure("auth"), START)
    plan = plan_for(["one:a"], breakers=breakers)
    assert plan.candidates == ()
    assert skips(plan) == [("one/a", Outcome.AUTH)]
    other = plan_for(["one:a"], breakers=breakers, keys=2)
    assert labels(other) == ["one/a key2"]


def test_a_changed_credential_is_tried_again() -> None:
    breakers = Breakers()
    (candidate,) = plan_for(["one:a"]).candidates
    breakers.record(candidate.key, failure("auth"), START)
    plan = make_plan(
        aims("one:a"),
        DEFAULT,
        credentials={"one": [CredentialRef(1, "key1", 2)]},
        unusable=lambda aim: None,
        judge=lambda key: breakers.judge(key, START),
    )
    assert labels(plan) == ["one/a key1"]
