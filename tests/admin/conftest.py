"""A context without a daemon, and a shorthand to run operations in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.operations import Context, run
from gateway.config import Config, Local
from gateway.store.store import Store

Run = Callable[..., Awaitable[Any]]


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    """What the command uses when no daemon runs."""
    config = Config(local=Local(hub_cache=False))
    store = await Store.open(config, tmp_path / "home", wait_s=0.0, busy_s=0.1)
    yield Context(store=store, home=tmp_path / "home", config=config, actor="owner")
    await store.close()


@pytest.fixture
def do(context: Context) -> Run:
    """Run an operation by its name with its arguments."""

    async def run_it(operation: str, /, **args: Any) -> Any:
        return await run(context, operation, args)

    return run_it
