"""The database and its thread: what it survives, and what it says when it can't go on."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sqlite3
import stat
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.config import Store as StoreSection
from gateway.errors import ConfigError, StoreError
from gateway.store import sql
from gateway.store.database import Database, sqlite_path
from gateway.store.store import Store
from tests.store.conftest import Opener
from tests.store.make import add_rule, add_upstream, by_hand


def patterns(store: Store) -> list[str]:
    return [rule.pattern for rule in store.snapshot.rules.rules]


async def test_everything_in_the_home_is_for_its_owner_alone(store: Store, home: Path) -> None:
    await add_upstream(store)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"gateway.db", "gateway.db-wal", "gateway.lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_a_database_that_others_could_read_is_tightened(opened: Opener, home: Path) -> None:
    await (await opened()).close()
    (home / "gateway.db").chmod(0o644)
    await opened()
    assert stat.S_IMODE((home / "gateway.db").stat().st_mode) == 0o600


async def test_the_connection_is_set_up_to_lose_nothing(store: Store) -> None:
    def pragma(name: str) -> int | str:
        row = sql.first(store.database.handle, f"PRAGMA {name}")
        assert row is not None
        value = row[0]
        assert isinstance(value, int | str)
        return value

    names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "secure_delete", "mmap_size")
    found = await store.database.run(lambda: [pragma(name) for name in names])
    assert found == ["wal", 2, 1, 0, 1, 0]


async def test_what_was_written_is_there_after_opening_again(opened: Opener) -> None:
    first = await opened()
    await add_upstream(first)
    await add_rule(first, "gpt-4o*", "local:tiny", "openai:{model}", priority=7, note="hello")
    before = first.snapshot
    await first.close()
    after = (await opened()).snapshot
    assert after.rules.rules == before.rules.rules
    assert after.upstreams == before.upstreams
    assert after.policies == before.policies


async def test_a_second_process_is_told_who_holds_the_home(store: Store, home: Path) -> None:
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}") as caught:
        await Store.open(Config(), home, wait_s=0.0)
    assert caught.value.code == "held"
    await add_rule(store)  # the first one isn't disturbed


async def test_an_opener_waits_for_one_that_is_about_to_finish(opened: Opener, home: Path) -> None:
    first = await opened()
    waiting = asyncio.create_task(Store.open(Config(), home, wait_s=20.0))
    await asyncio.sleep(0)
    await first.close()
    await (await waiting).close()


async def test_closing_twice_and_using_it_afterwards(store: Store) -> None:
    await add_rule(store)
    await store.close()
    await store.close()
    assert patterns(store) == ["gpt-*"]
    with pytest.raises(StoreError, match="closed") as caught:
        await add_rule(store, "other")
    assert caught.value.code == "closed"


async def test_a_locked_database_delays_a_change_and_nothing_else(opened: Opener, home: Path) -> None:
    store = await opened(busy_s=0.05)
    await add_rule(store)
    before = store.snapshot
    other = sqlite3.connect(home / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match="locked by another program") as caught:
            await add_rule(store, "other")
        assert caught.value.code == "locked"
        assert store.snapshot is before
    finally:
        other.rollback()
        other.close()
    await add_rule(store, "other")
    assert patterns(store) == ["gpt-*", "other"]


async def test_a_full_disk_refuses_changes_until_there_is_space(store: Store) -> None:
    await add_rule(store)
    handle = store.database.handle
    pages = await store.database.run(lambda: sql.number(handle, "PRAGMA page_count"))
    await store.database.run(lambda: sql.run(handle, f"PRAGMA max_page_count = {pages}"))
    before = store.snapshot
    with pytest.raises(StoreError, match="disk is full: nothing was changed") as caught:
        for number in range(2000):
            await add_rule(store, f"model-{number}", note="x" * 500)
            before = store.snapshot
    assert caught.value.code == "full"
    assert store.snapshot is before
    await store.database.run(lambda: sql.run(handle, "PRAGMA max_page_count = 1000000"))
    await add_rule(store, "later")
    assert patterns(store)[-1] == "later"
    await store.reload()
    assert patterns(store) == [rule.pattern for rule in before.rules.rules] + ["later"]


async def test_a_file_that_is_no_database_is_refused_and_left_alone(opened: Opener, home: Path) -> None:
    home.mkdir()
    (home / "gateway.db").write_bytes(b"this is not a database, it is a letter\n" * 20)
    before = (home / "gateway.db").read_bytes()
    with pytest.raises(StoreError, match="is not a database; put a backup in its place") as caught:
        await opened()
    assert caught.value.code == "corrupt"
    assert (home / "gateway.db").read_bytes() == before


async def test_half_a_database_is_refused(opened: Opener, home: Path) -> None:
    store = await opened()
    for number in range(20):
        await add_rule(store, f"model-{number}", note="x" * 400)
    await store.close()
    data = (home / "gateway.db").read_bytes()
    (home / "gateway.db").write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match="damaged") as caught:
        await opened()
    assert caught.value.code == "corrupt"


async def test_a_damaged_page_is_found_when_opening(opened: Opener, home: Path) -> None:
    store = await opened()
    await add_rule(store)
    root = await store.database.run(
        lambda: sql.number(store.database.handle, "SELECT rootpage FROM sqlite_master WHERE name = 'rules'")
    )
    size = await store.database.run(lambda: sql.number(store.database.handle, "PRAGMA page_size"))
    await store.close()
    with (home / "gateway.db").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * 64)
    with pytest.raises(StoreError, match="damaged") as caught:
        await opened()
    assert caught.value.code == "corrupt"


async def test_damage_while_running_refuses_changes_and_keeps_routing(store: Store, home: Path) -> None:
    await add_rule(store)
    handle = store.database.handle
    await store.database.run(lambda: sql.run(handle, "PRAGMA wal_checkpoint(TRUNCATE)"))
    before = store.snapshot
    size = (home / "gateway.db").stat().st_size
    with (home / "gateway.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    await store.database.run(lambda: sql.run(handle, "PRAGMA shrink_memory"))
    with pytest.raises(StoreError) as caught:
        await store.reload()
    assert caught.value.code == "corrupt"
    assert store.snapshot is before
    assert patterns(store) == ["gpt-*"]


async def test_a_newer_schema_is_refused_with_every_byte_in_place(opened: Opener, home: Path) -> None:
    store = await opened()
    await add_rule(store)
    await store.close()
    by_hand(home, "PRAGMA user_version = 999")
    before = (home / "gateway.db").read_bytes()
    with pytest.raises(StoreError, match=r"schema 999.*nothing was touched") as caught:
        await opened()
    assert caught.value.code == "newer"
    assert (home / "gateway.db").read_bytes() == before
    assert not (home / "gateway.db-wal").exists()


async def test_a_newer_schema_in_the_table_alone_is_refused_too(opened: Opener, home: Path) -> None:
    await (await opened()).close()
    by_hand(home, "UPDATE meta SET value = '12' WHERE key = 'schema'")
    with pytest.raises(StoreError, match="schema 12") as caught:
        await opened()
    assert caught.value.code == "newer"


async def test_another_programs_database_is_refused(opened: Opener, home: Path) -> None:
    home.mkdir()
    by_hand(home, "CREATE TABLE notes (id INTEGER PRIMARY KEY)")
    with pytest.raises(StoreError, match="not the gateway's"):
        await opened()
    connection = sqlite3.connect(home / "gateway.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    connection.close()


async def test_a_foreign_change_is_noticed_soon(store: Store, home: Path) -> None:
    await add_rule(store, "before")
    noticed = asyncio.Event()
    store.on_change(lambda _: noticed.set())
    by_hand(home, "UPDATE rules SET pattern = 'after'")
    async with asyncio.timeout(1.0):
        await noticed.wait()
    assert patterns(store) == ["after"]


async def test_foreign_damage_is_logged_and_the_old_state_stays(
    store: Store, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await add_rule(store, "before")
    before = store.snapshot
    by_hand(home, "ALTER TABLE rules RENAME TO gone")
    async with asyncio.timeout(2.0):
        while "can't look for changes" not in caplog.text:
            await asyncio.sleep(0.02)
    assert store.snapshot is before
    by_hand(home, "ALTER TABLE gone RENAME TO rules", "UPDATE rules SET pattern = 'after'")
    async with asyncio.timeout(2.0):
        while patterns(store) != ["after"]:
            await asyncio.sleep(0.02)


async def test_a_job_whose_caller_left_is_not_begun(store: Store) -> None:
    gate = threading.Event()
    begun: list[int] = []
    holding = asyncio.create_task(store.database.run(gate.wait))
    left = asyncio.create_task(store.database.run(lambda: begun.append(1)))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    gate.set()
    await holding
    await store.database.run(lambda: begun.append(2))
    assert begun == [2]


async def test_a_stuck_disk_makes_changes_fail_soon_instead_of_piling_up(home: Path) -> None:
    database = Database("", home, queue_size=2)
    gate = threading.Event()
    running = threading.Event()

    def stuck() -> None:
        running.set()
        gate.wait()

    waiting = [asyncio.create_task(database.run(stuck))]
    await asyncio.to_thread(running.wait)
    waiting += [asyncio.create_task(database.run(lambda: None)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="too much to do") as caught:
        await database.run(lambda: None)
    assert caught.value.code == "busy"
    gate.set()
    await asyncio.gather(*waiting)
    await database.close()


async def test_the_tables_are_out_of_reach_of_the_event_loop(store: Store) -> None:
    from gateway.store.models import RuleRow

    await add_rule(store)
    with pytest.raises(AttributeError):
        list(RuleRow.select())


async def test_two_stores_in_one_process_do_not_mix(opened: Opener, tmp_path: Path) -> None:
    first, second = await opened(tmp_path / "one"), await opened(tmp_path / "two")
    await asyncio.gather(add_rule(first, "first"), add_rule(second, "second"))
    assert (patterns(first), patterns(second)) == (["first"], ["second"])


def be_somebody_else(user: int) -> None:
    """Make this thread's files another user's business. Linux keeps that apart for every thread."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).setfsuid(user)


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="nothing stops root here")
async def test_a_home_that_can_only_be_read_still_routes_and_heals() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        home = Path(name)
        store = await Store.open(Config(), home, wait_s=0.0)
        await add_rule(store)
        await store.close()
        (home / "gateway.lock").unlink()
        (home / "gateway.db").chmod(0o444)
        home.chmod(0o555)
        database = Database("", home)

        def count() -> int:
            return sql.number(database.handle, "SELECT COUNT(*) FROM rules")

        def remove() -> None:
            with database.writing():
                sql.run(database.handle, "DELETE FROM rules")

        await database.run(lambda: be_somebody_else(65534))
        try:
            await database.run(lambda: database.open(wait_s=0.0))
            assert database.read_only is not None
            assert await database.run(count) == 1
            with pytest.raises(StoreError, match="can't be written to: nothing was changed") as caught:
                await database.run(remove)
            assert caught.value.code == "read_only"
            home.chmod(0o755)
            (home / "gateway.db").chmod(0o644)
            await database.run(lambda: be_somebody_else(0))
            await database.run(database.reopen)
            assert database.read_only is None
            await database.run(remove)
            assert await database.run(count) == 0
        finally:
            await database.close()


