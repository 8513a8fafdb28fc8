"""A copy of the database while it is in use, made by SQLite itself and never half there."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import peewee

from gateway.errors import RefusedError, StoreError
from gateway.store.home import make_private_file, put_in_place


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished copy. It holds the sealed secrets, not the master key that opens them."""

    path: Path
    size_bytes: int


def copy_database(database: peewee.Database, target: Path) -> Backup:
    """Copy to `target`: a file that doesn't exist, or a folder to put one into. On the database's thread."""
    if not isinstance(database, peewee.SqliteDatabase):
        raise RefusedError("only a SQLite database is copied here; use the backup of the database server")
    if target.is_dir():
        target /= time.strftime("gateway-%Y%m%d-%H%M%S.db", time.gmtime())
    if target.exists():
        raise RefusedError(f"{target} exists; name a file that doesn't")
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        make_private_file(part)
        _copy(
            database.connection(),  # type: ignore[no-untyped-call]  # untyped in the stubs
            part,
        )
        put_in_place(part, target)
    except FileExistsError as error:
        raise RefusedError(f"{target} exists; name a file that doesn't") from error
    except OSError as error:
        raise StoreError(f"can't write the backup {target}: {error.strerror}", code="read_only") from error
    except sqlite3.Error as error:
        raise StoreError(f"can't write the backup {target}: {error}", code="full") from error
    finally:
        part.unlink(missing_ok=True)
    return Backup(target, target.stat().st_size)


def _copy(source: sqlite3.Connection, part: Path) -> None:
    copy = sqlite3.connect(part)
    try:
        source.backup(copy)
        # A single file: without this the copy asks for a journal beside it when it is opened.
        copy.execute("PRAGMA journal_mode = delete")
        found = copy.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        copy.close()
    if found[0] != "ok":
        raise StoreError("the copy is damaged, and so the database must be", code="corrupt")
    with part.open("rb") as file:
        os.fsync(file.fileno())
