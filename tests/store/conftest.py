"""A store in a folder of its own, closed when the test is over."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.config import Store as StoreSection
from gateway.failover.breaker import Breakers
from gateway.store.ledger import Ledger
from gateway.store.memory import Memory
from gateway.store.store import Store

Opener = Callable[..., Awaitable[Store]]
Keeper = Callable[..., Ledger]
Remember = Callable[..., Awaitable[Memory]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of the store; it doesn't exist yet."""
    return tmp_path / "home"


@pytest.fixture
async def opened(home: Path) -> AsyncIterator[Opener]:
    """Opens stores, by default in `home`, and closes them all at the end."""
    stores: list[Store] = []

    async def open_store(where: Path = home, *, config: Config | None = None, busy_s: float = 0.1) -> Store:
        store = await Store.open(config or Config(), where, wait_s=0.0, busy_s=busy_s)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture
async def store(opened: Opener) -> Store:
    """A new store."""
    return await opened()


@pytest.fixture
async def keep() -> AsyncIterator[Keeper]:
    """Makes ledgers and closes them."""
    ledgers: list[Ledger] = []

    def make(
        store: Store, *, queue_size: int = 100, clock: Callable[[], float] = time.time, **keys: int
    ) -> Ledger:
        ledgers.append(Ledger(store, StoreSection(**keys), queue_size=queue_size, clock=clock))
        return ledgers[-1]

    yield make
    for ledger in ledgers:
        await ledger.close()


class Clock:
    """A time of day that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def remember(clock: Clock) -> AsyncIterator[Remember]:
    """Opens memories of breakers and closes them."""
    memories: list[Memory] = []

    async def make(store: Store, breakers: Breakers) -> Memory:
        memories.append(Memory(store, breakers, clock=clock))
        await memories[-1].open()
        return memories[-1]

    yield make
    for memory in memories:
        await memory.close()
