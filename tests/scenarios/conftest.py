"""One gateway for a whole file of scenarios; a fresh lab for each."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab import Lab
from tests.scenarios.daemon import Daemon, running

SETTINGS = """
[server]
port = 0
heartbeat_s = 0.3
max_body_mb = 4
body_timeout_s = 2.0
drain_s = 3.0
"""


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    """Puts into the folder of models what the gateway is to find there at its start; a file has its own."""
    return lambda models: None


@pytest.fixture(scope="module")
def settings() -> str:
    """The gateway's configuration; a file may have its own."""
    return SETTINGS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(furnish: Callable[[Path], None], settings: str) -> AsyncIterator[Daemon]:
    # A short path: a Unix socket's may have about 100 characters.
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        furnish(home / "models")
        async with running(home, settings) as started:
            yield started


@pytest_asyncio.fixture(loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def second() -> AsyncIterator[Lab]:
    async with Lab() as started:
        yield started
