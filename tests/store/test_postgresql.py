"""The store on a real PostgreSQL server: the tests of the verbs again, and what only a server does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.config import Store as StoreSection
from gateway.errors import StoreError
from gateway.store import database, history, migrate, models, policies, requests, rules
from gateway.store.store import Store
from tests.store.conftest import Keeper, Opener
from tests.store.make import DONE, add_credential, add_rule, add_upstream, kept
from tests.store.postgres import Server, Unavailable

# The same tests, on the other database: below `opened` is another one.
from tests.store.test_ledger import (  # noqa: F401
    test_a_request_that_is_over_is_kept_with_all_its_facts,
    test_closing_writes_what_is_left,
    test_no_more_rows_are_kept_than_asked_for,
    test_old_rows_are_removed_in_steps_also_when_nothing_happens,
    test_switched_off_it_keeps_nothing_and_still_forgets,
    test_the_newest_come_first_and_of_whom_was_asked,
    test_what_strangers_send_is_cut_and_starred_out,
)
from tests.store.test_memory import (  # noqa: F401
    test_a_reset_is_stored_when_it_returns,
    test_it_is_all_there_after_a_stop,
    test_many_cooldowns_are_saved_in_one_go,
    test_what_elapsed_while_nothing_ran_is_over,
    test_what_is_saved_is_no_change_of_the_configuration,
)
from tests.store.test_policies import *  # noqa: F403
from tests.store.test_store import (  # noqa: F401
    test_a_caller_who_is_cancelled_sees_all_of_the_change_or_nothing,
    test_a_change_is_in_the_snapshot_when_it_returns,
    test_a_verb_that_fails_half_way_leaves_nothing,
    test_changes_from_many_callers_come_one_after_another,
    test_history_says_who_changed_what_from_what_to_what,
)
from tests.store.test_verbs import *  # noqa: F403


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    try:
        server = Server()
    except Unavailable as why:
        pytest.skip(str(why))
    yield server
    server.close()


@pytest.fixture
def url(server: Server) -> str:
    """A place of its own for every test."""
    return server.make_room()


@pytest.fixture
async def opened(home: Path, url: str) -> AsyncIterator[Opener]:
    """Opens stores on the test's database and closes them all at the end."""
    stores: list[Store] = []

    async def open_store(where: Path = home, *, config: Config | None = None, busy_s: float = 0.1) -> Store:
        ours = config or Config(store=StoreSection(url=url))
        stores.append(await Store.open(ours, where, wait_s=0.0, busy_s=busy_s))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


def patterns(store: Store) -> list[str]:
    return [rule.pattern for rule in store.snapshot.rules.rules]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10.0):
        while not await true():
            await asyncio.sleep(0.02)


async def test_the_tables_are_what_the_models_say(store: Store, server: Server, url: str) -> None:
    assert store.database.migrated == migrate.MIGRATIONS
    for kind in vars(models).values():
        if isinstance(kind, type) and kind.__name__.endswith("Row"):
            name = kind._meta.table_name
            found = server.execute(
                url,
                "SELECT column_name FROM information_schema.columns "
                f"WHERE table_schema = current_schema() AND table_name = '{name}'",
            )
            assert {column for (column,) in found} == set(kind._meta.columns), name


