"""`db`: the database: copies, its schema, the history of changes, the ledger of requests."""

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


class RequestView(msgspec.Struct):
    at: str
    status: int
    seconds: float
    client: str = ""
    model: str = ""
    path: str = ""
    served_by: str = ""
    attempts: str = ""
    first_content_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    broken: str = ""


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


@command.command()
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, the newest."
)
@click.option("--client", metavar="NAME", help="Only those of this client key.")
@click.option("--model", metavar="NAME", help="Only those that asked for exactly this model.")
def requests(limit: int, client: str | None, model: str | None) -> None:
    """Show who asked for which model and who answered, the newest first.

    Prompts and answers are not kept. [store] in the configuration says how long the rest is.
    """
    answer = ask("db.requests", {"limit": limit, "client": client, "model": model})
    show(answer, lambda: _requests(view(answer, list[RequestView])))


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


def _requests(entries: list[RequestView]) -> None:
    if not entries:
        hint("no such request was kept")
        return
    table(
        (
            *("When", "Client", "Model", "Answered by", "Status", "Time", "First", "In", "Out"),
            "Trouble",
        ),
        [
            (
                when(e.at, lately=True),
                e.client,
                e.model or e.path,
                e.served_by,
                e.status,
                _took(e.seconds),
                _took(e.first_content_s),
                e.input_tokens,
                e.output_tokens,
                _trouble(e),
            )
            for e in entries
        ],
        spare=("Client", "First", "In", "Out"),
    )


def _trouble(of: RequestView) -> str:
    """The attempts that did not answer, in their order, and why the one that did broke off."""
    # local/tiny=overloaded;dur=3, openai/gpt-4o=ok;dur=812
    each = (attempt.partition(";")[0].rpartition("=") for attempt in of.attempts.split(", ") if attempt)
    failed = [f"{label} {outcome}" for label, _, outcome in each if outcome != "ok"]
    return ", ".join([*failed, f"broke off: {of.broken}"] if of.broken else failed)


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
