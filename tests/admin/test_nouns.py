"""The operations noun by noun: arguments in, JSON out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.operations import Context
from gateway.errors import ConfigError, MissingError, RefusedError
from gateway.store.clients import digest_of
from tests.admin.conftest import Run

RULE = {
    "id": 1,
    "pattern": "gpt-4o*",
    "priority": 10,
    "enabled": True,
    "targets": ["local:qwen3-8b", "openai:{model}"],
    "policy": "default",
    "note": "",
}


async def add_gpt(do: Run) -> Any:
    await do("upstreams.add", name="openai", preset="openai")
    return await do("rules.add", pattern="gpt-4o*", to=["local:qwen3-8b", "openai:{model}"], priority=10)


async def test_a_rule_from_its_beginning_to_its_end(do: Run) -> None:
    assert await add_gpt(do) == {**RULE, "warnings": []}
    assert await do("rules.list") == [RULE]
    assert await do("rules.show", rule="gpt-4o*") == await do("rules.show", rule=1) == RULE
    changed = await do("rules.set", rule=1, to=["openai"], note="the cloud", priority=-1, pattern="gpt-4*")
    assert changed == {
        **RULE,
        "targets": ["openai"],
        "note": "the cloud",
        "priority": -1,
        "pattern": "gpt-4*",
        "warnings": [],
    }
    assert not (await do("rules.disable", rule="gpt-4*"))["enabled"]
    assert (await do("rules.enable", rule="1"))["enabled"]
    assert (await do("rules.remove", rule=1))["id"] == 1
    assert await do("rules.list") == []
    with pytest.raises(MissingError, match="no rule '1'"):
        await do("rules.show", rule=1)
    actions = [entry["action"] for entry in await do("db.history") if entry["noun"] == "rules"]
    assert actions == ["remove", "enable", "disable", "set", "add"]


async def test_setting_nothing_is_refused(do: Run) -> None:
    await add_gpt(do)
    await do("clients.add", name="laptop")
    await do("credentials.add", upstream="openai", secret="sk-0123456789abcdef")
    for operation, args in (
        ("rules.set", {"rule": 1}),
        ("upstreams.set", {"name": "openai"}),
        ("clients.set", {"name": "laptop"}),
        ("credentials.set", {"upstream": "openai"}),
    ):
        with pytest.raises(RefusedError, match="nothing to set"):
            await do(operation, **args)


async def test_checking_finds_errors_and_warnings(do: Run, context: Context) -> None:
    await add_gpt(do)
    shadowed = await do("rules.add", pattern="gpt-4o-mini*", to=["local:tiny"])
    assert len(shadowed["warnings"]) == 1
    (finding,) = (await do("rules.check"))["findings"]
    assert (finding["level"], finding["rule"], finding["pattern"]) == ("warning", 2, "gpt-4o-mini*")
    assert "never wins" in finding["message"]


async def test_a_refused_rule_leaves_everything_as_it_was(do: Run, context: Context) -> None:
    await add_gpt(do)
    before = context.store.snapshot
    for args in ({"to": ["nowhere"]}, {"to": [":x"]}, {"policy": "fast"}, {"pattern": ""}):
        with pytest.raises(RefusedError):
            await do("rules.set", rule=1, **args)
    assert context.store.snapshot is before


async def test_a_policy_from_its_beginning_to_its_end(do: Run) -> None:
    default, local_only = await do("policies.list")
    assert default["name"] == "default"
    assert default["built_in"]
    assert default["first_token_s"] is None
    assert default["set"] == []
    assert local_only["stay_local"]
    made = await do("policies.set", name="fast", knobs={"first_token_s": 4, "hedge_after_s": 2})
    assert (made["first_token_s"], made["set"]) == (4.0, ["first_token_s", "hedge_after_s"])
    assert made["warnings"] == []
    made = await do("policies.set", name="fast", knobs={"hedge_after_s": None, "on": ["slow"]})
    assert (made["hedge_after_s"], made["on"], made["set"]) == (None, ["slow"], ["first_token_s", "on"])
    assert made["warnings"] == []
    shown = await do("policies.show", name="fast")
    assert {**shown, "warnings": []} == made
    with pytest.raises(RefusedError, match="exists already"):
        await do("policies.add", name="fast")
    await do("policies.add", name="other")
    await do("policies.remove", name="fast")
    with pytest.raises(MissingError, match="known: default, local-only, other"):
        await do("policies.show", name="fast")


async def test_an_upstream_from_a_preset(do: Run) -> None:
    assert await do("upstreams.add", name="claude", preset="anthropic", note="mine") == {
        "name": "claude",
        "dialect": "anthropic",
        "base_url": "https://api.anthropic.com/v1",
        "auth": "x-api-key",
        "headers": {"anthropic-version": "2023-06-01"},
        "query": {},
        "connect_s": 5.0,
        "list_models": True,
        "enabled": True,
        "note": "mine",
        "abilities": [],
        "spread": "order",
        "warnings": [],
    }


async def test_a_preset_knows_who_has_no_responses_api(do: Run) -> None:
    made = await do("upstreams.add", name="mistral", preset="mistral")
    assert [(each["pattern"], each["responses"]) for each in made["abilities"]] == [("*", False)]
    (listed,) = [one for one in await do("upstreams.presets") if one["name"] == "mistral"]
    assert listed["abilities"] == made["abilities"]
    assert (await do("upstreams.add", name="other", preset="mistral", abilities=[]))["abilities"] == []


async def test_what_is_given_wins_over_the_preset(do: Run) -> None:
    made = await do(
        "upstreams.add",
        name="azure",
        preset="azure",
        base_url="https://mine.openai.azure.com/openai/v1/",
        query={"api-version": "preview"},
    )
    assert (made["base_url"], made["auth"]) == ("https://mine.openai.azure.com/openai/v1", "api-key")
    assert made["query"] == {"api-version": "preview"}


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"preset": "azure"}, "needs a base URL; give your own resource"),
        ({}, "needs a base URL; give --base-url, or --preset with one of: openai, anthropic"),
        ({"preset": "opnai"}, "no preset 'opnai'; known: openai"),
        ({"base_url": "https://h/v1", "dialect": "gemini"}, "dialect must be one of openai, anthropic"),
        (
            {"base_url": "https://h/v1", "auth": "basic"},
            "auth must be one of bearer, x-api-key, api-key, none",
        ),
    ],
)
async def test_an_upstream_that_cannot_be_added(do: Run, args: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        await do("upstreams.add", name="x", **args)


async def test_an_upstream_from_scratch_in_either_dialect(do: Run) -> None:
    one = await do("upstreams.add", name="one", base_url="http://mini.local:8000")
    assert (one["dialect"], one["auth"], one["base_url"]) == ("openai", "bearer", "http://mini.local:8000/v1")
    assert "can read the key" in one["warnings"][0]
    two = await do("upstreams.add", name="two", base_url="https://h.example.com/v1", dialect="anthropic")
    assert (two["auth"], two["headers"]) == ("x-api-key", {"anthropic-version": "2023-06-01"})


async def test_an_upstream_is_changed_and_removed(do: Run) -> None:
    await do("upstreams.add", name="vllm", preset="vllm")
    changed = await do("upstreams.set", name="vllm", auth="bearer", connect_s=2, enabled=False, headers={})
    assert (changed["auth"], changed["connect_s"], changed["enabled"]) == ("bearer", 2.0, False)
    shown = {k: v for k, v in changed.items() if k != "warnings"}
    assert await do("upstreams.show", name="vllm") == {**shown, "credentials": [], "cooling": []}
    await do("upstreams.remove", name="vllm")
    assert await do("upstreams.list") == []
    with pytest.raises(MissingError, match="known: none yet"):
        await do("upstreams.set", name="vllm", auth="none")


async def test_the_presets(do: Run) -> None:
    presets = {preset["name"]: preset for preset in await do("upstreams.presets")}
    assert presets["openai"]["key_env"] == "OPENAI_API_KEY"
    assert presets["azure"]["base_url"] is None
    for name, preset in presets.items():
        given = {} if preset["base_url"] else {"base_url": "https://mine.openai.azure.com/openai/v1"}
        assert (await do("upstreams.add", name=name, preset=name, **given))["warnings"] == []


async def test_a_credential_from_its_beginning_to_its_end(do: Run, context: Context) -> None:
    await do("upstreams.add", name="openai", preset="openai")
    made = await do("credentials.add", upstream="openai", secret="sk-proj-0123456789abcdef\n")
    shown = {
        "id": 1, "upstream": "openai", "name": "default", "version": 1, "hint": "sk-...cdef", "enabled": True,
        "weight": 1,
    }  # fmt: skip
    assert made == {**shown, "warnings": []}
    told = {**shown, "standing": "ok", "until_s": None}
    assert await do("credentials.list") == await do("credentials.list", upstream="openai") == [told]
    assert await do("credentials.show", upstream="openai") == told
    off = await do("credentials.set", upstream="openai", enabled=False)
    assert (off["enabled"], off["version"]) == (False, 1)
    new = await do("credentials.set", upstream="openai", secret="sk-proj-ffffffffffffffff9999")
    assert (new["hint"], new["version"], new["enabled"]) == ("sk-...9999", 2, False)
    (held,) = context.store.snapshot.credentials["openai"]
    assert context.store.vault.open(held).reveal() == "sk-proj-ffffffffffffffff9999"
    await do("credentials.remove", upstream="openai")
    assert await do("credentials.list") == []
    for operation, args in (
        ("credentials.show", {"upstream": "openai"}),
        ("credentials.list", {"upstream": "nobody"}),
        ("credentials.remove", {"upstream": "nobody"}),
    ):
        with pytest.raises(MissingError):
            await do(operation, **args)


async def test_credentials_are_weighed(do: Run) -> None:
    await do("upstreams.add", name="openai", preset="openai")
    await do("credentials.add", upstream="openai", secret="sk-proj-0123456789abcdef")
    await do("credentials.add", upstream="openai", name="b", secret="sk-proj-0123456789abcdef", weight=3)
    assert [held["name"] for held in await do("credentials.list")] == ["b", "default"]
    assert (await do("credentials.set", upstream="openai", weight=4))["weight"] == 4
    assert [held["name"] for held in await do("credentials.list")] == ["default", "b"]
    with pytest.raises(ConfigError, match="weight must be a whole number of at most 1000"):
        await do("credentials.set", upstream="openai", weight=1001)


async def test_abilities_are_given_as_objects_and_replaced_as_a_whole(do: Run) -> None:
    made = await do(
        "upstreams.add",
        name="openai",
        preset="openai",
        spread="weight",
        abilities=[{"pattern": "gpt-3.5*", "context": 16385, "vision": False}, {"tools": True}],
    )
    unsaid = dict.fromkeys(("context", "vision", "tools", "json", "prefill", "responses"))
    assert made["spread"] == "weight"
    assert made["abilities"] == [
        {**unsaid, "pattern": "gpt-3.5*", "context": 16385, "vision": False},
        {**unsaid, "pattern": "*", "tools": True},
    ]
    assert (await do("upstreams.set", name="openai", note="ours"))["abilities"] == made["abilities"]
    assert (await do("upstreams.set", name="openai", abilities=[]))["abilities"] == []
    with pytest.raises(RefusedError, match="spread must be one of order, weight, not 'thin'"):
        await do("upstreams.set", name="openai", spread="thin")
    with pytest.raises(ConfigError, match="did you mean 'context'"):
        await do("upstreams.set", name="openai", abilities=[{"contxt": 1}])
    entry = (await do("db.history"))[0]
    assert (entry["before"]["abilities"], entry["after"]["abilities"]) == (made["abilities"], [])


@pytest.mark.parametrize("secret", ["", "  \n", "two words", "one\ntwo"])
async def test_a_secret_that_is_none_is_refused(do: Run, secret: str) -> None:
    await do("upstreams.add", name="openai", preset="openai")
    with pytest.raises(RefusedError, match="the secret"):
        await do("credentials.add", upstream="openai", secret=secret)
    assert await do("credentials.list") == []


async def test_a_client_key_is_shown_once(do: Run, context: Context) -> None:
    made = await do("clients.add", name="laptop", admin=True, expires_days=1.5)
    key = made["key"]
    assert digest_of(key) in context.store.snapshot.clients
    assert (made["admin"], made["enabled"], made["prefix"]) == (True, True, key[:9])
    assert made["expires_at"].endswith("Z")
    rest = [await do("clients.list"), await do("clients.show", name="laptop"), await do("db.history")]
    assert key not in repr(rest)
    changed = await do("clients.set", name="laptop", admin=False, enabled=False, expires_days=None)
    assert (changed["admin"], changed["enabled"], changed["expires_at"]) == (False, False, None)
    assert (await do("clients.set", name="laptop", expires_days=7))["expires_at"] is not None
    with pytest.raises(RefusedError, match="expires_days must be"):
        await do("clients.set", name="laptop", expires_days=-1)
    await do("clients.remove", name="laptop")
    with pytest.raises(MissingError, match="no client key 'laptop'"):
        await do("clients.show", name="laptop")


async def test_explaining_says_what_would_be_tried_and_why(do: Run) -> None:
    await add_gpt(do)
    await do("rules.add", pattern="gpt-*", to=["local:tiny"], policy="local-only")
    explained = await do("explain", model="gpt-4o-mini")
    assert explained["rule"] == RULE
    assert explained["policy"]["name"] == "default"
    assert explained["locality"] == "anywhere"
    assert explained["targets"] == [
        {
            "target": "local/qwen3-8b",
            "backend": "local",
            "model": "qwen3-8b",
            "usable": True,
            "reason": None,
        },
        {
            "target": "openai/gpt-4o-mini",
            "backend": "openai",
            "model": "gpt-4o-mini",
            "usable": False,
            "reason": "the upstream has no credential; mlx-gateway credentials add openai",
        },
    ]
    assert [(each["rule"], each["standing"]) for each in explained["considered"]] == [
        (1, "won"),
        (2, "beaten"),
    ]
    await do("credentials.add", upstream="openai", secret="sk-0123456789abcdef")
    assert (await do("explain", model="gpt-4o-mini"))["targets"][1]["usable"]
    await do("upstreams.set", name="openai", enabled=False)
    assert (await do("explain", model="gpt-4o-mini"))["targets"][1]["reason"] == "the upstream is disabled"
    assert (await do("explain", model="gpt-5"))["locality"] == "local-only"
    nobody = await do("explain", model="llama")
    assert (nobody["rule"], nobody["targets"][0]["target"]) == (None, "local/llama")
    with pytest.raises(RefusedError, match="which is not one of"):
        await do("explain", model="two words")
