"""The few statements that aren't a query on a table; Peewee's types leave these calls untyped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import peewee


def first(database: peewee.Database, statement: str, *values: object) -> tuple[Any, ...] | None:
    """Run a statement and return its first row. `?` stands for a value, whatever the driver says."""
    own = statement.replace("?", database.param)
    cursor = database.execute_sql(own, values)  # type: ignore[no-untyped-call]  # untyped in the stubs
    return cast("tuple[Any, ...] | None", cursor.fetchone())


def run(database: peewee.Database, statement: str, *values: object) -> None:
    """Run a statement that returns nothing."""
    own = statement.replace("?", database.param)
    database.execute_sql(own, values)  # type: ignore[no-untyped-call]  # untyped in the stubs


def number(database: peewee.Database, statement: str) -> int:
    """The one number that a statement returns; 0 when it returns nothing."""
    row = first(database, statement)
    return int(row[0]) if row is not None and row[0] is not None else 0


@contextmanager
def transaction(database: peewee.Database, kind: str) -> Iterator[None]:
    """A transaction whose own error gets out.

    Where the disk is full SQLite rolls back by itself, and Peewee's `atomic` then reports that
    there is nothing to roll back.
    """
    with database.manual_commit():
        database.begin(kind)  # type: ignore[call-arg]  # how it begins is each database's own word
        try:
            yield
            database.commit()
        except BaseException:
            with suppress(peewee.PeeweeException):
                database.rollback()
            raise
