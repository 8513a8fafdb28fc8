"""`models`: what is on this machine."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from gateway.cli.command import Noun
from gateway.cli.home import the_home
from gateway.cli.loading import watch_load
from gateway.cli.output import Cell, hint, lasting, line, record, show, size, table
from gateway.cli.pull import pull
from gateway.cli.removal import rm
from gateway.cli.session import ask, view


class ModelView(msgspec.Struct):
    name: str
    state: str = ""
    size_bytes: int | None = None
    path: str = ""
    progress: float | None = None
    pinned: bool = False
    idle_s: float | None = None
    load_s: float | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None


class TrialView(msgspec.Struct):
    model: str
    load_s: float
    prompt_tokens: int
    answer_tokens: int
    prefill_tps: float
    ttft_ms: float
    decode_tps: dict[str, float]


command = Noun("models", help="The models on this machine.")
command.add_command(pull)
command.add_command(rm)


@command.command("list")
def list_() -> None:
    """List the local models, whether they are loaded, and how fast they were here."""
    answer = ask("models.list")
    show(answer, lambda: _table(view(answer, list[ModelView])))


@command.command("show")
@click.argument("model")
def show_(model: str) -> None:
    """Show what a model is, what it can do, what it takes and how fast it is here."""
    answer = ask("models.show", {"model": model})
    show(answer, lambda: record(_facts(answer)))


@command.command("load")
@click.argument("model")
def load(model: str) -> None:
    """Bring a model into the memory now."""
    answer = watch_load(model)
    found = view(answer, ModelView)
    show(answer, lambda: line(f"{found.name} is {found.state}; it took {lasting(found.load_s or 0.0)}"))


@command.command("unload")
@click.argument("model")
def unload(model: str) -> None:
    """Let a model go from the memory; refused while it answers."""
    answer = ask("models.unload", {"model": model})
    show(answer, lambda: line(f"{model} is not in memory any more"))


@command.command("bench")
@click.argument("model")
def bench(model: str) -> None:
    """Measure how fast a model is on this machine: prompt, one answer, several at once."""
    hint(f"measuring {model} ...")
    answer = ask("models.bench", {"model": model})
    show(answer, lambda: _measured(view(answer, TrialView)))


def _table(models: list[ModelView]) -> None:
    if not models:
        hint(
            "no models on this machine; get one with `mlx-gateway models pull ORG/NAME`, or put one "
            f"(a folder with safetensors) into {the_home() / 'models'}"
        )
        return
    table(
        ("Model", "State", "Size", "Idle", "Reads tok/s", "Writes tok/s", "Path"),
        [
            (
                m.name,
                _state(m),
                size(m.size_bytes),
                "" if m.idle_s is None else lasting(m.idle_s),
                _speed(m.prefill_tps),
                _speed(m.decode_tps),
                m.path,
            )
            for m in models
        ],
        spare=("Path",),
    )


def _state(model: ModelView) -> str:
    words = model.state
    if model.progress is not None:
        words = f"{words} {model.progress:.0%}"
    return f"{words}, pinned" if model.pinned else words


def _speed(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _facts(answer: dict[str, Any]) -> list[tuple[str, Cell]]:
    """One line a fact; what is a group of facts has its name before each."""
    found: list[tuple[str, Cell]] = []
    for name, value in answer.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            found += [(f"{words}: {label}", cell) for label, cell in _facts(value)]
        elif name.endswith("_bytes") and isinstance(value, int):
            found.append((words.removesuffix(" bytes"), size(value)))
        elif name.endswith("_s") and isinstance(value, int | float):
            found.append((words.removesuffix(" s"), lasting(value)))
        elif name.endswith("_tps") and isinstance(value, int | float):
            found.append((words.removesuffix(" tps"), f"{value:,.1f} tokens/s"))
        elif isinstance(value, str | int | float | bool):
            found.append((words, f"{value:,}" if type(value) is int else value))
    return found


def _measured(trial: TrialView) -> None:
    record(
        [
            ("load", lasting(trial.load_s)),
            (f"prompt of {trial.prompt_tokens} tokens", f"{trial.prefill_tps:,.0f} tokens/s"),
            ("first token after", f"{trial.ttft_ms:,.0f} ms"),
            *(
                (f"{count} answer{'s' if count != '1' else ''} at once", f"{tps:,.0f} tokens/s")
                for count, tps in trial.decode_tps.items()
            ),
        ]
    )
