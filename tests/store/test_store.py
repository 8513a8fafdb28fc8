"""The store: one transaction, one history row, one new snapshot, or nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from gateway.config import Config, Routing
from gateway.errors import ConfigError, RefusedError
from gateway.snapshot import Snapshot
from gateway.store import history, rules, upstreams
from gateway.store.change import Change
from gateway.store.store import Store
from tests.store.conftest import Opener
from tests.store.make import add_rule, add_upstream, by_hand, rule, upstream


async def test_opening_an_existing_store_is_quick_and_leaves_the_loop_alone(
    opened: Opener, home: Path
) -> None:
    store = await opened()
    await add_upstream(store)
    for number in range(20):
        await add_rule(store, f"model-{number}")
    await store.close()
    started = time.perf_counter()
    with blockbuster_ctx("gateway"):
        store = await opened()
        await add_rule(store, "another")
    assert time.perf_counter() - started < 0.5  # 0.03 here; the limit is for busy machines
    assert len(store.snapshot.rules.rules) == 21


async def test_a_change_is_in_the_snapshot_when_it_returns(store: Store) -> None:
    seen: list[Snapshot] = []
    store.on_change(seen.append)
    before = store.snapshot
    await add_rule(store)
    assert store.snapshot is not before
    assert store.snapshot.generation == before.generation + 1
    assert before.rules.rules == ()  # a request in flight keeps its own
    assert seen == [store.snapshot]


async def test_a_listener_that_left_hears_nothing_and_one_that_fails_stops_nobody(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def fail(_: Snapshot) -> None:
        raise ZeroDivisionError

    leave = store.on_change(lambda _: seen.append("first"))
    store.on_change(fail)
    store.on_change(lambda _: seen.append("last"))
    await add_rule(store, "one")
    leave()
    await add_rule(store, "two")
    assert seen == ["first", "last", "last"]
    assert "a listener failed" in caplog.text


async def test_a_verb_that_fails_half_way_leaves_nothing(store: Store) -> None:
    before = store.snapshot

    def verb(change: Change) -> None:
        rules.add(change, rule("one"))
        upstreams.add(change, upstream())
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        await store.change("test", verb)
    assert store.snapshot is before
    await store.reload()
    assert store.snapshot.rules.rules == ()
    assert store.snapshot.upstreams == {}
    assert await store.read(lambda: history.latest(10)) == []


async def test_a_caller_who_is_cancelled_sees_all_of_the_change_or_nothing(store: Store) -> None:
    tasks = [asyncio.create_task(add_rule(store, f"model-{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[5:]:
        task.cancel()
    await asyncio.wait(tasks)
    done = {f"model-{number}" for number, task in enumerate(tasks) if not task.cancelled()}
    routed = {rule.pattern for rule in store.snapshot.rules.rules}
    assert done <= routed
    await store.reload()
    assert {rule.pattern for rule in store.snapshot.rules.rules} == routed


async def test_changes_from_many_callers_come_one_after_another(store: Store) -> None:
    await asyncio.gather(*(add_rule(store, f"model-{number}") for number in range(30)))
    assert len(store.snapshot.rules.rules) == 30
    assert store.snapshot.generation == 31
    entries = await store.read(lambda: history.latest(100))
    assert len(entries) == 30


async def test_reloading_takes_what_was_changed_by_hand(store: Store, home: Path) -> None:
    await add_rule(store, "before")
    by_hand(home, "UPDATE rules SET pattern = 'after'")
    assert [rule.pattern for rule in (await store.reload()).rules.rules] == ["after"]


async def test_history_says_who_changed_what_from_what_to_what(store: Store) -> None:
    made = await add_rule(store, "gpt-*", note="one")
    await store.change("laptop", lambda change: rules.put(change, rule_with(made.id, note="two")))
    await store.change("owner", lambda change: rules.remove(change, rules.find(change, made.id)))
    removed, changed, added = await store.read(lambda: history.latest(10))
    assert (added.actor, added.noun, added.name, added.action) == ("test", "rules", f"{made.id} gpt-*", "add")
    assert added.before is None
    assert added.after is not None
    assert added.after["targets"] == ["local:tiny"]
    assert (changed.actor, changed.action) == ("laptop", "set")
    assert changed.before == added.after
    assert changed.after == {**added.after, "note": "two"}
    assert (removed.actor, removed.action, removed.before, removed.after) == (
        "owner",
        "remove",
        changed.after,
        None,
    )
    assert abs(removed.at - time.time()) < 60
    assert [entry.id for entry in await store.read(lambda: history.latest(1))] == [removed.id]


async def test_a_rule_that_names_an_unknown_target_is_refused_as_a_whole(store: Store) -> None:
    before = store.snapshot
    with pytest.raises(RefusedError, match="nowhere"):
        await add_rule(store, "gpt-*", "nowhere:x")
    assert store.snapshot is before
    await add_upstream(store, "nowhere")
    await add_rule(store, "gpt-*", "nowhere:x")


async def test_a_rule_that_names_an_unknown_policy_is_refused(store: Store) -> None:
    with pytest.raises(RefusedError, match="fast"):
        await add_rule(store, policy="fast")


async def test_a_shadowed_rule_is_a_warning(store: Store) -> None:
    await add_rule(store, "gpt-*", priority=5)
    done = await store.change("test", lambda change: rules.add(change, rule("gpt-4*")))
    assert len(done.warnings) == 1
    assert "gpt-4*" in done.warnings[0]
    assert [finding.level for finding in store.findings()] == ["warning"]
    # It is said once, not at every change afterwards.
    assert (await store.change("test", lambda change: rules.add(change, rule("llama-*")))).warnings == ()


async def test_a_rule_that_was_broken_by_hand_stops_no_other_change(store: Store, home: Path) -> None:
    await add_rule(store, "broken")
    by_hand(home, "UPDATE targets SET backend = 'nowhere'")
    await store.reload()
    assert [finding.level for finding in store.findings()] == ["error"]
    await add_rule(store, "fine")
    await store.change("test", lambda change: rules.remove(change, rules.find(change, "broken")))
    assert store.findings() == []


async def test_the_default_target_is_the_configurations(opened: Opener) -> None:
    store = await opened(config=Config(routing=Routing(default_target="openai:gpt-4o")))
    assert str(store.snapshot.rules.default_target) == "openai:gpt-4o"
    assert store.problems == ("routing.default_target names the unknown upstream 'openai'",)
    await add_upstream(store)
    assert store.problems == ()
    with pytest.raises(RefusedError, match="default_target"):
        await store.change("test", lambda change: upstreams.remove(change, "openai"))


async def test_a_default_target_that_is_none_is_refused(opened: Opener) -> None:
    with pytest.raises(ConfigError, match=r"routing\.default_target"):
        await opened(config=Config(routing=Routing(default_target=":x")))


def rule_with(ident: int, **more: object) -> rules.Rule:
    from dataclasses import replace

    return replace(rule("gpt-*", **more), id=ident)
