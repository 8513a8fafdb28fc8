"""What a request may try, in which order, and what was left out."""

from __future__ import annotations

from dataclasses import replace

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


def slow(aim: Aim) -> Failure | None:
    return failure("slow") if aim.backend == "local" else None


def test_what_would_be_late_is_tried_after_the_others() -> None:
    plan = plan_for(["local:q", "one:a", "two:b"], late=slow)
    assert labels(plan) == ["one/a key1", "two/b key1", "local/q"]
    assert plan.candidates[-1].late == failure("slow")
    assert plan.skipped == ()


def test_what_would_be_late_is_tried_all_the_same_when_there_is_nothing_else() -> None:
    assert labels(plan_for(["local:q"], LOCAL_ONLY, late=slow)) == ["local/q"]


def test_what_cools_is_tried_after_what_would_be_late() -> None:
    breakers = Breakers()
    for _ in range(5):
        breakers.record(plan_for(["one:a"]).candidates[0].key, failure("server_fault"), START)
    plan = plan_for(["one:a", "local:q"], breakers=breakers, late=slow)
    assert labels(plan) == ["local/q", "one/a key1"]


def test_the_policy_says_after_what_a_request_may_move_on_in_the_plan_too() -> None:
    policy = replace(DEFAULT, on=frozenset({Outcome.OVERLOADED}))
    # A queue may send it on, a wait may not, and what local models can't do must not either.
    assert labels(plan_for(["local:q", "one:a"], policy, late=slow)) == ["local/q", "one/a key1"]
    plan = plan_for(
        ["local:q", "one:a"],
        policy,
        unusable=lambda aim: failure("context_too_long") if aim.backend == "local" else None,
    )
    assert labels(plan) == []
    assert [each.reason for each in plan.skipped] == [
        "it was context_too_long",
        "the policy does not move on after context_too_long",
    ]


def test_a_cooling_target_holds_a_request_that_may_not_move_on() -> None:
    policy = replace(DEFAULT, on=frozenset({Outcome.RATE_LIMITED}))
    breakers = Breakers()
    key = plan_for(["one:a"]).candidates[0].key
    for _ in range(5):
        breakers.record(key, failure("server_fault"), START)
    assert labels(plan_for(["one:a", "two:b"], policy, breakers=breakers)) == ["one/a key1"]
    breakers = Breakers()
    breakers.record(key, failure("rate_limited", retry_after_s=30.0), START)
    assert labels(plan_for(["one:a", "two:b"], policy, breakers=breakers)) == ["two/b key1"]


def test_heirs_of_a_broken_answer() -> None:
    plan = plan_for(["one:a", "local:q", "two:b", "local:r"], prefills=lambda aim: aim.backend == "two")
    one, local, _, other = plan.candidates
    assert [each.label for each in plan.heirs(one)] == ["local/q", "local/r", "two/b"]
    assert [each.label for each in plan.heirs(other)] == ["local/r", "local/q", "two/b"]
    assert local.label == "local/q"
