"""A model comes from a hub while the gateway runs, answers, and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.hub import Hub
from tests.local.models import make_model
from tests.scenarios.daemon import Daemon, Refused, run_command

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


async def chat(daemon: Daemon, model: str) -> str:
    async with daemon.openai() as client:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=4, temperature=0
        )
    return answer.choices[0].finish_reason


async def test_a_pulled_model_answers_without_a_restart(hub: Hub, daemon: Daemon, tmp_path: Path) -> None:
    hub.publish("tiny-org/tiny", make_model(tmp_path / "tiny"))
    with pytest.raises(openai.NotFoundError):
        await chat(daemon, "tiny-org/tiny")
    done = await asyncio.to_thread(
        run_command, daemon.home, "models", "pull", "tiny-org/tiny", env=hub.env(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    make_model(daemon.home / "models" / "tiny-org" / "spare")
    assert await chat(daemon, "tiny-org/tiny") == "length"
    states = {model["name"]: model["state"] for model in await daemon.admin("models.list")}
    assert (states["tiny-org/tiny"], states["tiny-org/spare"]) == ("ready", "cold")

    with pytest.raises(Refused, match=r"tiny-org/tiny is in memory; .*models unload tiny-org/tiny"):
        await daemon.admin("models.rm", model="tiny-org/tiny")
    await daemon.admin("models.rm", model="tiny-org/spare")
    names = [model["name"] for model in await daemon.admin("models.list")]
    assert "tiny-org/tiny" in names
    assert "tiny-org/spare" not in names
    with pytest.raises(openai.NotFoundError):
        await chat(daemon, "tiny-org/spare")
    assert await chat(daemon, "tiny-org/tiny") == "length"
