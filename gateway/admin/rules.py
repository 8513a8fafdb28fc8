"""The operations on rules."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from msgspec import UNSET, UnsetType, field

from gateway.admin import rulebook
from gateway.admin.context import Args, Context, Id, Priority, Table, something
from gateway.routing.rule import Rule
from gateway.store import rules, shown
from gateway.store.change import Change, Changed

TABLE = Table("rules")


class Ref(Args):
    """Names a rule by its id or its exact pattern."""

    rule: Id | str


class Add(Args):
    """A new rule."""

    pattern: str
    to: list[str]
    priority: Priority = 0
    policy: str = "default"
    enabled: bool = True
    note: str = ""


class Set(Ref):
    """What changes of a rule."""

    pattern: str | UnsetType = UNSET
    to: list[str] | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    policy: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    note: str | UnsetType = UNSET


class Import(Args):
    """A rule book in TOML; `replace` removes the rules that stand first."""

    toml: str
    replace_: bool = field(default=False, name="replace")


@TABLE.verb("list", reads=True)
async def list_(context: Context, _: Args) -> object:
    """List the rules, older first."""
    return [shown.rule(rule) for rule in context.store.snapshot.rules.rules]


@TABLE.verb("show", Ref, reads=True)
async def show(context: Context, args: Ref) -> object:
    """Show a rule."""
    return shown.rule(rules.find_in(context.store.snapshot.rules.rules, args.rule))


@TABLE.verb("add", Add)
async def add(context: Context, args: Add) -> object:
    """Add a rule."""
    rule = Rule(
        id=0,
        pattern=args.pattern,
        targets=rules.parse_targets(args.to),
        policy=args.policy,
        priority=args.priority,
        enabled=args.enabled,
        note=args.note,
    )
    return _shown(await context.store.change(context.actor, lambda change: rules.add(change, rule)))


@TABLE.verb("set", Set)
async def set_(context: Context, args: Set) -> object:
    """Change a rule."""
    names = ("pattern", "priority", "policy", "enabled", "note")
    given: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not UNSET}
    if args.to is not UNSET:
        given["targets"] = rules.parse_targets(args.to)
    return await _edit(context, args.rule, something(given), action="set")


@TABLE.verb("enable", Ref)
async def enable(context: Context, args: Ref) -> object:
    """Let a rule match again."""
    return await _edit(context, args.rule, {"enabled": True}, action="enable")


@TABLE.verb("disable", Ref)
async def disable(context: Context, args: Ref) -> object:
    """Keep a rule, but let it match nothing."""
    return await _edit(context, args.rule, {"enabled": False}, action="disable")


@TABLE.verb("remove", Ref)
async def remove(context: Context, args: Ref) -> object:
    """Remove a rule."""

    def verb(change: Change) -> Rule:
        return rules.remove(change, rules.find(change, args.rule))

    return _shown(await context.store.change(context.actor, verb))


@TABLE.verb("check", reads=True)
async def check(context: Context, _: Args) -> object:
    """Look for rules that can't work or never get their turn."""
    findings = [
        {
            "level": str(finding.level),
            "rule": finding.rule_id,
            "pattern": finding.pattern,
            "message": finding.message,
        }
        for finding in await asyncio.to_thread(context.store.findings)
    ]
    unread = [
        {"level": "error", "rule": None, "pattern": None, "message": problem}
        for problem in context.store.problems
    ]
    return {"findings": [*unread, *findings]}


@TABLE.verb("import", Import)
async def import_(context: Context, args: Import) -> object:
    """Take rules, policies and upstreams from TOML: all of them or none."""
    book = rulebook.read_book(args.toml)
    done = await context.store.change(
        context.actor, lambda change: rulebook.apply_book(change, book, clear=args.replace_)
    )
    return {**done.value, "warnings": list(done.warnings)}


@TABLE.verb("export", reads=True)
async def export(context: Context, _: Args) -> object:
    """Write rules, policies and upstreams as TOML that `import` takes."""
    return {"toml": rulebook.write_book(context.store.snapshot)}


async def _edit(context: Context, ref: int | str, given: dict[str, Any], *, action: str) -> object:
    def verb(change: Change) -> Rule:
        return rules.put(change, replace(rules.find(change, ref), **given), action=action)

    return _shown(await context.store.change(context.actor, verb))


def _shown(done: Changed[Rule]) -> dict[str, object]:
    return {**shown.rule(done.value), "warnings": list(done.warnings)}
