"""`models`: what is on this machine."""

from __future__ import annotations

import msgspec

from gateway.cli.command import Noun
from gateway.cli.home import the_home
from gateway.cli.output import hint, show, size, table
from gateway.cli.session import ask, view


class ModelView(msgspec.Struct):
    name: str
    state: str = ""
    size_bytes: int | None = None
    path: str = ""


command = Noun("models", help="The models on this machine.")


@command.command("list")
def list_() -> None:
    """List the local models and whether they are loaded."""
    answer = ask("models.list")
    show(answer, lambda: _table(view(answer, list[ModelView])))


def _table(models: list[ModelView]) -> None:
    if not models:
        hint(f"no models on this machine; put one (a folder with safetensors) into {the_home() / 'models'}")
        return
    table(
        ("Model", "State", "Size", "Path"),
        [(m.name, m.state, size(m.size_bytes), m.path) for m in models],
    )
