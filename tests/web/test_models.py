"""GET /v1/models: names that can be asked for, each of which is sure to be routed somewhere."""

from __future__ import annotations

import asyncio

import pytest

from gateway.web import models
from tests.house import House, rule, running, snapshot, upstream

ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def names(house: House) -> dict[str, str]:
    async with house.http.get("/v1/models") as reply:
        assert reply.status == 200
        return {each["id"]: each["owned_by"] for each in (await reply.json())["data"]}


async def test_local_names_exact_rules_and_what_rules_lead_to() -> None:
    async with running() as house:
        house.local = ["qwen3-8b", "shared"]
        house.listed = {"a": ["gpt-4o", "gpt-other", "hidden", "shared"]}
        house.snapshot = snapshot(
            rules=[
                rule("alias", "a:gpt-4o", number=1),
                rule("gpt-*", "a:{model}", number=2),
                rule("gpt-other", "local:qwen3-8b", number=3),
            ],
            upstreams=[upstream("a")],
        )
        assert await names(house) == {
            "qwen3-8b": "local",
            "shared": "local",
            "alias": "mlx-gateway",
            "gpt-other": "mlx-gateway",
            "gpt-4o": "a",
        }


async def test_upstreams_that_are_off_are_not_asked() -> None:
    async with running() as house:
        house.snapshot = snapshot(
            rules=[rule("*", "a")],
            upstreams=[upstream("a", enabled=False), upstream("b", list_models=False)],
        )
        assert await names(house) == {}


async def test_a_dead_upstream_does_not_hold_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_UPSTREAM_S", 0.05)

    async def never(self: House, upstream: str) -> list[str]:
        if upstream == "dead":
            await asyncio.Event().wait()
        return ["x"]

    monkeypatch.setattr(House, "upstream_names", never)
    async with running() as house:
        house.snapshot = snapshot(rules=[rule("x", "a")], upstreams=[upstream("dead"), upstream("a")])
        assert "x" in await names(house)


async def test_both_dialects_and_one_model() -> None:
    async with running() as house:
        house.local = ["org/model"]
        async with house.http.get("/v1/models", headers=ANTHROPIC) as reply:
            listed = await reply.json()
        assert listed["data"][0]["type"] == "model"
        assert listed["has_more"] is False
        for path in ("/v1/models/org/model", "/v1/models/org%2Fmodel"):
            async with house.http.get(path) as reply:
                assert (await reply.json())["id"] == "org/model"
        async with house.http.get("/v1/models/org/model", headers=ANTHROPIC) as reply:
            assert (await reply.json())["type"] == "model"
        async with house.http.get("/v1/models/other", headers=ANTHROPIC) as reply:
            assert reply.status == 404
            assert (await reply.json())["error"]["type"] == "not_found_error"
        async with house.http.get("/v1/models/other") as reply:
            assert (await reply.json())["error"]["code"] == "model_not_found"
