"""Foreign errors of databases and files, turned into our sentences in one place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import peewee

from gateway.errors import StoreError

_SENTENCES = {
    "locked": "the database is locked by another program; close what has it open and try again",
    "full": "the disk is full: nothing was changed; free some space and try again",
    "read_only": "the database can only be read: nothing was changed; check the permissions of the home",
    "corrupt": "the database is damaged; stop the gateway and put a backup in the place of gateway.db",
}

# SQLite's primary result codes; an extended code keeps the primary one in its low byte.
_CODES = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
}

# The same for PostgreSQL, by SQLSTATE. Two changes that met are told to try again, as with a lock.
_STATES = {
    "40001": "locked",
    "40P01": "locked",
    "55P03": "locked",
    "53100": "full",
    "25006": "read_only",
}


def store_error(error: peewee.PeeweeException) -> StoreError:
    """The StoreError for what Peewee raised. Values of the statement are never in its message."""
    code = _code(error)
    if code is None:
        return StoreError(f"the database refused: {_first_line(error)}", code="broken")
    return StoreError(_SENTENCES[code], code=code)


@contextmanager
def mapped() -> Iterator[None]:
    """Let only our own errors out of the block."""
    try:
        yield
    except peewee.PeeweeException as error:
        raise store_error(error) from error


def _code(error: BaseException) -> str | None:
    """Our word for it. The driver's error, which knows the number, is what Peewee's came from."""
    inner: BaseException | None = error
    while inner is not None:
        number = getattr(inner, "sqlite_errorcode", None)
        if isinstance(number, int) and number & 0xFF in _CODES:
            return _CODES[number & 0xFF]
        state = getattr(inner, "sqlstate", None)
        if state in _STATES:
            return _STATES[state]
        inner = inner.__cause__ or inner.__context__
    return None


def _first_line(error: Exception) -> str:
    # A PostgreSQL driver adds DETAIL lines with the values of the row.
    return str(error).strip().partition("\n")[0][:200]
