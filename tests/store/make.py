"""Shorthand for the records that store tests write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.failover.outcome import Outcome
from gateway.routing.rule import Rule, Target
from gateway.snapshot import Credential, Upstream
from gateway.store import credentials, requests, rules, upstreams
from gateway.store.requests import Entry
from gateway.store.secrets import Secret
from gateway.store.store import Store
from gateway.telemetry.finished import Finished
from gateway.wire.dialect import Dialect
from gateway.wire.usage import Usage

CANARY = "sk-proj-CANARY-7f3a9c51d2e84b06-feathers"

DONE = Finished(
    request_id="req_1",
    method="POST",
    path="/v1/chat/completions",
    status=200,
    seconds=0.8124,
    stream=True,
    client="laptop",
    model="gpt-4o-mini",
    rule="gpt-4o*",
    served_by="openai/gpt-4o",
    trace="local/qwen3-8b=overloaded;dur=3, openai/gpt-4o=ok;dur=812",
    attempts=(("local/qwen3-8b", Outcome.OVERLOADED), ("openai/gpt-4o", Outcome.OK)),
    first_content_s=0.12,
    usage=Usage(12, 345, 7),
    other_usage=Usage(13, 40),
)


def upstream(name: str = "openai", url: str = "https://api.openai.com/v1") -> Upstream:
    return Upstream(name=name, dialect=Dialect.OPENAI, base_url=url)


def rule(pattern: str = "gpt-*", *targets: str, **more: object) -> Rule:
    aims = tuple(Target.parse(text) for text in targets or ("local:tiny",))
    return Rule(id=0, pattern=pattern, targets=aims, **more)


async def add_upstream(store: Store, name: str = "openai", url: str = "https://api.openai.com/v1") -> None:
    await store.change("test", lambda change: upstreams.add(change, upstream(name, url)))


async def add_rule(store: Store, pattern: str = "gpt-*", *targets: str, **more: object) -> Rule:
    made = rule(pattern, *targets, **more)
    return (await store.change("test", lambda change: rules.add(change, made))).value


async def add_credential(
    store: Store, upstream_name: str = "openai", name: str = "default", secret: str = CANARY, weight: int = 1
) -> Credential:
    await store.change(
        "test", lambda change: credentials.add(change, upstream_name, name, Secret(secret), weight=weight)
    )
    return next(held for held in store.snapshot.credentials[upstream_name] if held.name == name)


def by_hand(home: Path, *statements: str) -> None:
    """Change the database as a person with the sqlite3 tool would."""
    connection = sqlite3.connect(home / "gateway.db")
    try:
        with connection:
            for statement in statements:
                connection.execute(statement)
    finally:
        connection.close()


async def kept(store: Store, limit: int = 1000, **of: str) -> list[Entry]:
    """What `db requests` would show: all that can be written now is."""
    await store.database.run(store.database.catch_up)
    return await store.read(lambda: requests.latest(limit, **of))
