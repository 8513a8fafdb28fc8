"""One home with small models, and for each isolation one pool on one loop for the whole session: a start
costs most. All pools are on the same strings, which do nothing until a test pulls them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from gateway.config import Local
from gateway.local.child import EngineChild
from gateway.local.engine.thread import EngineThread
from gateway.local.memory import footprint
from gateway.local.pool import LocalPool, MakeEngine
from tests.local.asking import closing
from tests.local.child_main import command
from tests.local.models import TOOL_TEMPLATE, make_embedder, make_model
from tests.local.puppets import Strings, attach

SETTINGS = Local(hub_cache=False, batch_size=8, max_queue=16, prefill_step=128, default_max_tokens=64)
MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
WINDOW = 48
ISOLATIONS = ("thread", "process")


GetPool = Callable[[str], Awaitable[LocalPool]]


class NewPool(Protocol):
    """Makes a pool that is on the strings and not started yet. `constants` are for a child only."""

    def __call__(
        self,
        home: Path,
        isolation: str,
        *,
        constants: Mapping[str, Any] | None = None,
        measure: Callable[[int | None], int] = footprint,
        **settings: Any,
    ) -> LocalPool: ...


class MakePool(Protocol):
    """Makes a started pool that is closed at the end of the test; `constants` are for either isolation."""

    async def __call__(
        self,
        home: Path | None = None,
        *,
        constants: Mapping[str, Any] | None = None,
        measure: Callable[[int | None], int] = footprint,
        **settings: Any,
    ) -> LocalPool: ...


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HOME with `tiny`, `lab/other`, `slow` (milliseconds a step), `thinker` (tools, thinking), `base` (no
    template), `sliding` and `hybrid` (caches that can't be cut back anywhere), `wide` (keys that can be
    quantised), `vec/last` and `vec/mean` (vectors).
    """
    found = tmp_path_factory.mktemp("home")
    models = found / "models"
    make_model(models / "tiny", context=512)
    make_model(models / "lab" / "other", seed=1)
    make_model(models / "slow", hidden=128, layers=6, context=100_000)
    make_model(models / "thinker", template=TOOL_TEMPLATE, extra_tokens=MARKERS)
    make_model(models / "base", template=None)
    window = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
    make_model(models / "sliding", seed=2, config=window)
    make_model(models / "hybrid", seed=3, kind="lfm2")
    make_model(models / "wide", seed=4, head_dim=32)
    make_embedder(models / "vec" / "last", "lasttoken", normalised=False, context=4096, seed=5)
    make_embedder(models / "vec" / "mean", "mean_tokens", normalised=True, context=4096, seed=5)
    return found


@pytest.fixture(params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def all_strings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strings]:
    found = Strings(tmp_path_factory.mktemp("strings"))
    yield found
    found.close()


@pytest.fixture
def strings(all_strings: Strings) -> Iterator[Strings]:
    yield all_strings
    all_strings.rest()


@pytest.fixture(scope="session")
def attached(all_strings: Strings) -> Iterator[None]:
    """Engines on threads of this process are on the strings."""
    with pytest.MonkeyPatch.context() as patches:
        attach(all_strings.folder, patches.setattr)
        yield


@pytest.fixture(scope="session")
def new_pool(all_strings: Strings, attached: None) -> NewPool:
    def new(
        home: Path,
        isolation: str,
        *,
        constants: Mapping[str, Any] | None = None,
        measure: Callable[[int | None], int] = footprint,
        **settings: Any,
    ) -> LocalPool:
        engine: MakeEngine = EngineThread
        if isolation == "process":
            engine = partial(EngineChild, command=command(all_strings.folder, constants or {}))
        config = dataclasses.replace(SETTINGS, isolation=isolation, **settings)
        return LocalPool(config, home, engine=engine, measure=measure)

    return new


@contextlib.asynccontextmanager
async def lazily(new: Callable[[str], LocalPool]) -> AsyncIterator[GetPool]:
    """A pool for each isolation, started when it is first asked for; all are closed at the end."""
    found: dict[str, LocalPool] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def get(isolation: str) -> LocalPool:
            if isolation not in found:
                found[isolation] = await stack.enter_async_context(closing(new(isolation)))
            return found[isolation]

        yield get


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pools(home: Path, new_pool: NewPool) -> AsyncIterator[GetPool]:
    async with lazily(partial(new_pool, home)) as get:
        yield get


@pytest_asyncio.fixture(loop_scope="session")
async def pool(pools: GetPool, isolation: str) -> LocalPool:
    """One for the whole session; whoever needs its figures compares with those from before."""
    return await pools(isolation)


@pytest_asyncio.fixture(loop_scope="session")
async def make_pool(
    home: Path, isolation: str, new_pool: NewPool, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MakePool]:
    """For tests whose pool needs other settings, or has to be a new one."""
    where = home
    async with contextlib.AsyncExitStack() as stack:

        async def make(home: Path | None = None, **how: Any) -> LocalPool:
            if isolation == "thread":
                for name, value in how.get("constants", {}).items():
                    monkeypatch.setattr(name, value)
            return await stack.enter_async_context(closing(new_pool(home or where, isolation, **how)))

        yield make


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="gateway.local")