async def test_a_database_of_schema_1_is_brought_up_with_what_is_in_it(
    opened: Opener, server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", migrate.MIGRATIONS[:1])
        patch.setattr(migrate, "SCHEMA", 1)
        old = database._connect(url)
        migrate.migrate(old, back_up=lambda version: None)
        old.close()
    server.execute(
        url,
        "INSERT INTO rules (pattern, priority, enabled, policy, note) VALUES ('kept', 0, true, 'default', '')",
    )
    server.execute(
        url,
        "INSERT INTO upstreams VALUES ('openai', 'openai', 'https://api.openai.com/v1', 'bearer', "
        "'{}', '{}', 5, true, true, '')",
    )
    assert server.execute(url, "SELECT value FROM meta WHERE key = 'schema'") == [("1",)]
    new = await opened()
    assert new.database.migrated == migrate.MIGRATIONS[1:]
    assert patterns(new) == ["kept"]
    assert server.execute(url, "SELECT COUNT(*) FROM requests") == [(0,)]
    assert new.snapshot.upstreams["openai"].spread == "order"


async def test_a_newer_schema_is_refused(opened: Opener, server: Server, url: str) -> None:
    await (await opened()).close()
    server.execute(url, "UPDATE meta SET value = '999' WHERE key = 'schema'")
    with pytest.raises(StoreError, match="schema 999") as caught:
        await opened()
    assert caught.value.code == "newer"


async def test_what_was_written_is_there_after_opening_again(opened: Opener) -> None:
    first = await opened()
    await add_upstream(first)
    credential = await add_credential(first)
    await add_rule(first, "gpt-4o*", "local:tiny", "openai:{model}", priority=7, note="hello")
    await first.change("test", lambda change: policies.add(change, "fast", {"attempts": 2}))
    before = first.snapshot
    await first.close()
    again = await opened()
    assert again.snapshot.rules.rules == before.rules.rules
    assert again.snapshot.upstreams == before.upstreams
    assert again.snapshot.policies == before.policies
    assert again.snapshot.credentials == before.credentials
    assert again.vault.open(credential).reveal()


async def test_ids_are_never_used_again(store: Store) -> None:
    first = await add_rule(store, "one")
    await store.change("test", lambda change: rules.remove(change, rules.find(change, first.id)))
    assert (await add_rule(store, "two")).id > first.id


async def test_a_change_makes_one_new_snapshot(store: Store) -> None:
    """The look for foreign changes used to take our own for one and read everything again."""
    await add_rule(store)
    before = store.snapshot
    await store.database.run(store.database._look)
    assert store.snapshot is before


async def test_a_change_of_another_gateway_is_noticed_soon(opened: Opener, tmp_path: Path) -> None:
    one, other = await opened(), await opened(tmp_path / "other")
    await add_rule(other, "before")
    noticed = asyncio.Event()
    one.on_change(lambda _: noticed.set())
    await add_rule(other, "after")
    async with asyncio.timeout(2.0):
        while patterns(one) != ["before", "after"]:
            noticed.clear()
            await noticed.wait()


async def test_reloading_takes_what_was_changed_by_hand(store: Store, server: Server, url: str) -> None:
    await add_rule(store, "before")
    server.execute(url, "UPDATE rules SET pattern = 'after'")
    assert [rule.pattern for rule in (await store.reload()).rules.rules] == ["after"]


async def test_two_gateways_that_change_at_once_lose_nothing(opened: Opener, tmp_path: Path) -> None:
    stores = [await opened(), await opened(tmp_path / "other")]

    async def add(store: Store, name: str) -> None:
        for number in range(10):
            while True:
                try:
                    await add_rule(store, f"{name}-{number}")
                except StoreError as error:
                    assert error.code == "locked", error  # told to try again
                else:
                    break

    await asyncio.gather(add(stores[0], "a"), add(stores[1], "b"))
    await stores[0].reload()
    assert sorted(patterns(stores[0])) == sorted(f"{name}-{n}" for name in "ab" for n in range(10))


async def test_a_locked_ledger_delays_rows_and_no_change(
    store: Store, url: str, server: Server, keep: Keeper
) -> None:
    ledger = keep(store)
    ledger.note(DONE)
    with server.connected(url) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE requests IN EXCLUSIVE MODE")
        began = time.monotonic()
        await store.database.run(store.database.catch_up)
        assert time.monotonic() - began < 1.0
        await add_rule(store)
    assert len(await kept(store)) == 1
    assert ledger.dropped == 0


async def test_a_server_that_only_takes_reads_drops_rows_and_heals(
    store: Store, url: str, server: Server, keep: Keeper
) -> None:
    ledger = keep(store)
    handle = store.database.handle
    await store.database.run(lambda: handle.execute_sql("SET default_transaction_read_only = on"))
    ledger.note(DONE)
    assert await kept(store) == []
    assert ledger.dropped == 1
    with pytest.raises(StoreError) as caught:
        await add_rule(store)
    assert caught.value.code == "read_only"
    await store.database.run(lambda: handle.execute_sql("SET default_transaction_read_only = off"))
    ledger.note(DONE)
    assert len(await kept(store)) == 1


async def test_a_restart_of_the_server_stops_no_routing_and_heals(
    store: Store, server: Server, keep: Keeper
) -> None:
    await add_rule(store, "before")
    ledger = keep(store)
    before = store.snapshot
    await asyncio.to_thread(server.stop)
    try:
        with pytest.raises(StoreError):
            await add_rule(store, "meanwhile")
        ledger.note(DONE)
        await store.database.run(store.database.catch_up)
        assert ledger.dropped == 1
        assert store.snapshot is before
    finally:
        await asyncio.to_thread(server.start)

    async def heals() -> bool:
        try:
            await add_rule(store, "after")
        except StoreError:
            return False
        return True

    await until(heals)
    assert patterns(store) == ["before", "after"]
    ledger.note(DONE)
    assert len(await kept(store)) == 1
    entries = await store.read(lambda: history.latest(10))
    assert [entry.name for entry in entries] == ["2 after", "1 before"]


async def test_a_url_with_a_wrong_name_is_refused_in_words(opened: Opener, url: str) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        await opened(config=Config(store=StoreSection(url=url.replace("/postgres", "/nowhere"))))
    assert await (await opened()).read(lambda: requests.latest(1)) == []
