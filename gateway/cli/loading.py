"""Waits for a model to load, and shows how far it is to a person who looks."""

from __future__ import annotations

import sys
import threading
from typing import Any

import click

from gateway.cli.command import common
from gateway.cli.output import clean
from gateway.cli.session import ask

_LOOK_S = 0.2


def watch_load(model: str) -> Any:
    """Load `model` in the daemon and return what it says; raises what it refuses with."""
    if common().json or not sys.stderr.isatty():
        return ask("models.load", {"model": model})
    outcome: list[Any] = []
    context = click.get_current_context()

    def load() -> None:
        with context.scope(cleanup=False):
            try:
                outcome.append(ask("models.load", {"model": model}))
            except Exception as error:
                outcome.append(error)

    worker = threading.Thread(target=load, name="load", daemon=True)
    worker.start()
    _show_progress(model, worker)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _show_progress(model: str, worker: threading.Thread) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(f"loading {clean(model)}", total=1.0)
        while worker.is_alive():
            worker.join(_LOOK_S)
            for row in ask("models.list"):
                if row.get("name") == model and row.get("progress") is not None:
                    shown.update(task, completed=row["progress"])
