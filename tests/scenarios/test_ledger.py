"""The request ledger of a whole gateway: what `mlx-gateway db requests` tells afterwards."""

from __future__ import annotations

import json
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon, run_command, running

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
PROMPT = "a prompt that nobody but the upstream may keep"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        yield Path(folder) / "home"


async def ask(daemon: Daemon, model: str) -> int:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": True})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        await reply.read()
        return reply.status


async def test_the_last_request_before_a_stop_is_in_the_ledger(home: Path) -> None:
    async with Lab() as lab, Lab() as broken, running(home) as daemon:
        lab.always(CHAT, lab.sse(canned.chat_stream(canned.TEXT)))
        broken.always(CHAT, broken.error(500))
        first, second = await daemon.upstream(broken), await daemon.upstream(lab)
        model = await daemon.rule(first, second)
        assert await ask(daemon, model) == 200
        [live] = await daemon.admin("db.requests")
        assert await ask(daemon, "nowhere") == 404
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended(within=5) == 0
    entries = json.loads(run_command(home, "db", "requests", "--json").stdout)
    assert [entry["model"] for entry in entries] == ["nowhere", model]
    assert entries[1] == live
    assert live["served_by"] == f"{second}/{model}"
    assert live["attempts"].startswith(f"{first}/{model}=server_fault;dur=")
    assert live["first_content_s"] <= live["seconds"]
    with closing(sqlite3.connect(home / "gateway.db")) as database:
        assert PROMPT not in "\n".join(database.iterdump())


async def test_a_ledger_that_is_off_keeps_nothing(home: Path) -> None:
    async with running(home, "[store]\nledger = false\n") as daemon:
        assert await ask(daemon, "nowhere") == 404
        assert await daemon.admin("db.requests") == []


async def test_requests_are_answered_while_the_database_is_locked(home: Path) -> None:
    async with Lab() as lab, running(home) as daemon:
        lab.always(CHAT, lab.sse(canned.chat_stream(canned.TEXT)))
        model = await daemon.rule(await daemon.upstream(lab))
        with closing(sqlite3.connect(home / "gateway.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(20):
                assert await ask(daemon, model) == 200
            other.rollback()
        assert len(await daemon.admin("db.requests")) == 20
        async with daemon.http() as http, http.get("/metrics") as page:
            assert "mlx_gateway_ledger_dropped_total 0.0" in await page.text()
