"""What an operation works with, and what an operation is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec

from gateway.config import Config
from gateway.errors import RefusedError
from gateway.failover.breaker import Standing
from gateway.store.store import Store


class Live(Protocol):
    """What only a running daemon knows."""

    def status(self) -> dict[str, Any]:
        """What it is doing now."""

    def standings(self) -> list[Standing]:
        """The targets and credentials that are left alone."""

    async def reset(self, backend: str, credential_id: int | None) -> int:
        """Forget what is known against a backend, or one of its credentials; how many that ended."""

    def local_models(self) -> list[dict[str, Any]]:
        """The local models with their states."""

    async def show_model(self, name: str) -> dict[str, Any]:
        """All that is known of a local model."""

    async def load_model(self, name: str) -> dict[str, Any]:
        """Bring it into the memory, and say what it takes there."""

    async def unload_model(self, name: str) -> dict[str, Any]:
        """Let it go from the memory; refused while it is in use."""

    async def bench_model(self, name: str) -> dict[str, Any]:
        """Measure it."""

    async def look(self) -> None:
        """Read the disk again: a model came or went."""

    async def explain(self, model: str, body: dict[str, Any] | None, path: str) -> dict[str, Any]:
        """Where a request for `model` would go now; begins with `admin.explain.explain`. `body` is the
        request's, None for any small one; `path` is its, empty for each that it might come on.
        """

    async def test_upstream(self, name: str) -> dict[str, Any]:
        """Ask the upstream for its models, with our credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who asks, and what there is to work on. `live` is None when no daemon runs."""

    store: Store
    home: Path
    config: Config
    actor: str
    live: Live | None = None

    def running(self, what: str) -> Live:
        """The running daemon; RefusedError where there is none."""
        if self.live is None:
            raise RefusedError(f"{what}: the gateway is not running; start it with `mlx-gateway serve`")
        return self.live


# Whole numbers have a limit, so that none is too long to be written down again.
Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Priority = Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)]


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of an operation; an unknown one is an error."""


def something(given: dict[str, Any]) -> dict[str, Any]:
    """The fields to set; RefusedError when there are none."""
    if not given:
        raise RefusedError("nothing to set: name at least one field and its new value")
    return given


class NoArgs(Args):
    """For operations that need no arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One verb of one noun. `reads` is true when it changes nothing."""

    name: str
    args: type[Args]
    run: Callable[[Context, Any], Awaitable[object]]
    reads: bool
    help: str


class Table:
    """Collects the operations of one noun."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.operations: list[Operation] = []

    def verb(
        self, name: str, args: type[Args] = NoArgs, *, reads: bool = False
    ) -> Callable[[Callable[[Context, Any], Awaitable[object]]], Callable[[Context, Any], Awaitable[object]]]:
        """Register the function below as NOUN.name; the first line of its docstring is its help."""

        def add(
            run: Callable[[Context, Any], Awaitable[object]],
        ) -> Callable[[Context, Any], Awaitable[object]]:
            full = f"{self._noun}.{name}" if name else self._noun
            line = (run.__doc__ or "").strip().partition("\n")[0]
            self.operations.append(Operation(name=full, args=args, run=run, reads=reads, help=line))
            return run

        return add
