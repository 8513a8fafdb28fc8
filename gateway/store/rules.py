"""Rules: the verbs that write them. What a rule set as a whole may be is checked by `Store.change`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gateway.errors import MissingError, RefusedError
from gateway.routing.rule import Rule, Target
from gateway.store import shown
from gateway.store.change import Change
from gateway.store.models import RuleRow, TargetRow
from gateway.store.names import check_name, check_note

_PATTERN = 256
_PRIORITY = 1_000_000
_TARGETS = 16
_RULES = 2000  # checking a change against all of them takes a second
_MODEL = 256


def find(change: Change, ref: int | str) -> Rule:
    """The rule with this id or exactly this pattern."""
    return find_in(change.before.rules.rules, ref)


def find_in(rules: Iterable[Rule], ref: int | str) -> Rule:
    """The rule with this id or exactly this pattern; MissingError, or RefusedError when several have it."""
    rules = tuple(rules)
    text = str(ref)
    if text.isascii() and text.isdigit():
        for rule in rules:
            if rule.id == int(text):
                return rule
    same = [rule for rule in rules if rule.pattern == text]
    if len(same) > 1:
        ids = ", ".join(str(rule.id) for rule in same)
        raise RefusedError(f"the rules {ids} have the pattern {text!r}; name one by its id")
    if not same:
        raise MissingError(f"there is no rule {text!r}; `mlx-gateway rules list` shows ids and patterns")
    return same[0]


def add(change: Change, rule: Rule, *, action: str = "add") -> Rule:
    """Write a new rule; its id is given here."""
    _check(rule)
    if RuleRow.select().count() >= _RULES:
        raise RefusedError(f"there are {_RULES} rules already, and no more are kept; patterns do with fewer")
    row = RuleRow.create(
        pattern=rule.pattern, priority=rule.priority, enabled=rule.enabled, policy=rule.policy, note=rule.note
    )
    made = replace(rule, id=row.id)
    _write_targets(made)
    change.record("rules", _label(made), action, after=shown.rule(made))
    return made


def put(change: Change, rule: Rule, *, action: str = "set") -> Rule:
    """Write a rule that exists as it is now."""
    _check(rule)
    before = find(change, rule.id)
    RuleRow.update(
        pattern=rule.pattern, priority=rule.priority, enabled=rule.enabled, policy=rule.policy, note=rule.note
    ).where(RuleRow.id == rule.id).execute()
    TargetRow.delete().where(TargetRow.rule == rule.id).execute()
    _write_targets(rule)
    change.record("rules", _label(rule), action, before=shown.rule(before), after=shown.rule(rule))
    return rule


def remove(change: Change, rule: Rule) -> Rule:
    """Remove a rule with its targets."""
    TargetRow.delete().where(TargetRow.rule == rule.id).execute()
    RuleRow.delete().where(RuleRow.id == rule.id).execute()
    change.record("rules", _label(rule), "remove", before=shown.rule(rule))
    return rule


def parse_targets(texts: Iterable[str]) -> tuple[Target, ...]:
    """Read targets as they are written; RefusedError for the first that can't be one."""
    targets = []
    for text in texts:
        try:
            target = Target.parse(text)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        check_name(target.backend, "target")
        if target.model is not None and (len(target.model) > _MODEL or not target.model.isprintable()):
            raise RefusedError(f"target {text[:80]!r}: a model name is at most {_MODEL} printable characters")
        targets.append(target)
    return tuple(targets)


def _check(rule: Rule) -> None:
    if not rule.pattern:
        raise RefusedError("the pattern is empty; write a model name or a pattern such as gpt-4o*")
    if len(rule.pattern) > _PATTERN or not rule.pattern.isprintable():
        raise RefusedError(f"the pattern must be at most {_PATTERN} printable characters")
    if not -_PRIORITY <= rule.priority <= _PRIORITY:
        raise RefusedError(f"priority must be between {-_PRIORITY} and {_PRIORITY}, not {rule.priority}")
    if not rule.targets:
        raise RefusedError("the rule has no target; name at least one, such as local:qwen3-8b")
    if len(rule.targets) > _TARGETS:
        raise RefusedError(f"the rule has {len(rule.targets)} targets; at most {_TARGETS} are tried")
    check_name(rule.policy, "policy")
    check_note(rule.note)


def _write_targets(rule: Rule) -> None:
    for position, target in enumerate(rule.targets):
        TargetRow.create(rule=rule.id, position=position, backend=target.backend, model=target.model)


def _label(rule: Rule) -> str:
    return f"{rule.id} {rule.pattern}"
