"""One gateway for a whole file of scenarios; a fresh lab for each."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.lab import Lab
from tests.scenarios.daemon import Daemon, running

_SETTINGS = """
[server]
port = 0
heartbeat_s = 0.3
max_body_mb = 4
body_timeout_s = 2.0
drain_s = 3.0
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon() -> AsyncIterator[Daemon]:
    # A short path: a Unix socket's may have about 100 characters.
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        async with running(Path(folder) / "home", _SETTINGS) as started:
            yield started


@pytest_asyncio.fixture(loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def second() -> AsyncIterator[Lab]:
    async with Lab() as started:
        yield started
