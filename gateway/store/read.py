"""From rows to one frozen snapshot.

Rows may have been written by hand. One that can't be understood is named in the list of problems
and never takes the others with it, unless leaving it out would open a door: an upstream or a
credential is left out; an unreadable policy becomes one that keeps everything on this machine; an
unreadable client key still counts as one, but works for nobody. An unreadable rule stops the whole
reading, because without it its names might match a rule that sends them elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import peewee

from gateway.errors import GatewayError, StoreError
from gateway.failover.policy import BUILT_IN, LOCAL_ONLY, Policy
from gateway.routing.rule import Rule, Target
from gateway.routing.table import RuleTable
from gateway.snapshot import AuthStyle, ClientKey, Credential, Snapshot, Spread, Upstream
from gateway.store import abilities, policies
from gateway.store.models import ClientKeyRow, CredentialRow, PolicyRow, RuleRow, TargetRow, UpstreamRow
from gateway.wire.dialect import Dialect

M = TypeVar("M", bound=peewee.Model)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot, and what in the database could not be made sense of.

    `phantoms` are policies that rules name and nobody made: each stands in the snapshot as one that
    keeps everything on this machine.
    """

    snapshot: Snapshot
    problems: tuple[str, ...] = ()
    phantoms: frozenset[str] = frozenset()


def read_state(*, generation: int, default_target: Target) -> State:
    """Read everything, inside the caller's transaction. Raises StoreError for an unreadable rule."""
    problems: list[str] = []
    upstreams = _read_upstreams(problems)
    rules = _read_rules()
    found = _read_policies(problems)
    if not default_target.is_local and default_target.backend not in upstreams:
        problems.append(f"routing.default_target names the unknown upstream {default_target.backend!r}")
    phantoms = {rule.policy for rule in rules} - set(found)
    for name in sorted(phantoms):
        problems.append(f"rules name the unknown policy {name!r}; what they match stays on this machine")
        found[name] = _sealed_off(name)
    snapshot = Snapshot(
        generation=generation,
        rules=RuleTable(rules, default_target),
        policies=MappingProxyType(found),
        upstreams=MappingProxyType(upstreams),
        credentials=MappingProxyType(_read_credentials(upstreams, problems)),
        clients=MappingProxyType(_read_clients(problems)),
    )
    return State(snapshot, tuple(problems), frozenset(phantoms))


def _read_rules() -> list[Rule]:
    problems: list[str] = []
    targets: dict[int, list[tuple[int, Target]]] = defaultdict(list)
    for _, target in _records(TargetRow, _target, problems):
        if target is not None:
            targets[target[0]].append(target[1:])
    rules = []
    for _, rule in _records(RuleRow, _rule, problems):
        if rule is not None:
            in_order = sorted(targets[rule.id], key=lambda placed: placed[0])
            rules.append(replace(rule, targets=tuple(target for _, target in in_order)))
    if problems:
        raise StoreError(f"{problems[0]}; correct the row by hand or start from a backup", code="broken")
    return rules


def _read_policies(problems: list[str]) -> dict[str, Policy]:
    found = dict(BUILT_IN)
    for name, policy in _records(PolicyRow, _policy, problems):
        found[str(name)] = policy or _sealed_off(str(name))
    return found


def _read_upstreams(problems: list[str]) -> dict[str, Upstream]:
    read = _records(UpstreamRow, _upstream, problems)
    return {upstream.name: upstream for _, upstream in read if upstream is not None}


def _read_credentials(
    upstreams: dict[str, Upstream], problems: list[str]
) -> dict[str, tuple[Credential, ...]]:
    def convert(row: CredentialRow) -> Credential:
        if row.upstream not in upstreams:
            raise ValueError(f"its upstream {row.upstream!r} does not exist or can't be read")
        # The URL of today: a seal made for another one doesn't open.
        return _credential(row, base_url=upstreams[row.upstream].base_url)

    found: dict[str, list[Credential]] = defaultdict(list)
    for _, credential in _records(CredentialRow, convert, problems):
        if credential is not None:
            found[credential.upstream].append(credential)
    # The heavier first, then the older.
    return {
        name: tuple(sorted(held, key=lambda each: (-each.weight, each.id))) for name, held in found.items()
    }


