"""Rows that were written by hand: whatever stands in them, the rest is read and nothing leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.store import clients, policies
from gateway.store.store import Store
from tests.store.conftest import Opener
from tests.store.make import add_credential, add_rule, add_upstream, by_hand


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE upstreams SET dialect = 'klingon' WHERE name = 'second'", "upstreams: row 'second'"),
        ("UPDATE upstreams SET headers = '[1]' WHERE name = 'second'", "upstreams: row 'second'"),
        ("UPDATE upstreams SET query = '{\"a\": 1}' WHERE name = 'second'", "upstreams: row 'second'"),
        ("UPDATE upstreams SET connect_s = 'soon' WHERE name = 'second'", "upstreams: row 'second'"),
        ("UPDATE upstreams SET spread = 'thin' WHERE name = 'second'", "upstreams: row 'second'"),
        ("UPDATE upstreams SET abilities = '{}' WHERE name = 'second'", "upstreams: row 'second'"),
        (
            "UPDATE upstreams SET abilities = '[{\"tools\": 1}]' WHERE name = 'second'",
            "upstreams: row 'second'",
        ),
        (
            "UPDATE upstreams SET abilities = '[{\"context\": true}]' WHERE name = 'second'",
            "upstreams: row 'second'",
        ),
        (
            "UPDATE upstreams SET abilities = '[{\"pattern\": 1}]' WHERE name = 'second'",
            "upstreams: row 'second'",
        ),
        ("UPDATE credentials SET upstream = 'gone' WHERE id = 2", "credentials: row 2"),
        ("UPDATE credentials SET version = 'new' WHERE id = 2", "credentials: row 2"),
    ],
)
async def test_a_row_that_makes_no_sense_takes_no_other_with_it(
    store: Store, home: Path, statement: str, problem: str
) -> None:
    await add_upstream(store, "first")
    await add_upstream(store, "second")
    await add_credential(store, "first")
    await add_credential(store, "first", "other")
    await add_rule(store, "one")
    by_hand(home, statement)
    snapshot = await store.reload()
    assert [text.partition(" can't be read")[0] for text in store.problems] == [problem]
    assert "first" in snapshot.upstreams
    assert snapshot.credentials["first"][0].name == "default"
    assert [rule.pattern for rule in snapshot.rules.rules] == ["one"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rules SET priority = 'high' WHERE id = 2",
        "UPDATE rules SET pattern = x'00ff' WHERE id = 2",
        "UPDATE targets SET backend = x'00ff' WHERE id = 2",
        "UPDATE targets SET position = 'first' WHERE id = 2",
    ],
)
async def test_an_unreadable_rule_does_not_hand_its_names_to_the_next_one(
    store: Store, opened: Opener, home: Path, statement: str
) -> None:
    await add_rule(store, "*")
    await add_rule(store, "private-*", policy="local-only")
    before = store.snapshot
    by_hand(home, statement)
    with pytest.raises(StoreError, match=r"row 2 can't be read.*correct the row"):
        await store.reload()
    assert store.snapshot is before
    await store.close()
    with pytest.raises(StoreError, match="row 2 can't be read"):
        await opened()


async def test_targets_are_in_the_order_of_their_positions(store: Store, home: Path) -> None:
    await add_rule(store, "gpt-*", "local:one", "local:two")
    by_hand(home, "UPDATE targets SET position = 9 WHERE model = 'one'")
    assert [str(target) for target in (await store.reload()).rules.rules[0].targets] == [
        "local:two",
        "local:one",
    ]


@pytest.mark.parametrize("column", ["digest = x'00'", "expires_at = 'soon'", "prefix = x'ff'"])
async def test_an_unreadable_client_key_still_means_that_keys_are_needed(
    store: Store, home: Path, column: str
) -> None:
    await store.change("test", lambda change: clients.add(change, "laptop"))
    by_hand(home, f"UPDATE client_keys SET {column}")
    (client,) = (await store.reload()).clients.values()
    assert not client.enabled
    assert "client_keys: row 1 can't be read" in store.problems[0]


@pytest.mark.parametrize("knobs", ["", "[]", '{"stay_local": "no"}', '{"idle_s": -1}', '{"new_knob": 1}'])
async def test_a_policy_that_cannot_be_read_keeps_its_rules_on_this_machine(
    store: Store, home: Path, knobs: str
) -> None:
    await store.change("test", lambda change: policies.put(change, "private", {"stay_local": True}))
    await add_rule(store, "private-*", policy="private")
    by_hand(home, f"UPDATE policies SET knobs = '{knobs}'")
    snapshot = await store.reload()
    assert snapshot.policies["private"].stay_local
    assert "policies: row 'private' can't be read" in store.problems[0]


async def test_a_rule_whose_policy_is_gone_stays_on_this_machine(store: Store, home: Path) -> None:
    await store.change("test", lambda change: policies.put(change, "private", {"stay_local": True}))
    await add_rule(store, "private-*", policy="private")
    by_hand(home, "DELETE FROM policies")
    snapshot = await store.reload()
    assert snapshot.policies[snapshot.rules.rules[0].policy].stay_local
    assert "unknown policy 'private'" in store.problems[0]


async def test_a_rule_that_lost_its_targets_keeps_its_names_to_itself(store: Store, home: Path) -> None:
    await add_rule(store, "secret-*")
    by_hand(home, "DELETE FROM targets")
    assert [rule.pattern for rule in (await store.reload()).rules.rules] == ["secret-*"]
