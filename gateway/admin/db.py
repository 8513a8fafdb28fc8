"""The operations on the database as such."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec

from gateway.admin.context import Args, Context, Table
from gateway.errors import RefusedError
from gateway.store import history, requests, shown
from gateway.store.backup import copy_database
from gateway.store.migrate import SCHEMA

TABLE = Table("db")


class Backup(Args):
    """Where the copy goes: a file that doesn't exist yet, or a folder."""

    path: str


class History(Args):
    """How many changes to show."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50


class Requests(Args):
    """How many requests to show, and whether only those of one client or for one model."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    client: str | None = None
    model: str | None = None


@TABLE.verb("backup", Backup)
async def backup(context: Context, args: Backup) -> object:
    """Copy the database while it is in use; the master key is not part of it."""
    path = Path(args.path)
    if not path.is_absolute() or not args.path.isprintable():
        raise RefusedError(f"the path of a backup must be absolute, not {args.path[:200]!r}")
    database = context.store.database
    made = await database.run(lambda: copy_database(database.handle, path))
    return {
        "path": str(made.path),
        "size_bytes": made.size_bytes,
        "schema": SCHEMA,
        "warnings": ["the master key is not in it: without master.key its credentials can't be opened"],
    }


@TABLE.verb("migrate")
async def migrate(context: Context, _: Args) -> object:
    """Say which schema the database has; opening it has brought it there, after a backup."""
    # A running gateway brought it there when it started; nothing of that is this command's work.
    applied = [] if context.live is not None else list(context.store.database.migrated)
    return {"schema": SCHEMA, "applied": applied}


@TABLE.verb("history", History, reads=True)
async def history_(context: Context, args: History) -> object:
    """List who changed what, newest first."""
    entries = await context.store.read(lambda: history.latest(args.limit))
    return [{**asdict(entry), "at": shown.moment(entry.at)} for entry in entries]


@TABLE.verb("requests", Requests, reads=True)
async def requests_(context: Context, args: Requests) -> object:
    """List who asked for which model and who answered, newest first."""
    await context.store.database.run(context.store.database.catch_up)
    entries = await context.store.read(
        lambda: requests.latest(args.limit, client=args.client, model=args.model)
    )
    return [{**asdict(entry), "at": shown.moment(entry.at)} for entry in entries]
