"""Policies: each knob within its range, in words that say what the range is."""

from __future__ import annotations

from dataclasses import fields

import pytest

from gateway.errors import MissingError, RefusedError
from gateway.failover.outcome import Outcome
from gateway.failover.policy import BUILT_IN, DEFAULT, MidStream, Policy
from gateway.store import policies
from gateway.store.store import Store
from tests.store.make import add_rule, add_upstream


async def put(store: Store, name: str, /, **knobs: object) -> Policy:
    return (await store.change("test", lambda change: policies.put(change, name, knobs))).value


async def test_knobs_are_kept_and_the_others_stay_what_they_are(store: Store) -> None:
    made = await put(
        store, "fast", first_token_s=4, attempts=2, mid_stream="error", on=["slow", "overloaded"]
    )
    assert made == Policy(
        name="fast",
        first_token_s=4.0,
        attempts=2,
        mid_stream=MidStream.ERROR,
        on=frozenset({Outcome.SLOW, Outcome.OVERLOADED}),
    )
    again = await put(store, "fast", idle_s=5, first_token_s=None)
    assert again == Policy(name="fast", idle_s=5.0, attempts=2, on=made.on)
    assert store.snapshot.policies["fast"] == again
    assert store.snapshot.policies["default"] == DEFAULT


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        ({"first_token_s": 0}, r"first_token_s must be between 0\.05 and 3600, not 0"),
        ({"first_token_s": "4"}, "first_token_s must be a number, not '4'"),
        ({"first_token_s": True}, "must be a number"),
        ({"first_token_s": float("nan")}, "must be between"),
        ({"idle_s": -1}, "idle_s must be between"),
        ({"deadline_s": 1e9}, "deadline_s must be between"),
        ({"attempts": 0}, "attempts must be between 1 and 20"),
        ({"attempts": 2.5}, "attempts must be a whole number"),
        ({"max_queue": 10**5000}, "max_queue must be between"),
        ({"retry_base_s": float("inf")}, "must be between"),
        ({"stay_local": 1}, "stay_local must be true or false"),
        ({"mid_stream": "retry"}, "mid_stream must be one of error, continue, not 'retry'"),
        ({"on": "slow"}, "on must be a list of outcomes"),
        ({"on": ["slow", 5]}, "on must be a list of outcomes"),
        ({"on": ["client_fault"]}, "'client_fault' is no outcome that can go to the next target"),
        ({"first_tokens_s": 4}, "no knob 'first_tokens_s'; did you mean 'first_token_s'"),
        ({"zzz": 4}, "no knob 'zzz'; known: first_token_s"),
        ({"name": "x"}, "no knob 'name'"),
    ],
)
async def test_a_knob_that_is_wrong_changes_nothing(store: Store, knobs: dict[str, object], why: str) -> None:
    before = await put(store, "fast", attempts=2)
    with pytest.raises(RefusedError, match=why):
        await put(store, "fast", **{"idle_s": 3, **knobs})
    assert store.snapshot.policies["fast"] == before


def test_every_knob_of_a_policy_can_be_set() -> None:
    assert set(policies.KNOBS) == {item.name for item in fields(Policy)} - {"name"}
    others = {"mid_stream", "stay_local", "on"}
    assert set(policies.NUMBERS) == set(policies.KNOBS) - others
    for name, knob in policies.NUMBERS.items():
        for policy in BUILT_IN.values():
            value = getattr(policy, name)
            assert value is None if value is None else knob.low <= value <= knob.high


@pytest.mark.parametrize(
    ("knobs", "warning"),
    [
        ({"hedge_after_s": 5, "first_token_s": 4}, "hedge_after_s (5) is never reached"),
        ({"first_token_s": 30, "deadline_s": 20}, "first_token_s (30) is never reached: deadline_s is 20"),
    ],
)
async def test_what_can_never_happen_is_told(store: Store, knobs: dict[str, object], warning: str) -> None:
    done = await store.change("test", lambda change: policies.put(change, "fast", knobs))
    assert len(done.warnings) == 1
    assert warning in done.warnings[0]


async def test_a_built_in_policy_can_be_tuned_and_taken_back(store: Store) -> None:
    await put(store, "default", attempts=1)
    assert store.snapshot.policies["default"].attempts == 1
    await store.change("test", lambda change: policies.remove(change, "default"))
    assert store.snapshot.policies["default"] == DEFAULT
    with pytest.raises(RefusedError, match="built in"):
        await store.change("test", lambda change: policies.remove(change, "default"))


async def test_local_only_stays_local(store: Store) -> None:
    assert (await put(store, "local-only", attempts=1)).stay_local
    with pytest.raises(RefusedError, match="keeps stay_local=true"):
        await put(store, "local-only", stay_local=False)


async def test_a_policy_that_a_rule_names_is_not_removed(store: Store) -> None:
    await put(store, "fast")
    await add_rule(store, policy="fast")
    with pytest.raises(RefusedError, match="there is no policy 'fast'"):
        await store.change("test", lambda change: policies.remove(change, "fast"))
    assert "fast" in store.snapshot.policies


async def test_a_policy_that_would_leave_nothing_to_try_is_refused(store: Store) -> None:
    await put(store, "fast")
    await add_upstream(store)
    await add_rule(store, "gpt-*", "openai", policy="fast")
    with pytest.raises(RefusedError, match="no target can ever be tried"):
        await put(store, "fast", stay_local=True)


async def test_adding_is_for_new_ones_and_finding_for_old_ones(store: Store) -> None:
    await store.change("test", lambda change: policies.add(change, "fast", {}))
    for name in ("fast", "default"):
        with pytest.raises(RefusedError, match="exists already"):
            await store.change("test", lambda change, name=name: policies.add(change, name, {}))
    with pytest.raises(MissingError, match="known: default, local-only, fast"):
        await store.change("test", lambda change: policies.remove(change, "slow"))
