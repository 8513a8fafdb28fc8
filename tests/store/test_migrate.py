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
    assert len(named) == 8
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
