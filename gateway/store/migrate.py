"""Bring a database to this program's schema: a backup first, then each step in one transaction."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import peewee

from gateway.errors import StoreError
from gateway.store import sql

# In order; the position is the version that a step leads to. Released steps are never edited.
MIGRATIONS = ("m0001_first_tables", "m0002_requests", "m0003_standings")
SCHEMA = len(MIGRATIONS)


def version_of(database: peewee.Database) -> int:
    """The schema the database has; 0 for an empty one. Raises StoreError where it isn't ours.

    SQLite says it in user_version as well as in the table, and the higher one counts: whichever
    of the two a newer program wrote, we keep our hands off.
    """
    tables = database.get_tables()
    pragma = sql.number(database, "PRAGMA user_version") if _is_sqlite(database) else 0
    if "meta" in tables:
        row = sql.first(database, "SELECT value FROM meta WHERE key = 'schema'")
        if row is not None and str(row[0]).isdigit():
            return max(int(row[0]), pragma)
    if tables or pragma:
        check_version(pragma)
        raise StoreError(
            "the database holds tables that are not the gateway's; give store.url a database of its own",
            code="broken",
        )
    return 0


def check_version(version: int) -> None:
    """Refuse a schema that a newer program wrote."""
    if version > SCHEMA:
        raise StoreError(
            f"the database has schema {version}, this program knows up to {SCHEMA}; "
            "install the newer mlx-gateway again, or start from the backup it made; nothing was touched",
            code="newer",
        )


def migrate(database: peewee.Database, *, back_up: Callable[[int], object]) -> list[str]:
    """Apply what is missing and return its names. `back_up(version)` is called before the first
    step of a database that holds anything. A step that fails leaves the state before it.
    """
    version = version_of(database)
    check_version(version)
    missing = MIGRATIONS[version:]
    if missing and version:
        back_up(version)
    for number, name in enumerate(missing, start=version + 1):
        step = importlib.import_module(f"gateway.store.migrations.{name}")
        with sql.transaction(database, "IMMEDIATE" if _is_sqlite(database) else "SERIALIZABLE"):
            step.up(database)
            _set_version(database, number)
    return list(missing)


def _set_version(database: peewee.Database, number: int) -> None:
    sql.run(database, "DELETE FROM meta WHERE key = 'schema'")
    sql.run(database, "INSERT INTO meta (key, value) VALUES ('schema', ?)", str(number))
    if _is_sqlite(database):
        sql.run(database, f"PRAGMA user_version = {number:d}")  # part of the transaction, as DDL is


def _is_sqlite(database: peewee.Database) -> bool:
    return isinstance(database, peewee.SqliteDatabase)
