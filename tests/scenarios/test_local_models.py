"""Many models in one memory: loaded when asked for, evicted by age, unloaded when idle or told to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios import daemon as gateways
from tests.scenarios.conftest import SETTINGS
from tests.scenarios.daemon import Daemon, Refused
from tests.scenarios.parrots import AGAIN, BEGIN, make_parrot
from tests.scenarios.talk import CHAT, body_of, content, post, reach, refusal, running, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOR_EVER = 90_000
HEAVY = [f"heavy{number}" for number in range(6)]  # 65 MB each: they can't all stay


@pytest.fixture(scope="module")
def settings() -> str:
    return f"{SETTINGS}\n[local]\nmemory_limit_gb = 0.6\n"


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_parrot(models / "endless", {BEGIN: [" la", AGAIN]}, context=100_000)
        make_parrot(models / "lab" / "small", {BEGIN: ["small"]})
        for name in HEAVY:
            make_parrot(models / name, {BEGIN: [f"I am {name}"]}, hidden=1260)
        make_parrot(models / "huge", {BEGIN: ["never"]}, hidden=4096)

    return make


async def states(daemon: Daemon) -> dict[str, str]:
    """What each model is doing, as the status has it; those on the disk alone are cold or not there."""
    models = (await daemon.admin("status"))["local"]["models"]
    return {name: model["state"] for name, model in models.items()}


async def ready(daemon: Daemon) -> set[str]:
    return {name for name, state in (await states(daemon)).items() if state == "ready"}


async def test_models_are_listed_before_they_are_loaded(daemon: Daemon) -> None:
    listed = {model["name"]: model for model in await daemon.admin("models.list")}
    assert listed.keys() >= {"demo", "endless", "lab/small", *HEAVY}
    assert listed["lab/small"]["state"] == "cold"
    assert listed["heavy0"]["size_bytes"] > 60_000_000
    async with daemon.openai() as client:
        served = [model.id async for model in await client.models.list()]
    assert {"demo", "lab/small"} <= set(served)


async def test_model_is_loaded_and_unloaded_by_command(daemon: Daemon) -> None:
    for _ in range(2):
        await daemon.admin("models.load", model="lab/small")
        assert "lab/small" in await ready(daemon)
        await daemon.admin("models.load", model="lab/small")  # there already
        assert content(await whole(daemon, "lab/small", "hi")) == "small"
        await daemon.admin("models.unload", model="lab/small")
        assert "lab/small" not in await ready(daemon)
    assert content(await whole(daemon, "lab/small", "hi")) == "small", "who asks loads it again"


async def test_show_says_what_a_model_is(daemon: Daemon) -> None:
    shown = await daemon.admin("models.show", model="lab/small")
    now = shown["now"]
    assert (now["queue"], now["wait_s"]) == (0, 0.0)
    assert now["memory_free_bytes"] > 0
    assert now["prefill_tps"] > 0
    assert shown["name"] == "lab/small"
    assert shown["context"] == 2048
    assert "llama" in str(shown)


@pytest.mark.parametrize("operation", ["models.load", "models.unload", "models.show"])
async def test_commands_know_models_by_name_only(daemon: Daemon, operation: str) -> None:
    for name in ("not-here", "../models/endless", str(daemon.home / "models" / "endless"), ""):
        with pytest.raises(Refused) as caught:
            await daemon.admin(operation, model=name)
        assert 400 <= caught.value.status < 500


async def test_least_recently_used_model_makes_room(daemon: Daemon) -> None:
    """A stream is never in the way of others, and nobody takes its model from under it."""
    async with running(daemon, "endless", "hi", max_tokens=FOR_EVER) as beside:
        order = [*HEAVY[:2], HEAVY[0], *HEAVY[2:]]
        for name in order:
            assert content(await whole(daemon, name, "hi")) == f"I am {name}"
            assert {name, "endless"} <= await ready(daemon)
        latest = sorted(HEAVY, key=lambda name: len(order) - order[::-1].index(name))
        kept = [name for name in latest if name in await ready(daemon)]
        assert 1 <= len(kept) < len(HEAVY)
        assert kept == latest[-len(kept) :], "one that was used later has gone before an earlier one"
        await beside.past(len(beside.texts) + 10)
    assert content(await whole(daemon, HEAVY[1], "hi")) == f"I am {HEAVY[1]}", "what was evicted comes back"


async def test_more_models_at_once_than_there_is_room_for(daemon: Daemon) -> None:
    """Each request is answered or told to come again; none hangs, and none breaks its model."""
    asked = [body_of(name, "hi", max_tokens=2) for name in [*HEAVY, "demo", "lab/small"] * 2]
    async with asyncio.timeout(40):
        told = await asyncio.gather(*(post(daemon, CHAT, body) for body in asked))
    assert {status for status, _ in told} <= {200, 503}
    assert len([status for status, _ in told if status == 200]) >= 2
    for name in HEAVY:
        assert content(await whole(daemon, name, "hi")) == f"I am {name}"


async def test_model_that_can_never_fit_is_refused_at_once(daemon: Daemon) -> None:
    before = await ready(daemon)
    error = await refusal(daemon, "huge", "hi", status=503)
    assert "memory" in error["message"]
    assert before <= await ready(daemon), "nobody was evicted for it"


async def listed(daemon: Daemon, name: str) -> None:
    """Wait until a new folder has been seen."""
    async with asyncio.timeout(5):
        while name not in {model["name"] for model in await daemon.admin("models.list")}:
            await asyncio.sleep(0.05)


async def test_new_model_is_found_without_a_restart(daemon: Daemon) -> None:
    make_parrot(daemon.home / "models" / "late", {BEGIN: ["better late"]})
    await listed(daemon, "late")
    assert content(await whole(daemon, "late", "hi")) == "better late"


async def test_model_that_changed_on_disk_is_loaded_anew(daemon: Daemon) -> None:
    """Its weights, its tokens and its cached prompts belong together: none of the old may be left."""
    said: list[Any] = []
    for word in ("before", "after"):
        make_parrot(daemon.home / "models" / "changing", {BEGIN: [word]})
        await listed(daemon, "changing")
        await daemon.admin("models.load", model="changing")
        said.append(content(await whole(daemon, "changing", "hi, " * 30)))
        await daemon.admin("models.unload", model="changing")
    assert said == ["before", "after"]


async def test_place_is_free_again_after_each_way_to_leave(daemon: Daemon) -> None:
    async with running(daemon, "endless", "hi", max_tokens=FOR_EVER):
        await reach(daemon, "endless", 1, within=2)
    await reach(daemon, "endless", 0, within=2)
    await whole(daemon, "endless", "hi", max_tokens=3)
    await reach(daemon, "endless", 0, within=2)


async def test_idle_model_leaves_by_itself() -> None:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        home = Path(folder) / "home"
        for name in ("brief", "busy"):
            make_parrot(home / "models" / name, {BEGIN: [" la", AGAIN]}, context=100_000)
        async with (
            gateways.running(home, f"{SETTINGS}\n[local]\nkeep_alive_s = 1.0\n") as daemon,
            running(daemon, "busy", "hi", max_tokens=FOR_EVER) as beside,
            asyncio.timeout(15),
        ):
            await whole(daemon, "brief", "hi", max_tokens=2)
            while "brief" in await ready(daemon):
                await asyncio.sleep(0.05)
            await beside.past(len(beside.texts) + 20)
            assert "busy" in await ready(daemon), "a model that answers is not idle"
            assert content(await whole(daemon, "brief", "hi", max_tokens=2)).split() == ["la", "la"]
