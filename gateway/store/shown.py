"""PURE: what may be shown of a record, as plain JSON: in lists, in the history, in exports.

The one place where a record becomes a dict, so that a secret can't get out through another.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import TypedDict

from gateway.failover.ability import Ability
from gateway.failover.outcome import Outcome
from gateway.failover.policy import BUILT_IN, Policy
from gateway.routing.rule import Rule
from gateway.snapshot import ClientKey, Credential, Upstream


class RuleShown(TypedDict):
    id: int
    pattern: str
    priority: int
    enabled: bool
    targets: list[str]
    policy: str
    note: str


class AbilityShown(TypedDict):
    pattern: str
    context: int | None
    vision: bool | None
    tools: bool | None
    json: bool | None
    prefill: bool | None
    responses: bool | None


class UpstreamShown(TypedDict):
    name: str
    dialect: str
    base_url: str
    auth: str
    headers: dict[str, str]
    query: dict[str, str]
    connect_s: float
    list_models: bool
    enabled: bool
    note: str
    abilities: list[AbilityShown]
    spread: str


class CredentialShown(TypedDict):
    id: int
    upstream: str
    name: str
    version: int
    hint: str
    enabled: bool
    weight: int


class ClientShown(TypedDict):
    id: int
    name: str
    prefix: str
    admin: bool
    enabled: bool
    expires_at: str | None


def rule(record: Rule) -> RuleShown:
    """A rule as JSON."""
    return {
        "id": record.id,
        "pattern": record.pattern,
        "priority": record.priority,
        "enabled": record.enabled,
        "targets": [str(target) for target in record.targets],
        "policy": record.policy,
        "note": record.note,
    }


def knob(value: object) -> object:
    """The value of a policy's knob as JSON and TOML know it; outcomes in the order of the table."""
    if isinstance(value, frozenset):
        return [str(outcome) for outcome in Outcome if outcome in value]
    return str(value) if isinstance(value, str) else value


def policy(record: Policy) -> dict[str, object]:
    """A policy as JSON: every knob, and in `set` the names of those that are not the default."""
    ground = BUILT_IN.get(record.name, Policy(name=record.name))
    names = [item.name for item in fields(Policy) if item.name != "name"]
    return {
        "name": record.name,
        "built_in": record.name in BUILT_IN,
        **{name: knob(getattr(record, name)) for name in names},
        "set": [name for name in names if getattr(record, name) != getattr(ground, name)],
    }


def upstream(record: Upstream) -> UpstreamShown:
    """An upstream as JSON."""
    return {
        "name": record.name,
        "dialect": str(record.dialect),
        "base_url": record.base_url,
        "auth": str(record.auth),
        "headers": dict(record.headers),
        "query": dict(record.query),
        "connect_s": record.connect_s,
        "list_models": record.list_models,
        "enabled": record.enabled,
        "note": record.note,
        "abilities": [ability(each) for each in record.abilities],
        "spread": str(record.spread),
    }


def ability(record: Ability) -> AbilityShown:
    """An ability as JSON; null is what nobody has said."""
    return {
        "pattern": record.pattern,
        "context": record.context,
        "vision": record.vision,
        "tools": record.tools,
        "json": record.json,
        "prefill": record.prefill,
        "responses": record.responses,
    }


def credential(record: Credential) -> CredentialShown:
    """A credential as JSON; of its secret only the hint."""
    return {
        "id": record.id,
        "upstream": record.upstream,
        "name": record.name,
        "version": record.version,
        "hint": record.hint,
        "enabled": record.enabled,
        "weight": record.weight,
    }


def client(record: ClientKey) -> ClientShown:
    """A client key as JSON; of the key only how it begins."""
    return {
        "id": record.id,
        "name": record.name,
        "prefix": record.prefix,
        "admin": record.admin,
        "enabled": record.enabled,
        "expires_at": None if record.expires_at is None else moment(record.expires_at),
    }


def moment(unix_time: float) -> str:
    """A point in time as people and programs read it: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
