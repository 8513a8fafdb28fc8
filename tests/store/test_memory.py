"""The memory of breakers: saved soon, loaded truthfully, and never in the way."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.failover.breaker import Breakers, Dump, Key
from gateway.snapshot import Credential
from gateway.store import credentials, standings, upstreams
from gateway.store.secrets import Secret
from gateway.store.store import Store
from tests.failover.play import failure
from tests.store.conftest import Clock, Opener, Remember
from tests.store.make import add_credential, add_upstream, by_hand


def now() -> float:
    return asyncio.get_running_loop().time()


def key_of(credential: Credential, model: str = "gpt") -> Key:
    return Key(credential.upstream, credential.id, model, credential.version)


def fail(breakers: Breakers, key: Key, outcome: str, **more: object) -> None:
    breakers.record(key, failure(outcome, **more), now())


async def held(store: Store) -> Credential:
    """A credential that exists."""
    await add_upstream(store)
    return await add_credential(store)


async def rows(store: Store) -> Dump:
    return await store.read(lambda: standings.read(store.snapshot, 1_795_000_000.0))


async def until(true: Callable[[], Awaitable[object]], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not await true():
            await asyncio.sleep(0.02)


async def test_it_is_all_there_after_a_stop(opened: Opener, remember: Remember) -> None:
    store = await opened()
    credential = await held(store)
    other = await add_credential(store, name="other")
    breakers = Breakers()
    memory = await remember(store, breakers)
    fail(breakers, key_of(credential), "auth")
    fail(breakers, key_of(other), "billing")
    fail(breakers, key_of(other), "rate_limited", retry_after_s=40.0)
    fail(breakers, Key("local", None, "demo \0 \ud800"), "model_missing")
    await memory.close()
    await store.close()
    again = Breakers()
    await remember(await opened(), again)
    assert again.judge(key_of(credential, "any other"), now()).wait_s == float("inf")
    unpaid = again.judge(key_of(other, "any other"), now())
    assert (unpaid.outcome, round(unpaid.wait_s)) == ("billing", 300)
    limited = again.judge(key_of(other), now())
    assert (limited.outcome, limited.barred, round(limited.wait_s)) == ("rate_limited", True, 40)
    assert again.judge(Key("local", None, "demo \ufffd ?"), now()).outcome == "model_missing"


async def test_a_refused_credential_is_saved_at_once_and_a_cooldown_soon(
    store: Store, remember: Remember
) -> None:
    credential = await held(store)
    breakers = Breakers()
    await remember(store, breakers)

    async def saved(kind: str) -> bool:
        return bool((await rows(store))[kind])

    began = time.monotonic()
    fail(breakers, key_of(credential), "auth")
    await until(lambda: saved("credentials"))
    assert time.monotonic() - began < 0.9  # less than what a cooldown waits
    fail(breakers, Key("local", None, "demo"), "model_missing")
    await until(lambda: saved("targets"))


async def test_what_elapsed_while_nothing_ran_is_over(
    opened: Opener, remember: Remember, clock: Clock
) -> None:
    store = await opened()
    credential = await held(store)
    breakers = Breakers()
    memory = await remember(store, breakers)
    fail(breakers, key_of(credential, "short"), "rate_limited", retry_after_s=20.0)
    fail(breakers, key_of(credential, "long"), "rate_limited", retry_after_s=200.0)
    fail(breakers, key_of(credential, "dead"), "auth")
    await memory.close()
    clock.now += 50
    again = Breakers()
    await remember(store, again)
    assert [(s.model, round(s.judgement.wait_s) if s.model else None) for s in again.standings(now())] == [
        (None, None),
        ("long", 150),
    ]
    clock.now -= 4000  # a clock that was set back makes nothing longer than it was
    older = Breakers()
    await remember(store, older)
    found = {s.model: s.judgement.wait_s for s in older.standings(now())}
    assert (round(found["short"]), round(found["long"])) == (20, 200)


async def test_what_is_about_something_that_is_gone_is_not_loaded(
    store: Store, remember: Remember, home: Path
) -> None:
    credential = await held(store)
    gone = await add_credential(store, name="gone")
    await add_upstream(store, "keyless")
    await add_upstream(store, "removed")
    breakers = Breakers()
    memory = await remember(store, breakers)
    for key in (key_of(credential), key_of(gone)):
        fail(breakers, key, "rate_limited", retry_after_s=100.0)
        fail(breakers, key, "auth")
    for backend in ("keyless", "removed", "local"):
        fail(breakers, Key(backend, None, "m"), "model_missing")
    await memory.close()
    await store.change(
        "test", lambda c: credentials.put(c, "openai", "default", secret=Secret("sk-new-1234567"))
    )
    await store.change("test", lambda c: credentials.remove(c, "openai", "gone"))
    await store.change("test", lambda c: upstreams.remove(c, "removed"))
    by_hand(home, "UPDATE standings SET outcome = 'melted' WHERE backend = 'keyless'")
    again = Breakers()
    await remember(store, again)
    assert [(s.backend, s.credential_id) for s in again.standings(now())] == [("local", None)]


async def test_rows_that_make_no_sense_stop_nothing(store: Store, remember: Remember, home: Path) -> None:
    breakers = Breakers()
    memory = await remember(store, breakers)
    fail(breakers, Key("local", None, "m"), "model_missing")
    await memory.close()
    by_hand(home, "UPDATE standings SET left_s = 'soon'")
    again = Breakers()
    await remember(store, again)
    assert again.standings(now()) == []


async def test_a_locked_database_is_waited_for_without_being_in_the_way(
    store: Store, home: Path, remember: Remember, caplog: pytest.LogCaptureFixture
) -> None:
    credential = await held(store)
    breakers = Breakers()
    memory = await remember(store, breakers)
    other = sqlite3.connect(home / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        fail(breakers, key_of(credential), "auth")
        async with asyncio.timeout(5.0):
            while "tried again" not in caplog.text:
                await asyncio.sleep(0.02)
        assert await memory._save(wait_s=0.0) is False
        assert caplog.text.count("tried again") == 1  # not with every try
        assert (await rows(store))["credentials"] == []
    finally:
        other.rollback()
        other.close()

    async def saved() -> bool:
        return bool((await rows(store))["credentials"])

    await until(saved)


async def test_a_database_that_can_only_be_read_disturbs_nobody(store: Store, remember: Remember) -> None:
    credential = await held(store)
    breakers = Breakers()
    memory = await remember(store, breakers)
    store.database.read_only = "the file can't be written"
    fail(breakers, key_of(credential), "auth")
    assert await memory.reset("openai") == 1
    assert breakers.judge(key_of(credential), now()).ready
    fail(breakers, key_of(credential), "auth")
    await memory.close()
    store.database.read_only = None
    assert await rows(store) == {"targets": [], "credentials": []}


async def test_a_reset_is_stored_when_it_returns(store: Store, remember: Remember) -> None:
    credential = await held(store)
    other = await add_credential(store, name="other")
    breakers = Breakers()
    memory = await remember(store, breakers)
    for each in (credential, other):
        fail(breakers, key_of(each), "auth")
    assert len(memory.standings()) == 2
    assert await memory.reset("openai", other.id) == 1
    assert [row["key"] for row in (await rows(store))["credentials"]] == [["openai", credential.id, 1]]
    assert await memory.reset("openai") == 1
    assert await memory.reset("openai") == 0
    assert await rows(store) == {"targets": [], "credentials": []}


async def test_many_cooldowns_are_saved_in_one_go(store: Store, remember: Remember) -> None:
    breakers = Breakers()
    memory = await remember(store, breakers)
    for number in range(300):
        fail(breakers, Key("local", None, f"m{number}"), "model_missing")
    await memory.close()
    assert len((await rows(store))["targets"]) == 300


async def test_what_is_saved_is_no_change_of_the_configuration(store: Store, remember: Remember) -> None:
    breakers = Breakers()
    memory = await remember(store, breakers)
    before = store.snapshot
    fail(breakers, Key("local", None, "m"), "model_missing")
    await memory.close()
    await store.database.run(store.database._look)
    assert store.snapshot is before
