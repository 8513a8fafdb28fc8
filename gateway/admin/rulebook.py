"""Rules, policies and upstreams as one TOML text: what `rules import` takes and `rules export` writes.

Never a secret: credentials and client keys are not part of a book. Importing is idempotent: what is
there already is changed to what the book says, and all of it happens or nothing does.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from msgspec import UNSET, UnsetType

from gateway.admin.arguments import WrongArguments, read_arguments
from gateway.admin.context import Args, Priority
from gateway.admin.upstreams import Fields, given_fields, new_upstream
from gateway.errors import RefusedError
from gateway.failover.policy import BUILT_IN, Policy
from gateway.routing.rule import Rule
from gateway.snapshot import Snapshot, Upstream
from gateway.store import policies, rules, shown, upstreams
from gateway.store.change import Change

_LONGEST = 1_000_000


class RuleEntry(Args):
    """One [[rules]] of a book."""

    pattern: str
    to: list[str]
    priority: Priority = 0
    policy: str = "default"
    enabled: bool = True
    note: str = ""


class UpstreamEntry(Fields):
    """One [upstreams.NAME] of a book."""

    preset: str | UnsetType = UNSET


class Entries(Args):
    """The tables of a book."""

    rules: list[RuleEntry] = []  # noqa: RUF012 - as below
    policies: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - msgspec copies it for every instance
    upstreams: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - as above


@dataclass(frozen=True, slots=True)
class Book:
    """A book that was read: its rules have no ids yet."""

    rules: tuple[Rule, ...]
    policies: Mapping[str, Mapping[str, object]]
    upstreams: Mapping[str, UpstreamEntry]


def read_book(text: str) -> Book:
    """Read a book; RefusedError saying where it is wrong and what was expected."""
    if len(text) > _LONGEST:
        raise RefusedError(f"the rules have {len(text)} characters; at most {_LONGEST} are read")
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the rules are not valid TOML: {error}") from error
    try:
        entries = read_arguments(raw, Entries)
        described = {
            name: read_arguments(table, UpstreamEntry, at=f"upstreams.{name}")
            for name, table in entries.upstreams.items()
        }
    except WrongArguments as error:
        raise RefusedError(f"in the rules: {error}") from error
    return Book(tuple(_rule(entry) for entry in entries.rules), entries.policies, described)


def apply_book(change: Change, book: Book, *, clear: bool) -> dict[str, int]:
    """Write a book. With `clear` the rules that stand are removed first, so that the order of age is
    the book's; without, a rule of the same pattern is changed and all others stay.
    """
    for name, knobs in book.policies.items():
        policies.put(change, name, knobs)
    for name, entry in book.upstreams.items():
        _put_upstream(change, name, entry)
    done = {"added": 0, "changed": 0, "unchanged": 0, "removed": 0}
    standing: dict[str, list[Rule]] = defaultdict(list)
    for rule in change.before.rules.rules:
        if clear:
            rules.remove(change, rule)
            done["removed"] += 1
        else:
            standing[rule.pattern].append(rule)
    for rule in book.rules:
        done[_put_rule(change, rule, standing[rule.pattern])] += 1
    return {**done, "policies": len(book.policies), "upstreams": len(book.upstreams)}


def write_book(snapshot: Snapshot) -> str:
    """The book of a state; reading it into an empty store gives the same rules in the same order."""
    return "\n".join(_lines(snapshot)) + "\n"


def _rule(entry: RuleEntry) -> Rule:
    given = {name: getattr(entry, name) for name in ("pattern", "priority", "policy", "enabled", "note")}
    try:
        return Rule(id=0, targets=rules.parse_targets(entry.to), **given)
    except RefusedError as error:
        raise RefusedError(f"rule {entry.pattern[:80]!r}: {error}") from error


def _put_rule(change: Change, rule: Rule, same: list[Rule]) -> str:
    if not same:
        rules.add(change, rule, action="import")
        return "added"
    old = same.pop(0)
    new = replace(rule, id=old.id)
    if new == old:
        return "unchanged"
    rules.put(change, new, action="import")
    return "changed"


def _put_upstream(change: Change, name: str, entry: UpstreamEntry) -> Upstream:
    given = given_fields(entry)
    old = change.before.upstreams.get(name)
    if old is None:
        preset = None if entry.preset is UNSET else entry.preset
        return upstreams.add(change, new_upstream(name, preset, given), action="import")
    new = replace(old, **given)
    return old if new == old else upstreams.put(change, new, action="import")


def _lines(snapshot: Snapshot) -> Iterator[str]:
    yield "# Rules, policies and upstreams of an mlx-gateway. Credentials are not in here."
    for name, upstream in snapshot.upstreams.items():
        yield f"\n[upstreams.{_key(name)}]"
        yield from _pairs({key: value for key, value in shown.upstream(upstream).items() if key != "name"})
    for policy in snapshot.policies.values():
        knobs = {key: shown.knob(getattr(policy, key)) for key in _set_knobs(policy)}
        if knobs or policy.name not in BUILT_IN:
            yield f"\n[policies.{_key(policy.name)}]"
            yield from _pairs(knobs)
    for rule in snapshot.rules.rules:
        yield "\n[[rules]]"
        entry = shown.rule(rule)
        yield from _pairs(
            {"pattern": entry["pattern"], "to": entry["targets"], "priority": entry["priority"]}
        )
        yield from _pairs({"policy": entry["policy"], "enabled": entry["enabled"], "note": entry["note"]})


def _set_knobs(policy: Policy) -> list[str]:
    ground = BUILT_IN.get(policy.name, Policy(name=policy.name))
    names = [item.name for item in fields(Policy) if item.name != "name"]
    # A knob that is null where the default isn't can't be said in TOML; no knob is.
    return [name for name in names if getattr(policy, name) != getattr(ground, name)]


def _pairs(table: Mapping[str, object]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    assert isinstance(value, dict)
    # TOML has no null: what isn't known isn't said.
    known = {key: item for key, item in value.items() if item is not None}
    inner = ", ".join(f"{_text(key)} = {_value(item)}" for key, item in known.items())
    return f"{{ {inner} }}" if inner else "{}"


def _key(name: str) -> str:
    return _text(name) if "." in name else name


def _text(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
