"""`status`: what the running gateway is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.command import Verb
from gateway.cli.output import Cell, lasting, line, record, show, size, table
from gateway.cli.session import ask

_Rows = list[Mapping[str, Any]]


@click.command("status", cls=Verb)
def command() -> None:
    """Say what the running gateway is doing. Exit code 1 when none runs."""
    answer = ask("status")
    show(answer, lambda: _print(answer))


def _print(status: Mapping[str, Any]) -> None:
    """Plain values first, then a table for every group of things: whatever the daemon tells is shown."""
    plain: list[tuple[str, Cell]] = []
    groups: list[tuple[str, _Rows]] = []
    _sort(status, "", plain, groups)
    record(plain)
    for title, rows in groups:
        line(f"\n{title.capitalize()}")
        headers = list(dict.fromkeys(key for row in rows for key in row))
        table(
            [header.replace("_", " ") for header in headers],
            [[_cell(row.get(h)) for h in headers] for row in rows],
        )


def _sort(
    values: Mapping[str, Any], prefix: str, plain: list[tuple[str, Cell]], groups: list[tuple[str, _Rows]]
) -> None:
    for name, value in values.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        if rows := _rows(value):
            groups.append((words, rows))
        elif isinstance(value, dict):
            _sort(value, f"{words} ", plain, groups)
        else:
            plain.append(_named(words, value))


def _rows(value: Any) -> _Rows:
    """Things of one kind: a list of objects, or objects by their name; [] for anything else."""
    if isinstance(value, dict) and all(isinstance(thing, dict) for thing in value.values()):
        return [{"name": name, **thing} for name, thing in value.items()]
    if isinstance(value, list) and all(isinstance(thing, dict) for thing in value):
        return value
    return []


def _named(words: str, value: Any) -> tuple[str, Cell]:
    """Units out of the name and into the value, as people write them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if words.endswith(" bytes"):
            return words.removesuffix(" bytes"), size(value)
        if words.endswith(" s"):
            return words.removesuffix(" s"), lasting(value)
    return words, _cell(value)


def _cell(value: Any) -> Cell:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return "  ".join(f"{key}={item}" for key, item in value.items())
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