def test_a_caller_without_an_event_loop_can_wait_for_an_answer(home: Path) -> None:
    database = Database("", home)
    database.call(lambda: database.open(wait_s=0.0))
    assert database.call(lambda: sql.number(database.handle, "SELECT COUNT(*) FROM rules")) == 0
    with pytest.raises(StoreError, match="no such table"):
        database.call(lambda: sql.number(database.handle, "SELECT COUNT(*) FROM nowhere"))
    asyncio.run(database.close())


async def test_a_home_that_cannot_be_made_is_named(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't make the folder"):
        await opened(tmp_path / "file" / "home")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("", "/home/me/gateway.db"),
        ("sqlite:///other.db", "/home/me/other.db"),
        ("sqlite:////var/db/gateway.db", "/var/db/gateway.db"),
        ("sqlite:////var/db/gateway.db?timeout=3", "/var/db/gateway.db"),
        ("postgresql://gateway:secret@db/gateway", None),
    ],
)
def test_what_a_url_means(url: str, file: str | None) -> None:
    assert sqlite_path(url, Path("/home/me")) == (None if file is None else Path(file))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///?x=1"])
def test_a_database_that_would_be_gone_at_the_end_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="must name a file"):
        sqlite_path(url, Path("/home/me"))


@pytest.mark.parametrize(
    "url", ["oracle://u:hunter2@host/db", "gateway.db", "postgresql://u:hunter2@host/db"]
)
async def test_a_url_that_cannot_be_used_is_refused_without_its_password(opened: Opener, url: str) -> None:
    config = Config(store=StoreSection(url=url))
    with pytest.raises((ConfigError, StoreError)) as caught:
        await opened(config=config)
    assert "hunter2" not in str(caught.value)


async def test_a_relative_file_is_in_the_home(opened: Opener, home: Path) -> None:
    await opened(config=Config(store=StoreSection(url="sqlite:///rules.db")))
    assert (home / "rules.db").exists()
    assert not (home / "gateway.db").exists()
