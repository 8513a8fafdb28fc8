"""What a command prints: one JSON value, or a table a person likes to read; remarks go to stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from gateway.cli.command import common

if TYPE_CHECKING:
    from rich.console import RenderableType

Cell = str | int | float | bool | tuple[str, ...] | None  # a tuple: steps in their order

_PIPE_WIDTH = 10_000  # grep wants a row on a line, however long
_NARROW = 100
_RIGID = 20  # a short word that is broken reads worse than a long one


def show(value: Any, human: Callable[[], None]) -> None:
    """Print `value` as JSON where that was asked for, else let `human` print it."""
    if common().json:
        # Bytes: JSON is UTF-8 whatever the terminal's encoding is.
        click.echo(json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace"))
        return
    human()


def line(text: str) -> None:
    """Say on standard output what was done."""
    click.echo(clean(text))


def hint(text: str) -> None:
    """Say on standard error what to do next; silent with --json."""
    if not common().json:
        click.echo(clean(text), err=True)


def warn(messages: Iterable[str]) -> None:
    """Say on standard error what was accepted but is doubtful; with --json it is in the value."""
    for message in messages:
        hint(f"warning: {message}")


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, spare: Collection[str] = ()) -> None:
    """Print rows under headers. A column that is empty everywhere is left out, one of `spare` also
    where the terminal is narrow.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    cells = [list(row) for row in rows]
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    used = []
    for i, header in enumerate(headers):
        texts = [_text(row[i]) for row in cells]
        if not any(texts) or (header in spare and _is_narrow()):
            continue
        numbers = all(isinstance(row[i], int) and not isinstance(row[i], bool) for row in cells)
        rigid = max(len(text) for text in texts) <= _RIGID
        side: Literal["left", "right"] = "right" if numbers else "left"
        drawn.add_column(header, justify=side, overflow="fold", no_wrap=rigid)
        used.append(i)
    for row in cells:
        drawn.add_row(*(_drawn(row[i]) for i in used))
    _print(drawn)


def record(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print one thing: names at the left, what they hold at the right. Empty ones are left out."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, ""):
            grid.add_row(name, _drawn(value))
    _print(grid)


def when(at: str | None, *, lately: bool = False) -> str:
    """A point in time, in JSON RFC 3339, as the user's clock shows it; `lately` needs seconds and no year."""
    if at is None:
        return ""
    return datetime.fromisoformat(at).astimezone().strftime("%m-%d %H:%M:%S" if lately else "%Y-%m-%d %H:%M")


def size(count: float | None) -> str:
    """Bytes in the units that a file manager shows."""
    if count is None:
        return ""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "KB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def lasting(seconds: float) -> str:
    """A duration in the two largest units that it has."""
    whole = round(seconds)
    for unit, name, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {rest}"
    return f"{seconds:g} s"


def clean(text: str) -> str:
    """The text without what a terminal would obey: names and messages come from strangers."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " → ".join(clean(step) for step in value)
    return clean(f"{value:g}" if isinstance(value, float) else str(value))


def _drawn(value: Cell) -> RenderableType:
    """A cell; steps stand one under the other where a person reads."""
    from rich.table import Table
    from rich.text import Text

    if not isinstance(value, tuple) or len(value) < 2 or not sys.stdout.isatty():
        return Text(_text(value))
    steps = Table.grid(padding=(0, 1, 0, 0))
    steps.add_column(no_wrap=True)
    steps.add_column(overflow="fold")
    for place, step in enumerate(value, start=1):
        steps.add_row(str(place), Text(clean(step)))
    return steps


def _is_narrow() -> bool:
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _NARROW


def _print(what: RenderableType) -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(what)
        return
    console = Console(width=_PIPE_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(what)
    for row in capture.get().splitlines():
        click.echo(row.rstrip())