def _read_clients(problems: list[str]) -> dict[bytes, ClientKey]:
    found = {}
    for key, client in _records(ClientKeyRow, _client, problems):
        made = client or _dead_key(int(key))
        found[made.digest] = made
    return found


def _records(kind: type[M], convert: Callable[[M], R], problems: list[str]) -> Iterator[tuple[Any, R | None]]:
    """Every row's key, by age or name, with its record; None, and a problem, where there is none."""
    for key, read in _rows(kind):
        try:
            yield key, convert(read())
        except (ValueError, TypeError, GatewayError) as error:
            problems.append(f"{kind._meta.table_name}: row {key!r} can't be read: {str(error)[:200]}")
            yield key, None


def _rows(kind: type[M]) -> list[tuple[Any, Callable[[], M]]]:
    """All rows at once; where Peewee can't convert one of them, each for itself."""
    key = kind._meta.primary_key
    assert isinstance(key, peewee.Field)  # no table has a compound one
    with suppress(ValueError, TypeError):
        rows = list(kind.select().order_by(key))
        return [(getattr(row, key.name), partial(_itself, row)) for row in rows]
    keys = [getattr(row, key.name) for row in kind.select(key).order_by(key)]
    return [(value, partial(kind.get_by_id, value)) for value in keys]


def _itself(row: M) -> M:
    return row


def _rule(row: RuleRow) -> Rule:
    return Rule(
        id=row.id,
        pattern=_text(row.pattern),
        targets=(),
        policy=_text(row.policy),
        priority=int(row.priority),
        enabled=bool(row.enabled),
        note=_text(row.note),
    )


def _target(row: TargetRow) -> tuple[int, int, Target]:
    model = None if row.model is None else _text(row.model)
    return row.rule_id, int(row.position), Target(_text(row.backend), model)


def _policy(row: PolicyRow) -> Policy:
    return policies.build(_text(row.name), _object(row.knobs))


def _sealed_off(name: str) -> Policy:
    """What stands for a policy that can't be read: it may have said stay_local."""
    return replace(LOCAL_ONLY, name=name)


def _upstream(row: UpstreamRow) -> Upstream:
    return Upstream(
        name=_text(row.name),
        dialect=Dialect(row.dialect),
        base_url=_text(row.base_url),
        auth=AuthStyle(row.auth),
        headers=_pairs(row.headers),
        query=_pairs(row.query),
        connect_s=float(row.connect_s),
        list_models=bool(row.list_models),
        enabled=bool(row.enabled),
        note=_text(row.note),
        abilities=abilities.read(_text(row.abilities)),
        spread=Spread(row.spread),
    )


def _credential(row: CredentialRow, *, base_url: str) -> Credential:
    return Credential(
        id=row.id,
        upstream=row.upstream,
        name=_text(row.name),
        version=int(row.version),
        base_url=base_url,
        hint=_text(row.hint),
        sealed=bytes(row.sealed),
        enabled=bool(row.enabled),
        weight=int(row.weight),
    )


def _client(row: ClientKeyRow) -> ClientKey:
    digest = bytes(row.digest)
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("its digest is no SHA-256")
    return ClientKey(
        id=row.id,
        name=_text(row.name),
        digest=digest,
        prefix=_text(row.prefix),
        admin=bool(row.admin),
        enabled=bool(row.enabled),
        expires_at=None if row.expires_at is None else float(row.expires_at),
    )


def _dead_key(key: int) -> ClientKey:
    """What stands for a client key that can't be read: without any, callers need none."""
    digest = hashlib.sha256(f"unreadable {key}".encode()).digest()
    return ClientKey(id=key, name=f"unreadable-{key}", digest=digest, prefix="", enabled=False)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value


def _object(text: str) -> dict[str, object]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("expected a JSON object")
    return value


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, _text(value)) for name, value in _object(text).items())
