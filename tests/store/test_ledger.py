"""The request ledger: it keeps what may be kept, as long as it may, and is never in the way."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.store import requests, sql
from gateway.store.requests import Entry
from gateway.store.store import Store
from gateway.wire.usage import Usage
from tests.store.conftest import Keeper, Opener
from tests.store.make import DONE, add_rule, kept


async def until(true: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not await true():
            await asyncio.sleep(0.02)


async def test_a_request_that_is_over_is_kept_with_all_its_facts(store: Store, keep: Keeper) -> None:
    ledger = keep(store, clock=lambda: 1_795_000_000.5)
    ledger.note(DONE)
    assert await kept(store) == [
        Entry(
            id=1,
            at=1_795_000_000.5,
            request_id="req_1",
            client="laptop",
            method="POST",
            path="/v1/chat/completions",
            model="gpt-4o-mini",
            rule="gpt-4o*",
            served_by="openai/gpt-4o",
            attempts="local/qwen3-8b=overloaded;dur=3, openai/gpt-4o=ok;dur=812",
            status=200,
            stream=True,
            seconds=0.8124,
            first_content_s=0.12,
            input_tokens=12,
            output_tokens=345,
            cached_tokens=7,
            broken="",
            other_input_tokens=13,
            other_output_tokens=40,
        )
    ]


async def test_rows_are_written_without_being_asked_for(store: Store, keep: Keeper) -> None:
    keep(store).note(DONE)

    async def there() -> bool:
        return bool(await store.read(lambda: requests.latest(1)))

    await until(there)


async def test_the_newest_come_first_and_of_whom_was_asked(store: Store, keep: Keeper) -> None:
    ledger = keep(store)
    for number in range(6):
        ledger.note(
            DONE._replace(request_id=f"r{number}", client=f"app{number % 2}", model=f"model-{number % 3}")
        )
    assert [entry.request_id for entry in await kept(store, 3)] == ["r5", "r4", "r3"]
    assert [entry.request_id for entry in await kept(store, client="app1")] == ["r5", "r3", "r1"]
    assert [entry.request_id for entry in await kept(store, client="app1", model="model-0")] == ["r3"]
    assert await kept(store, model="model-") == []


async def test_what_strangers_send_is_cut_and_starred_out(store: Store, keep: Keeper) -> None:
    ledger = keep(store)
    ledger.note(
        DONE._replace(
            path="/v1/" + "x" * 9000,
            model="sk-proj-0123456789abcdef",
            broken="NUL \0 and half a character \ud800",
            usage=Usage(10**30, 1, 0),
        )
    )
    [entry] = await kept(store)
    assert len(entry.path) == 512
    assert entry.model == "***"
    assert entry.broken == "NUL \ufffd and half a character ?"
    assert entry.input_tokens == 2**53
    assert ledger.dropped == 0


async def test_a_row_is_no_change_of_the_configuration(opened: Opener, keep: Keeper) -> None:
    store = await opened()
    changes: list[object] = []
    store.on_change(changes.append)
    before = store.snapshot
    ledger = keep(store)
    for _ in range(3):
        ledger.note(DONE)
        await store.database.run(store.database.catch_up)
        await store.database.run(store.database._look)
    assert store.snapshot is before
    await asyncio.sleep(0)
    assert changes == []


async def test_a_locked_database_delays_rows_and_loses_none_that_fit(
    store: Store, home: Path, keep: Keeper
) -> None:
    ledger = keep(store, queue_size=10)
    other = sqlite3.connect(home / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        for number in range(15):
            ledger.note(DONE._replace(request_id=f"r{number}"))
        began = time.monotonic()
        await store.database.run(store.database.catch_up)
        assert time.monotonic() - began < 0.09  # a change would have waited for its 0.1 s
    finally:
        other.rollback()
        other.close()
    assert [entry.request_id for entry in reversed(await kept(store))] == [f"r{n}" for n in range(10)]
    assert ledger.dropped == 5


async def test_a_lock_is_still_waited_for_by_a_change(opened: Opener, home: Path, keep: Keeper) -> None:
    store = await opened(busy_s=2.0)
    keep(store).note(DONE)
    await store.database.run(store.database.catch_up)
    timeout = await store.database.run(lambda: sql.number(store.database.handle, "PRAGMA busy_timeout"))
    assert timeout == 2000


async def test_a_full_disk_drops_rows_and_takes_them_again_when_there_is_space(
    store: Store, keep: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    await add_rule(store)
    before = store.snapshot
    handle = store.database.handle
    ledger = keep(store)
    pages = await store.database.run(lambda: sql.number(handle, "PRAGMA page_count"))
    await store.database.run(lambda: sql.run(handle, f"PRAGMA max_page_count = {pages}"))
    for _ in range(3):
        for _ in range(50):
            ledger.note(DONE._replace(path="/v1/" + "x" * 400))
        await store.database.run(store.database.catch_up)
    assert ledger.dropped == 150
    assert store.snapshot is before
    assert caplog.text.count("the request ledger dropped") == 1
    assert "dropped 50 rows: the disk is full" in caplog.text
    await store.database.run(lambda: sql.run(handle, "PRAGMA max_page_count = 1000000"))
    ledger.note(DONE)
    assert len(await kept(store)) == 1
    assert ledger.dropped == 150


async def test_a_database_that_can_only_be_read_drops_rows_and_heals(store: Store, keep: Keeper) -> None:
    ledger = keep(store)
    handle = store.database.handle
    await store.database.run(lambda: sql.run(handle, "PRAGMA query_only = 1"))
    ledger.note(DONE)
    assert await kept(store) == []
    assert ledger.dropped == 1
    await store.database.run(lambda: sql.run(handle, "PRAGMA query_only = 0"))
    ledger.note(DONE)
    assert len(await kept(store)) == 1
    store.database.read_only = "gateway.db can't be written to"  # as it is opened where it is read-only
    ledger.note(DONE)
    assert len(await kept(store)) == 1
    assert ledger.dropped == 2
    store.database.read_only = None
    ledger.note(DONE)
    assert len(await kept(store)) == 2


async def test_a_table_that_is_broken_drops_rows_and_nothing_else(
    store: Store, keep: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = keep(store)
    await store.database.run(lambda: sql.run(store.database.handle, "ALTER TABLE requests RENAME TO gone"))
    ledger.note(DONE)
    await store.database.run(store.database.catch_up)
    assert ledger.dropped == 1
    assert "dropped 1 rows: the database refused: no such table" in caplog.text
    await add_rule(store)
    await store.database.run(lambda: sql.run(store.database.handle, "ALTER TABLE gone RENAME TO requests"))
    ledger.note(DONE)
    assert len(await kept(store)) == 1


async def test_a_stuck_disk_costs_rows_and_no_time(store: Store, keep: Keeper) -> None:
    gate = threading.Event()
    ledger = keep(store, queue_size=5)
    stuck = asyncio.create_task(store.database.run(gate.wait))
    await asyncio.sleep(0)
    for _ in range(8):
        ledger.note(DONE)
    assert ledger.dropped == 3
    gate.set()
    await stuck
    assert len(await kept(store)) == 5


async def test_changes_get_their_turn_between_two_batches(store: Store, keep: Keeper) -> None:
    ledger = keep(store, queue_size=20_000)
    for _ in range(5000):
        ledger.note(DONE)
    await add_rule(store)  # would wait for all of them otherwise

    async def all_there() -> bool:
        return len(await store.read(lambda: requests.latest(9000))) == 5000

    await until(all_there)
    assert ledger.dropped == 0


async def test_old_rows_are_removed_in_steps_also_when_nothing_happens(
    store: Store, keep: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.ledger._STEP", 10)
    now = 1_795_000_000.0
    ledger = keep(store, clock=lambda: now, ledger_days=7)
    for age_days in range(40, 0, -1):
        now = 1_795_000_000.0 - age_days * 86400
        ledger.note(DONE._replace(request_id=f"r{age_days}"))
    await kept(store)
    now = 1_795_000_000.0

    async def pruned() -> bool:
        return [entry.request_id for entry in await kept(store)] == [f"r{age}" for age in range(1, 8)]

    await until(pruned)


async def test_no_more_rows_are_kept_than_asked_for(store: Store, keep: Keeper) -> None:
    ledger = keep(store, ledger_rows=20)
    for number in range(90):
        ledger.note(DONE._replace(request_id=f"r{number}"))
    await kept(store)
    assert [entry.request_id for entry in await kept(store)] == [f"r{n}" for n in range(89, 69, -1)]


async def test_switched_off_it_keeps_nothing_and_still_forgets(opened: Opener, keep: Keeper) -> None:
    store = await opened()
    ledger = keep(store, clock=lambda: time.time() - 3 * 86400)
    ledger.note(DONE)
    await ledger.close()
    off = keep(store, ledger=False, ledger_days=1)
    off.note(DONE)
    assert await kept(store) == []
    assert off.dropped == 0


async def test_closing_writes_what_is_left(opened: Opener, keep: Keeper) -> None:
    store = await opened()
    ledger = keep(store, queue_size=5000)
    for _ in range(2500):
        ledger.note(DONE)
    await ledger.close()
    await ledger.close()
    await store.close()
    assert len(await kept(await opened(), 9000)) == 2500


async def test_closing_with_a_locked_database_ends_soon_and_tells_the_loss(
    store: Store, home: Path, keep: Keeper, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.ledger._LAST_WAIT_S", 0.05)
    ledger = keep(store)
    ledger.note(DONE)
    other = sqlite3.connect(home / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await ledger.close()
    other.rollback()
    other.close()
    assert ledger.dropped == 1
    assert "dropped 1 rows: the database is locked" in caplog.text


async def test_a_store_that_was_closed_first_is_no_error(opened: Opener, keep: Keeper) -> None:
    store = await opened()
    ledger = keep(store)
    ledger.note(DONE)
    await store.close()
    await ledger.close()


async def test_a_row_that_no_database_takes_costs_its_batch_alone(
    store: Store, keep: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = keep(store)
    with monkeypatch.context() as patch:
        patch.setattr(requests, "add", lambda *_: 1 / 0)
        ledger.note(DONE)
        await store.database.run(store.database.catch_up)
    assert ledger.dropped == 1
    assert "ZeroDivisionError" in caplog.text
    ledger.note(DONE)
    assert len(await kept(store)) == 1
