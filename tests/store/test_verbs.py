"""The verbs of rules, upstreams, credentials and client keys."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import replace

import pytest

from gateway.errors import MissingError, RefusedError
from gateway.failover.ability import Ability
from gateway.routing.rule import Target
from gateway.snapshot import AuthStyle, Spread
from gateway.store import clients, credentials, rules, upstreams
from gateway.store.presets import PRESETS
from gateway.store.secrets import Secret
from gateway.store.store import Store
from tests.store.make import CANARY, add_credential, add_rule, add_upstream, rule, upstream


async def test_a_rule_is_found_by_id_or_by_its_pattern(store: Store) -> None:
    first = await add_rule(store, "gpt-*")
    second = await add_rule(store, "7")
    found = store.snapshot.rules.rules
    assert (
        rules.find_in(found, first.id) == rules.find_in(found, "gpt-*") == rules.find_in(found, "1") == first
    )
    assert rules.find_in(found, "7") == second
    with pytest.raises(MissingError, match="there is no rule 'gpt-4'"):
        rules.find_in(found, "gpt-4")
    third = await add_rule(store, "gpt-*", enabled=False)
    with pytest.raises(RefusedError, match=f"rules {first.id}, {third.id} have the pattern"):
        rules.find_in(store.snapshot.rules.rules, "gpt-*")


async def test_a_changed_rule_keeps_its_id_and_gets_its_new_targets(store: Store) -> None:
    made = await add_rule(store, "gpt-*", "local:one", "local:two")
    targets = (Target("local", "two"), Target("local", "three"))
    changed = replace(made, targets=targets, priority=-3, note="why not")
    await store.change("test", lambda change: rules.put(change, changed))
    assert store.snapshot.rules.rules == (changed,)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pattern": ""}, "the pattern is empty"),
        ({"pattern": "x" * 257}, "at most 256"),
        ({"pattern": "a\nb"}, "printable"),
        ({"priority": 1_000_001}, "priority must be between"),
        ({"targets": ()}, "no target"),
        ({"targets": tuple(Target("local", f"m{n}") for n in range(17))}, "at most 16"),
        ({"note": "two\nlines"}, "one line"),
        ({"policy": "\ud800"}, "policy name"),
        ({"pattern": "gpt *"}, "can never match"),
        ({"targets": (Target("local", "{2}"),)}, "wildcard"),
        ({"targets": (Target("local", "a"), Target("local", "a"))}, "never be tried"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused(store: Store, change: dict[str, object], why: str) -> None:
    wrong = replace(rule("gpt-*"), **change)
    with pytest.raises(RefusedError, match=why):
        await store.change("test", lambda c: rules.add(c, wrong))
    assert store.snapshot.rules.rules == ()


@pytest.mark.parametrize("text", ["", ":x", "openai:", "a b:x", "local:" + "x" * 257, "local:a\nb", "../x:y"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(RefusedError):
        rules.parse_targets([text])


async def test_an_upstream_is_written_in_one_spelling(store: Store) -> None:
    await add_upstream(store, "openai", "HTTPS://api.openai.com")
    assert store.snapshot.upstreams["openai"].base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "local"}, "the pool"),
        ({"name": "a/b"}, "upstream name"),
        ({"connect_s": 0.0}, "connect_s must be between"),
        ({"connect_s": float("nan")}, "connect_s must be between"),
        ({"headers": (("Authorization", "Bearer x"),)}, "a key goes into a credential"),
        ({"headers": (("X-API-Key", "x"),)}, "a key goes into a credential"),
        ({"headers": (("Transfer-Encoding", "chunked"),)}, "can't be a fixed one"),
        ({"headers": (("a b", "x"),)}, "no header name"),
        ({"headers": (("x-a", "b\r\nx-evil: 1"),)}, "printable ASCII"),
        ({"headers": (("x-a", "ü"),)}, "printable ASCII"),
        ({"query": (("", "x"),)}, "query"),
        ({"query": (("a", "b\n"),)}, "query"),
        ({"base_url": "http://api.openai.com"}, "clear text"),
        ({"abilities": (Ability(pattern="", tools=True),)}, "a pattern must be printable"),
        ({"abilities": (Ability(pattern="a\nb", tools=True),)}, "a pattern must be printable"),
        ({"abilities": (Ability(context=0),)}, "context must be 1 to"),
        (
            {"abilities": (Ability(pattern="gpt-*"),)},
            "'gpt-\\*' says nothing; expected at least one of context",
        ),
        ({"abilities": (Ability(tools=True),) * 101}, "100 abilities, not 101"),
    ],
)
async def test_an_upstream_that_cannot_be_is_refused(
    store: Store, change: dict[str, object], why: str
) -> None:
    wrong = replace(upstream(), **change)
    with pytest.raises(RefusedError, match=why):
        await store.change("test", lambda c: upstreams.add(c, wrong))
    assert store.snapshot.upstreams == {}


async def test_the_url_of_an_upstream_with_secrets_does_not_change(store: Store) -> None:
    await add_upstream(store)
    moved = upstream(url="https://elsewhere.example.com/v1")
    await store.change("test", lambda change: upstreams.put(change, moved))
    await add_credential(store)
    with pytest.raises(RefusedError, match="remove them, change the URL, and enter them again"):
        await store.change("test", lambda change: upstreams.put(change, upstream()))
    await store.change("test", lambda change: upstreams.put(change, replace(moved, note="still here")))
    assert store.snapshot.upstreams["openai"].note == "still here"


async def test_an_upstream_in_use_is_not_removed(store: Store) -> None:
    await add_upstream(store)
    await add_credential(store)
    made = await add_rule(store, "gpt-*", "openai")

    async def remove() -> None:
        await store.change("test", lambda change: upstreams.remove(change, "openai"))

    with pytest.raises(RefusedError, match="has credentials"):
        await remove()
    await store.change("test", lambda change: credentials.remove(change, "openai", "default"))
    with pytest.raises(RefusedError, match=rf"target of these rules: {made.id} \(gpt-\*\)"):
        await remove()
    await store.change("test", lambda change: rules.remove(change, made))
    await remove()
    with pytest.raises(MissingError, match="known: none yet"):
        await remove()


async def test_a_new_secret_is_a_new_version(store: Store) -> None:
    await add_upstream(store)
    first = await add_credential(store)
    await store.change("test", lambda c: credentials.put(c, "openai", "default", secret=Secret("sk-2" * 9)))
    (second,) = store.snapshot.credentials["openai"]
    assert (second.id, second.version) == (first.id, first.version + 1)
    assert store.vault.open(second).reveal() == "sk-2" * 9
    await store.change("test", lambda change: credentials.put(change, "openai", "default", enabled=False))
    (third,) = store.snapshot.credentials["openai"]
    assert (third.version, third.enabled) == (second.version, False)
    assert store.vault.open(third).reveal() == "sk-2" * 9


async def test_several_credentials_of_one_upstream_in_the_order_they_came(store: Store) -> None:
    await add_upstream(store)
    await add_upstream(store, "other")
    for name in ("work", "home"):
        await add_credential(store, name=name)
    await add_credential(store, "other")
    assert [held.name for held in store.snapshot.credentials["openai"]] == ["work", "home"]
    with pytest.raises(RefusedError, match="exists already"):
        await add_credential(store, name="work")
    with pytest.raises(MissingError, match="known: work, home"):
        await store.change("test", lambda change: credentials.remove(change, "openai", "default"))
    with pytest.raises(MissingError, match="there is no upstream 'nobody'"):
        await store.change("t", lambda change: credentials.add(change, "nobody", "default", Secret(CANARY)))


async def test_the_heavier_credential_comes_first_and_of_equals_the_older(store: Store) -> None:
    await add_upstream(store)
    for name, weight in (("a", 1), ("b", 5), ("c", 5), ("d", 1000)):
        assert (await add_credential(store, name=name, weight=weight)).weight == weight
    assert [held.name for held in store.snapshot.credentials["openai"]] == ["d", "b", "c", "a"]
    await store.change("test", lambda change: credentials.put(change, "openai", "a", weight=6))
    held = store.snapshot.credentials["openai"]
    assert [(each.name, each.version) for each in held] == [("d", 1), ("a", 1), ("b", 1), ("c", 1)]
    for weight in (0, 1001):
        with pytest.raises(RefusedError, match=f"the weight must be 1 to 1000, not {weight}"):
            await add_credential(store, name="e", weight=weight)


async def test_what_is_said_of_an_upstreams_models_is_kept(store: Store) -> None:
    abilities = (
        Ability(pattern="gpt-3.5*", context=16385, vision=False),
        Ability(tools=True, json=True, prefill=False),
    )
    made = replace(upstream(), abilities=abilities, spread=Spread.WEIGHT)
    await store.change("test", lambda change: upstreams.add(change, made))
    await store.reload()
    assert store.problems == ()
    assert store.snapshot.upstreams["openai"] == made


async def test_an_upstream_that_asks_for_nothing_gets_no_credential(store: Store) -> None:
    made = replace(upstream("ollama", "http://127.0.0.1:11434"), auth=AuthStyle.NONE)
    await store.change("test", lambda change: upstreams.add(change, made))
    with pytest.raises(RefusedError, match="upstreams set ollama --auth bearer"):
        await add_credential(store, "ollama")


async def test_a_client_key_is_known_by_its_hash_alone(store: Store) -> None:
    new = (await store.change("test", lambda change: clients.add(change, "laptop", expires_days=2))).value
    key = new.key.reveal()
    assert re.fullmatch(r"mlxg_[A-Za-z0-9_-]{43}", key)
    (client,) = store.snapshot.clients.values()
    assert store.snapshot.clients[clients.digest_of(key)] is client
    assert client.digest == hashlib.sha256(key.encode()).digest()
    assert key.startswith(client.prefix)
    assert len(client.prefix) == 9
    assert client.expires_at is not None
    assert 1.9 < (client.expires_at - time.time()) / 86400 < 2.1
    assert not client.admin
    assert key not in repr(new)


async def test_client_keys_are_changed_and_removed(store: Store) -> None:
    await store.change("test", lambda change: clients.add(change, "laptop", admin=True))
    (client,) = store.snapshot.clients.values()
    changed = replace(client, admin=False, enabled=False, expires_at=5.0)
    await store.change("test", lambda change: clients.put(change, changed))
    assert list(store.snapshot.clients.values()) == [changed]
    with pytest.raises(RefusedError, match="exists already"):
        await store.change("test", lambda change: clients.add(change, "laptop"))
    await store.change("test", lambda change: clients.remove(change, "laptop"))
    assert store.snapshot.clients == {}
    with pytest.raises(MissingError, match="no client key 'laptop'"):
        await store.change("test", lambda change: clients.remove(change, "laptop"))


@pytest.mark.parametrize("days", [0, -1, 3651, float("nan")])
def test_an_expiry_that_is_none(days: float) -> None:
    with pytest.raises(RefusedError, match="expires_days must be"):
        clients.expiry(days)


def test_a_key_from_a_stranger_can_hold_anything() -> None:
    assert len(clients.digest_of("\udcff\x00ü")) == 32


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.base_url])
async def test_every_preset_is_an_upstream_that_the_store_takes(store: Store, name: str) -> None:
    preset = PRESETS[name]
    assert preset.base_url is not None
    made = replace(
        upstream(name, preset.base_url), dialect=preset.dialect, auth=preset.auth, headers=preset.headers
    )
    done = await store.change("test", lambda change: upstreams.add(change, made))
    assert done.value.base_url == preset.base_url
    assert done.warnings == ()


def test_all_presets_are_there() -> None:
    assert list(PRESETS) == [
        "openai",
        "anthropic",
        "openrouter",
        "groq",
        "mistral",
        "deepseek",
        "together",
        "fireworks",
        "gemini",
        "azure",
        "ollama",
        "lmstudio",
        "vllm",
    ]
    assert [name for name, preset in PRESETS.items() if preset.auth is AuthStyle.NONE] == [
        "ollama",
        "lmstudio",
        "vllm",
    ]
    assert PRESETS["azure"].base_url is None
    assert "https://RESOURCE.openai.azure.com/openai/v1" in PRESETS["azure"].hint


async def test_there_is_an_end_to_the_number_of_rules(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_RULES", 2)
    await add_rule(store, "one")
    await add_rule(store, "two")
    with pytest.raises(RefusedError, match="2 rules already"):
        await add_rule(store, "three")
