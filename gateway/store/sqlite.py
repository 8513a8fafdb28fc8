"""Open a SQLite file the way a program that must not lose anything opens it.

One read-write connection only: SQLite before 3.51.3 can corrupt a WAL database when two connections
write and checkpoint at once, and the one on most machines is older.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peewee

from gateway.errors import StoreError
from gateway.store import sql
from gateway.store.faults import mapped, store_error
from gateway.store.home import make_private_file
from gateway.store.migrate import check_version

_MAGIC = b"SQLite format 3\0"

# Foreign keys are off and schemas are trusted by default; both are wrong for us. secure_delete
# overwrites what was deleted: an old sealed secret shouldn't linger in a free page.
_PRAGMAS = {
    "foreign_keys": 1,
    "trusted_schema": 0,
    "secure_delete": 1,
    "cell_size_check": 1,
    "mmap_size": 0,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """An open connection. `read_only` says why it can't be written to, None if it can."""

    database: peewee.SqliteDatabase
    read_only: str | None = None


def open_file(path: Path, *, busy_s: float) -> Opened:
    """Open or make the database. Raises StoreError for one that is newer, damaged or unreachable.

    A file that can't be written to now (permissions, a read-only or a full disk) is opened for
    reading: what it says still routes requests.
    """
    peek(path)
    if path.exists() and not _is_writable(path):
        return _open_to_read(path, busy_s=busy_s)
    try:
        with mapped():
            make_private_file(path)
            return Opened(_open_to_write(path, busy_s=busy_s))
    except StoreError as error:
        if error.code not in ("full", "read_only") or not path.exists() or not path.stat().st_size:
            raise
        return _open_to_read(path, busy_s=busy_s)


def peek(path: Path) -> None:
    """Look at the header alone: a newer or a foreign file isn't even opened, so it stays untouched."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}", code="read_only") from error
    if not header:
        return
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise StoreError(
            f"{path} is not a database; put a backup in its place (see {path.parent / 'backups'})",
            code="corrupt",
        )
    check_version(int.from_bytes(header[60:64], "big"))


def check_whole(database: peewee.SqliteDatabase) -> None:
    """Let SQLite look for damage; it finds most, not all, which is one reason for sealed secrets."""
    with mapped():
        found = sql.first(database, "PRAGMA quick_check(1)")
    if found is None or found[0] != "ok":
        raise StoreError(
            "the database is damaged; put a backup in the place of gateway.db (see the folder backups)",
            code="corrupt",
        )


@contextmanager
def waiting(database: peewee.SqliteDatabase, wait_s: float, *, then: float) -> Iterator[None]:
    """Wait so long for a lock in the block, and `then` again afterwards."""
    sql.run(database, f"PRAGMA busy_timeout = {round(wait_s * 1000):d}")
    try:
        yield
    finally:
        sql.run(database, f"PRAGMA busy_timeout = {round(then * 1000):d}")


def _open_to_write(path: Path, *, busy_s: float) -> peewee.SqliteDatabase:
    database = peewee.SqliteDatabase(
        str(path),
        pragmas=_PRAGMAS,
        timeout=busy_s,
        autoconnect=False,
        thread_safe=False,
    )
    database.connect()
    try:
        database.pragma("journal_mode", "wal")
        database.pragma("synchronous", "full")
        if sys.platform == "darwin":
            database.pragma("fullfsync", 1)
        # Whatever will refuse the first change shall do so now, while it can be said clearly.
        with sql.transaction(database, "IMMEDIATE"):
            pass
    except peewee.PeeweeException:
        database.close()
        raise
    return database


def _open_to_read(path: Path, *, busy_s: float) -> Opened:
    journal = path.with_name(path.name + "-wal")
    left_over = journal.exists() and journal.stat().st_size > 0
    # Without a place for its shared memory SQLite reads a WAL database only as immutable; that
    # would ignore what a journal still holds, so then only the honest way is tried.
    ways = ("mode=ro",) if left_over else ("mode=ro", "immutable=1")
    problem: peewee.PeeweeException | None = None
    for way in ways:
        database = peewee.SqliteDatabase(
            f"{path.absolute().as_uri()}?{way}",
            uri=True,
            timeout=busy_s,
            autoconnect=False,
            thread_safe=False,
        )
        try:
            database.connect()
            database.get_tables()
        except peewee.PeeweeException as error:
            problem = error
            if not database.is_closed():
                database.close()
        else:
            return Opened(database, f"{path} can't be written to")
    assert problem is not None
    raise store_error(problem) from problem


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
