"""`db`: the database as a file: copies, its schema, its history."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from gateway.cli.command import Noun
from gateway.cli.output import hint, line, show, size, table, warn, when
from gateway.cli.session import ask, view


class BackupView(msgspec.Struct):
    path: str
    size_bytes: int | None = None
    warnings: list[str] = []


class SchemaView(msgspec.Struct):
    schema: int
    applied: list[str] = []


class EntryView(msgspec.Struct):
    at: str
    noun: str
    action: str
    actor: str = ""
    name: str = ""


command = Noun("db", help="The database.")


@command.command()
@click.argument("path", type=click.Path(path_type=Path))
def backup(path: Path) -> None:
    """Write a copy of the database to PATH, also while the gateway runs."""
    # Absolute: a running daemon has another working directory.
    answer = ask("db.backup", {"path": str(path.expanduser().absolute())})
    found = view(answer, BackupView)
    show(answer, lambda: line(f"wrote {found.path} ({size(found.size_bytes)})"))
    warn(found.warnings)


@command.command()
def migrate() -> None:
    """Bring the database to this version's schema; a copy is made first.

    Every other command, and `serve`, does so too when it opens the database.
    """
    answer = ask("db.migrate")
    show(answer, lambda: line(_migrated(view(answer, SchemaView))))


@command.command()
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, the newest."
)
def history(limit: int) -> None:
    """Show who changed what, the newest first."""
    answer = ask("db.history", {"limit": limit})
    show(answer, lambda: _table(view(answer, list[EntryView])))


def _migrated(found: SchemaView) -> str:
    if not found.applied:
        return f"the database has schema {found.schema}; there was nothing to do"
    return f"the database has schema {found.schema} now; applied {', '.join(found.applied)}"


def _table(entries: list[EntryView]) -> None:
    if not entries:
        hint("nothing was changed yet")
        return
    table(
        ("When", "Who", "What", "Which"),
        [(when(e.at), e.actor, f"{e.noun} {e.action}", e.name) for e in entries],
    )
