"""Policies: the knobs, their ranges, and the verbs that set them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gateway.errors import MissingError, RefusedError
from gateway.failover.outcome import Outcome
from gateway.failover.policy import BUILT_IN, LOCAL_ONLY, MOVABLE, MidStream, Policy
from gateway.store import shown
from gateway.store.change import Change
from gateway.store.models import PolicyRow
from gateway.store.names import check_name, check_new


@dataclass(frozen=True, slots=True)
class Knob:
    """What a number may be; `empty` lets it be null, which has a meaning of its own."""

    low: float
    high: float
    whole: bool = False
    empty: bool = False


# Seconds, unless the name says otherwise. The limits keep a slip of the finger from stopping
# everything: a day is longer than any answer, and 20 attempts more than any rule has targets.
NUMBERS: Mapping[str, Knob] = {
    "first_token_s": Knob(0.05, 3600, empty=True),
    "idle_s": Knob(0.05, 3600),
    "deadline_s": Knob(0.05, 86400),
    "attempts": Knob(1, 20, whole=True),
    "retry_base_s": Knob(0, 60),
    "max_wait_s": Knob(0, 3600),
    "max_queue": Knob(0, 10000, whole=True),
    "hedge_after_s": Knob(0, 3600, empty=True),
}
KNOBS = tuple(item.name for item in fields(Policy) if item.name != "name")


def find(change: Change, name: str) -> Policy:
    """The policy, built in or not; MissingError when there is none."""
    policy = change.before.policies.get(name)
    if policy is None:
        raise MissingError(f"there is no policy {name!r}; known: {', '.join(change.before.policies)}")
    return policy


def add(change: Change, name: str, knobs: Mapping[str, object]) -> Policy:
    """Make a policy; RefusedError when there is one of that name."""
    made = [row.name for row in PolicyRow.select(PolicyRow.name)]
    check_new(name, [*BUILT_IN, *made], "policy")
    return put(change, name, knobs)


def put(change: Change, name: str, knobs: Mapping[str, object]) -> Policy:
    """Set knobs of a policy, which is made when it is missing; None takes a knob back to its default."""
    check_name(name, "policy")
    old = change.before.policies.get(name)
    if old is None:
        check_new(name, change.before.policies, "policy")
    row = PolicyRow.get_or_none(PolicyRow.name == name)
    stored: dict[str, object] = json.loads(row.knobs) if row is not None else {}
    for key, value in knobs.items():
        _check_known(key)
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value
    policy = build(name, stored)
    if row is None:
        PolicyRow.create(name=name, knobs=json.dumps(stored))
    else:
        row.knobs = json.dumps(stored)
        row.save()
    change.record(
        "policies",
        name,
        "add" if old is None else "set",
        before=None if old is None else shown.policy(old),
        after=shown.policy(policy),
    )
    _warn(change, policy)
    return policy


def remove(change: Change, name: str) -> Policy:
    """Remove a policy. A built-in one that was changed goes back to what it is."""
    policy = find(change, name)
    removed = PolicyRow.delete().where(PolicyRow.name == name).execute()
    if not removed:
        raise RefusedError(f"the policy {name!r} is built in and can't be removed")
    change.record("policies", name, "remove", before=shown.policy(policy))
    return policy


def build(name: str, knobs: Mapping[str, object]) -> Policy:
    """The policy with these knobs; RefusedError naming the first one that is wrong."""
    values: dict[str, Any] = {key: _value(key, value) for key, value in knobs.items()}
    policy = replace(BUILT_IN.get(name, Policy(name=name)), **values)
    if name == LOCAL_ONLY.name and not policy.stay_local:
        raise RefusedError(
            f"the policy {name!r} keeps stay_local=true; make another policy for what may leave"
        )
    return policy


def _value(key: str, value: object) -> object:
    _check_known(key)
    if key in NUMBERS:
        return _number(key, value, NUMBERS[key])
    if key == "stay_local":
        if not isinstance(value, bool):
            raise RefusedError(f"stay_local must be true or false, not {value!r}")
        return value
    if key == "mid_stream":
        if not isinstance(value, str) or value not in list(MidStream):
            raise RefusedError(f"mid_stream must be one of {', '.join(MidStream)}, not {value!r}")
        return MidStream(value)
    return _outcomes(value)


def _number(key: str, value: object, knob: Knob) -> float | int | None:
    if value is None and knob.empty:
        return None
    kind = "a whole number" if knob.whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"{key} must be {kind}, not {value!r}")
    if not knob.low <= value <= knob.high:  # false for nan, too
        came = f", not {value:g}" if abs(value) < 1e15 else ""
        raise RefusedError(f"{key} must be between {knob.low:g} and {knob.high:g}{came}")
    if knob.whole and value != int(value):
        raise RefusedError(f"{key} must be {kind}, not {value:g}")
    return int(value) if knob.whole else float(value)


def _outcomes(value: object) -> frozenset[Outcome]:
    allowed = [str(outcome) for outcome in Outcome if outcome in MOVABLE]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise RefusedError(f"on must be a list of outcomes, not {value!r}; known: {', '.join(allowed)}")
    for item in value:
        if item not in allowed:
            raise RefusedError(
                f"on: {item!r} is no outcome that can go to the next target; known: {', '.join(allowed)}"
            )
    return frozenset(Outcome(item) for item in value)


def _check_known(key: str) -> None:
    if key not in KNOBS:
        near = difflib.get_close_matches(key, KNOBS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KNOBS)}"
        raise RefusedError(f"a policy has no knob {key!r}; {hint}")


def _warn(change: Change, policy: Policy) -> None:
    limit_s = policy.deadline_s if policy.first_token_s is None else policy.first_token_s
    if policy.hedge_after_s is not None and policy.hedge_after_s >= limit_s:
        change.warn(
            f"hedge_after_s ({policy.hedge_after_s:g}) is never reached: a target has {limit_s:g} s in all"
        )
    if policy.first_token_s is not None and policy.first_token_s > policy.deadline_s:
        change.warn(
            f"first_token_s ({policy.first_token_s:g}) is never reached: deadline_s is {policy.deadline_s:g}"
        )
