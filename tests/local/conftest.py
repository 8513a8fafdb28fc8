"""One home with small models, and one pool on one loop for the whole session: a start costs most."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config import Local
from gateway.local.pool import LocalPool
from tests.local.asking import closing
from tests.local.models import TOOL_TEMPLATE, make_model

SETTINGS = Local(hub_cache=False, batch_size=8, max_queue=16, prefill_step=128, default_max_tokens=64)
MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HOME with `tiny`, `lab/other`, `slow` (milliseconds a step), `thinker` (tools, thinking), `base`."""
    found = tmp_path_factory.mktemp("home")
    models = found / "models"
    make_model(models / "tiny", context=512)
    make_model(models / "lab" / "other", seed=1)
    make_model(models / "slow", hidden=128, layers=6, context=100_000)
    make_model(models / "thinker", template=TOOL_TEMPLATE, extra_tokens=MARKERS)
    make_model(models / "base", template=None)
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pool(home: Path) -> AsyncIterator[LocalPool]:
    async with closing(LocalPool(SETTINGS, home)) as found:
        yield found
