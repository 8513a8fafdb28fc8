"""What a gateway has learnt of its upstreams outlives it, also where it had no time to say goodbye."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.scenarios.daemon import Daemon, running

CHAT = "/v1/chat/completions"
DEAD, SPARE, NEW = "sk-dead-key-000001", "sk-spare-key-00002", "sk-fresh-key-00003"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        yield Path(folder) / "home"


async def ask(daemon: Daemon, model: str) -> int:
    async with daemon.http() as http, http.post(CHAT, json={"model": model, "messages": []}) as reply:
        await reply.read()
        return reply.status


async def standing(daemon: Daemon, upstream: str) -> list[str]:
    return [held["standing"] for held in await daemon.admin("credentials.list", upstream=upstream)]


def marks(home: Path) -> int:
    with closing(sqlite3.connect(home / "gateway.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM standings").fetchone()[0])


async def test_a_dead_key_stays_out_after_kill_9_until_it_is_reset_or_changed(home: Path) -> None:
    async with Lab() as lab:
        async with running(home) as daemon:
            upstream = await daemon.upstream(lab, key=DEAD)
            await daemon.admin("credentials.add", upstream=upstream, name="spare", secret=SPARE)
            model = await daemon.rule(upstream)
            lab.script(CHAT, lab.error(401), lab.chat())
            assert await ask(daemon, model) == 200
            assert [seen.header("authorization") for seen in lab.seen] == [
                f"Bearer {DEAD}",
                f"Bearer {SPARE}",
            ]
            async with asyncio.timeout(5.0):
                while not await asyncio.to_thread(marks, home):
                    await asyncio.sleep(0.02)
            daemon.process.kill()
            await daemon.ended()

        async def shown(daemon: Daemon) -> list[str]:
            lab.seen.clear()
            assert await ask(daemon, model) == 200
            return [str(seen.header("authorization")).removeprefix("Bearer ") for seen in lab.seen]

        lab.always(CHAT, lab.chat())
        async with running(home) as daemon:
            assert await standing(daemon, upstream) == ["dead", "ok"]
            assert await shown(daemon) == [SPARE]
            [cooling] = (await daemon.admin("status"))["cooling"]
            assert (cooling["backend"], cooling["credential"], cooling["state"]) == (
                upstream,
                "default",
                "dead",
            )

            done = await daemon.admin("upstreams.reset", name=upstream)
            assert [(one["credential"], one["state"]) for one in done["cleared"]] == [("default", "dead")]
            assert await asyncio.to_thread(marks, home) == 0
            assert await shown(daemon) == [DEAD]

            lab.script(CHAT, lab.error(401), lab.chat())
            assert await shown(daemon) == [DEAD, SPARE]
            assert await shown(daemon) == [SPARE]
            await daemon.admin("credentials.set", upstream=upstream, name="default", secret=NEW)
            assert await standing(daemon, upstream) == ["ok", "ok"]
            assert await shown(daemon) == [NEW]
