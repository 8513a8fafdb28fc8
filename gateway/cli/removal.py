"""`models rm`: a model goes from this disk."""

from __future__ import annotations

import sys

import click
import msgspec

from gateway.cli.command import Verb
from gateway.cli.output import line, show, size, warn
from gateway.cli.session import ask, view


class RemovedView(msgspec.Struct):
    model: str
    size_bytes: int = 0
    unfinished: bool = False
    warnings: list[str] = []


@click.command("rm", cls=Verb)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
def rm(name: str, yes: bool) -> None:
    """Delete a model below models/ in the home, or what a stopped pull has left.

    Asks first when a person can answer.
    """
    if not yes and sys.stdin is not None and sys.stdin.isatty():
        click.confirm(f"delete the files of {name}?", abort=True, err=True)
    answer = ask("models.rm", {"model": name})
    removed = view(answer, RemovedView)
    what = f"the unfinished download of {name}" if removed.unfinished else f"model {name}"
    freed = f" ({size(removed.size_bytes)})" if removed.size_bytes else ""
    show(answer, lambda: line(f"removed {what}{freed}"))
    warn(removed.warnings)
