"""Migrations: a backup first, all of a step or nothing, and tables that are what the models say."""

from __future__ import annotations

import sqlite3
import stat
import sys
from pathlib import Path
from types import ModuleType

import peewee
import pytest

from gateway.errors import StoreError
from gateway.store import migrate, models
from gateway.store.store import Store
from tests.store.conftest import Opener
from tests.store.make import add_rule


def columns(path: Path, table: str) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    finally:
        connection.close()


async def test_the_migrated_tables_are_what_the_models_say(store: Store, home: Path) -> None:
    tables = [
        kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, peewee.Model)
    ]
    named = {kind._meta.table_name: kind for kind in tables if kind.__name__.endswith("Row")}
    assert len(named) == 10
    for name, kind in named.items():
        assert columns(home / "gateway.db", name) == set(kind._meta.columns), name


async def test_ids_are_never_used_again(store: Store) -> None:
    from gateway.store import rules

    first = await add_rule(store, "one")
    await store.change("test", lambda change: rules.remove(change, rules.find(change, first.id)))
    assert (await add_rule(store, "two")).id > first.id


async def test_a_new_database_has_the_schema_of_this_program(store: Store, home: Path) -> None:
    assert store.database.migrated == migrate.MIGRATIONS
    connection = sqlite3.connect(home / "gateway.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (migrate.SCHEMA,)
    connection.close()
    assert not (home / "backups").exists()  # there was nothing to back up


def plan_step(monkeypatch: pytest.MonkeyPatch, statements: list[str]) -> None:
    """Add one more step to the program's list, as a later release would."""
    step = ModuleType("step")

    def up(database: peewee.Database) -> None:
        for statement in statements:
            database.execute_sql(statement)

    step.up = up
    monkeypatch.setitem(sys.modules, "gateway.store.migrations.m0999_test", step)
    monkeypatch.setattr(migrate, "MIGRATIONS", (*migrate.MIGRATIONS, "m0999_test"))
    monkeypatch.setattr(migrate, "SCHEMA", migrate.SCHEMA + 1)


async def test_an_older_database_is_backed_up_and_brought_up(
    opened: Opener, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened()
    await add_rule(store, "kept")
    await store.close()
    plan_step(monkeypatch, ["ALTER TABLE rules ADD COLUMN colour TEXT"])
    store = await opened()
    assert store.database.migrated == ("m0999_test",)
    assert [rule.pattern for rule in store.snapshot.rules.rules] == ["kept"]
    assert "colour" in columns(home / "gateway.db", "rules")
    (backup,) = (home / "backups").iterdir()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert "colour" not in columns(backup, "rules")
    await store.close()
    assert (await opened()).database.migrated == ()


async def test_a_step_that_fails_leaves_the_database_as_it_was(
    opened: Opener, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened()
    await add_rule(store, "kept")
    await store.close()
    with monkeypatch.context() as patch:
        plan_step(patch, ["ALTER TABLE rules ADD COLUMN colour TEXT", "DROP TABLE nowhere"])
        with pytest.raises(StoreError, match="nowhere"):
            await opened()
    assert "colour" not in columns(home / "gateway.db", "rules")
    assert [rule.pattern for rule in (await opened()).snapshot.rules.rules] == ["kept"]


SCHEMAS = Path(__file__).parent / "schemas"


def lay(home: Path, dump: str) -> None:
    """Put a database of an older release, with what was in it, into the home."""
    home.mkdir(mode=0o700)
    connection = sqlite3.connect(home / "gateway.db")
    connection.executescript((SCHEMAS / dump).read_text())
    connection.close()


def contents(path: Path, tables: list[str]) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    try:
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    finally:
        connection.close()


@pytest.mark.parametrize("schema", [1, 2])
async def test_an_older_schema_is_brought_up_with_everything_that_is_in_it(
    opened: Opener, home: Path, schema: int
) -> None:
    lay(home, f"schema{schema}.sql")
    tables = ["rules", "targets", "policies", "upstreams", "credentials", "client_keys", "history"]
    tables += ["requests"] if schema > 1 else []
    before = contents(home / "gateway.db", tables)
    assert all(before.values())
    store = await opened()
    assert store.database.migrated == migrate.MIGRATIONS[schema:]
    now = contents(home / "gateway.db", tables)
    added = {"upstreams": ("[]", "order"), "credentials": (1,), "requests": (None, None)}
    assert now == {name: [row + added.get(name, ()) for row in rows] for name, rows in before.items()}
    (backup,) = (home / "backups").iterdir()
    assert contents(backup, tables) == before
    assert columns(backup, "standings") == set()
    assert (store.snapshot.upstreams["openai"].abilities, store.snapshot.upstreams["openai"].spread) == (
        (),
        "order",
    )
    [rule] = store.snapshot.rules.rules
    assert (rule.id, rule.pattern, [str(target) for target in rule.targets]) == (
        1,
        "gpt-4o*",
        ["local:demo", "openai:{model}"],
    )
    assert store.snapshot.policies["fast"].attempts == 2
    assert [client.name for client in store.snapshot.clients.values()] == ["laptop"]
    assert [held.hint for held in store.snapshot.credentials["openai"]] == ["sk-...hers"]
    assert store.problems == ()
    assert (await add_rule(store, "new")).id == 3  # 2 was removed and is not used again


@pytest.mark.parametrize("schema", [1, 2])
def test_the_steps_make_the_very_tables_of_an_older_release(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    def tables(path: Path) -> set[str]:
        connection = sqlite3.connect(path)
        try:
            return {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
        finally:
            connection.close()

    lay(home, f"schema{schema}.sql")
    released = tables(home / "gateway.db")
    monkeypatch.setattr(migrate, "MIGRATIONS", migrate.MIGRATIONS[:schema])
    monkeypatch.setattr(migrate, "SCHEMA", schema)
    made = peewee.SqliteDatabase(tmp_path / "made.db")
    made.connect()
    migrate.migrate(made, back_up=lambda version: None)
    made.close()
    assert tables(tmp_path / "made.db") == released
