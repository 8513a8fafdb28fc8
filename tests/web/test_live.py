"""What only a running gateway knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.operations import Context, run
from gateway.cloud.client import CloudClient
from gateway.cloud.credentials import Credentials
from gateway.config import Config, Local
from gateway.errors import MissingError
from gateway.failover.breaker import Breakers, Key
from gateway.failover.budget import RetryBudget
from gateway.failover.learnt import Learnt
from gateway.failover.outcome import Failure, Outcome
from gateway.relay.exchange import Limits
from gateway.relay.planner import Planner
from gateway.relay.relay import Relay
from gateway.store.memory import Memory
from gateway.store.store import Store
from gateway.web.live import LiveView
from tests.lab import Lab


class Live:
    """A view on a real store and cloud client; the local pool is off."""

    def __init__(self, store: Store, config: Config, home: Path) -> None:
        self.store = store
        self.cloud = CloudClient(config.cloud, Credentials(store.vault.open))
        self.breakers = Breakers()
        self.memory = Memory(store, self.breakers)
        learnt = Learnt()
        self.planner = Planner(
            local=None, breakers=self.breakers, learnt=learnt, default_upstream="", jitter=lambda: 0.5
        )
        self.relay = Relay(
            snapshot=lambda: store.snapshot,
            local=None,
            cloud=self.cloud,
            planner=self.planner,
            breakers=self.breakers,
            learnt=learnt,
            budget=RetryBudget(),
            limits=Limits(heartbeat_s=15, write_s=60, reply_limit=1 << 20),
        )
        self.view = LiveView(
            config,
            store,
            relay=self.relay,
            planner=self.planner,
            pool=None,
            cloud=self.cloud,
            memory=self.memory,
        )
        self._context = Context(store=store, home=home, config=config, actor="owner", live=self.view)

    async def do(self, operation: str, **args: Any) -> Any:
        return await run(self._context, operation, args)

    async def upstream(self, name: str, lab: Lab) -> None:
        await self.do("upstreams.add", name=name, dialect="openai", base_url=lab.base_url)
        await self.do("credentials.add", upstream=name, secret="sk-lab-0123456789")


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    config = Config(local=Local(enabled=False, hub_cache=False))
    store = await Store.open(config, tmp_path / "home", wait_s=0.0, busy_s=0.1)
    made = Live(store, config, tmp_path / "home")
    yield made
    await made.cloud.close()
    await store.close()


async def test_status_says_what_there_is(live: Live) -> None:
    await live.do("rules.add", pattern="x", to=["local:demo"])
    live.view.port = 4711
    status = await live.do("status")
    assert status["listening"] == "http://127.0.0.1:4711/v1"
    assert (status["rules"], status["upstreams"], status["client_keys"]) == (1, 0, 0)
    assert status["in_flight"] == 0
    assert status["local"] is None
    assert status["uptime_s"] >= 0
    assert live.view.local_models() == []
    assert live.view.local_names() == []


async def test_the_models_of_an_upstream_are_remembered(live: Live) -> None:
    async with Lab() as lab:
        await live.upstream("a", lab)
        lab.script("/v1/models", lab.models("one", "two"))
        assert await live.view.upstream_names("a") == ["one", "two"]
        assert await live.view.upstream_names("a") == ["one", "two"]
        assert lab.hits == 1
        assert lab.seen[0].header("authorization") == "Bearer sk-lab-0123456789"
        await live.do("upstreams.set", name="a", note="changed")
        await live.view.upstream_names("a")
        assert lab.hits == 2


async def test_an_upstream_that_says_no_has_no_models(live: Live) -> None:
    async with Lab() as lab:
        await live.upstream("a", lab)
        lab.always("/v1/models", lab.error(500))
        assert await live.view.upstream_names("a") == []


async def test_an_upstream_that_is_gone_by_now_has_no_models(live: Live) -> None:
    """It was removed between the list of upstreams and the question: the whole list became a 500."""
    assert await live.view.upstream_names("removed") == []


async def test_testing_an_upstream_tells_its_outcome(live: Live) -> None:
    async with Lab() as lab:
        await live.upstream("a", lab)
        good = await live.do("upstreams.test", name="a")
        assert (good["ok"], good["outcome"], good["models"]) == (True, "ok", ["gpt-lab"])
        lab.always("/v1/models", lab.error(401))
        bad = await live.do("upstreams.test", name="a")
        assert (bad["ok"], bad["outcome"], bad["models"]) == (False, "auth", [])
        assert bad["message"]
        assert "sk-lab" not in str(bad)
        with pytest.raises(MissingError):
            await live.do("upstreams.test", name="b")


async def test_explain_gives_the_plan_of_each_dialect_and_asks_nobody(live: Live) -> None:
    async with Lab() as lab:
        await live.upstream("a", lab)
        await live.do("rules.add", pattern="m", to=["local:demo", "a:other"])
        told = await live.do("explain", model="m")
        assert lab.hits == 0
    chat = told["plans"]["/v1/chat/completions"]
    assert chat["try"] == [{"target": "a/other", "credential": "default", "late": None}]
    assert [each["target"] for each in chat["skip"]] == ["local/demo"]
    assert told["plans"]["/v1/messages"]["try"] == chat["try"]  # it is asked as a chat
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_what_is_left_alone_is_told_as_it_is_now_and_can_be_reset(live: Live) -> None:
    async with Lab() as lab:
        await live.upstream("a", lab)
    now = asyncio.get_running_loop().time()
    live.breakers.record(Key("a", 1, "gpt", 1), Failure(outcome=Outcome.AUTH, message="no"), now)
    live.breakers.record(
        Key("local", None, "demo"), Failure(outcome=Outcome.MODEL_MISSING, message="no"), now
    )
    cooling = (await live.do("status"))["cooling"]
    assert [(c["backend"], c["model"], c["credential"], c["state"]) for c in cooling] == [
        ("a", None, "default", "dead"),
        ("local", "demo", None, "cooling"),
    ]
    assert 0 < cooling[1]["until_s"] <= 60
    assert (await live.do("credentials.show", upstream="a"))["standing"] == "dead"
    done = await live.do("upstreams.reset", name="a", credential="default")
    assert [c["state"] for c in done["cleared"]] == ["dead"]
    assert (await live.do("credentials.show", upstream="a"))["standing"] == "ok"
    assert live.breakers.judge(Key("a", 1, "gpt", 1), now).ready
    assert [c["backend"] for c in (await live.do("status"))["cooling"]] == ["local"]
