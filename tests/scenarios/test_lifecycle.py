"""Start, reload and stop, as a service manager and a person do it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import openai
import pytest

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon, run_command, running

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        yield Path(folder) / "home"


async def _long_stream(daemon: Daemon, lab: Lab, gate: asyncio.Event) -> aiohttp.ClientResponse:
    events = canned.chat_stream(canned.TEXT)
    lab.script(CHAT, lab.sse([*events[:3], gate, *events[3:]]))
    model = await daemon.rule(await daemon.upstream(lab))
    http = daemon.http()
    body = json.dumps({"model": model, "messages": [], "stream": True})
    reply = await http.post(CHAT, data=body, headers=JSON)
    reply.http = http  # type: ignore[attr-defined] # kept open as long as its reply
    await reply.content.readany()
    return reply


async def test_sigterm_lets_running_streams_finish(home: Path) -> None:
    async with Lab() as lab, running(home) as daemon:
        gate = asyncio.Event()
        reply = await _long_stream(daemon, lab, gate)
        daemon.signal(signal.SIGTERM)
        await daemon.said("stopping")
        async with asyncio.timeout(2):
            while await _connects(daemon.port):
                await asyncio.sleep(0.01)
        gate.set()
        data = await reply.read()
        assert data.endswith(b"data: [DONE]\n\n")
        assert await daemon.ended(within=5) == 0
        await reply.http.close()  # type: ignore[attr-defined]


async def test_at_the_drain_limit_streams_end_with_an_error(home: Path) -> None:
    """aiohttp cut them without a word and took twice its limit."""
    async with Lab() as lab, running(home, "drain_s = 0.5") as daemon:
        reply = await _long_stream(daemon, lab, asyncio.Event())
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        data = await reply.read()
        assert b"shutting down" in data
        assert data.count(b'"error"') == 1
        assert await daemon.ended(within=5) == 0
        assert time.monotonic() - began < 3.5
        await reply.http.close()  # type: ignore[attr-defined]


async def test_waiting_requests_are_told_at_the_drain_limit(home: Path) -> None:
    async with Lab() as lab, running(home, "drain_s = 0.3") as daemon:
        model = await daemon.rule(await daemon.upstream(lab))
        lab.always(CHAT, lab.hang())
        async with daemon.openai() as client:
            asking = asyncio.ensure_future(client.chat.completions.create(model=model, messages=[]))
            await lab.arrived()
            daemon.signal(signal.SIGTERM)
            with pytest.raises(openai.InternalServerError) as caught:
                await asking
        assert caught.value.status_code == 503
        assert await daemon.ended(within=5) == 0


async def test_second_signal_ends_at_once(home: Path) -> None:
    async with Lab() as lab, running(home, "drain_s = 60") as daemon:
        reply = await _long_stream(daemon, lab, asyncio.Event())
        daemon.signal(signal.SIGTERM)
        await daemon.said("stopping")
        daemon.signal(signal.SIGTERM)
        await daemon.ended(within=1.5)
        await reply.http.close()  # type: ignore[attr-defined]


async def test_sighup_takes_what_changed_in_the_file(home: Path) -> None:
    async with running(home, "[server]\nport = 0\n[telemetry]\nlog_level = 'info'") as daemon:
        (home / "gateway.toml").write_text("[telemetry]\nlog_level = 'loud'")
        daemon.signal(signal.SIGHUP)
        line = (await daemon.said("not reloaded")).string
        assert "telemetry.log_level" in line
        (home / "gateway.toml").write_text("[server]\nport = 1")
        daemon.signal(signal.SIGHUP)
        await daemon.said(r"\[server\] has changed")
        await daemon.said("reloaded; generation")
        async with daemon.http() as http, http.get("/readyz") as reply:
            assert reply.status == 200


async def test_port_in_use_is_one_line(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        done = await asyncio.to_thread(run_command, home, "serve", "--port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[server]\nprot = 1", "port"),
        ("[server]\nport = 'x'", "server.port"),
        ("[serer]", "server"),
        ("[routing]\ndefault_target = ':'", "default_target"),
        ("not toml", "TOML"),
        ("[secrets]\nsource = 'systemd'", "LoadCredential"),
    ],
)
async def test_bad_configuration_is_exit_78_and_one_line(home: Path, toml: str, named: str) -> None:
    home.mkdir(mode=0o700)
    (home / "gateway.toml").write_text(toml)
    done = await asyncio.to_thread(run_command, home, "serve")
    assert done.returncode == 78, done.stderr
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


async def test_two_gateways_do_not_share_a_home(home: Path) -> None:
    async with running(home) as daemon:
        done = await asyncio.to_thread(run_command, home, "serve", "--port", "0")
        assert done.returncode == 1
        assert str(daemon.process.pid) in done.stderr
        async with daemon.http() as http, http.get("/readyz") as reply:
            assert reply.status == 200


async def test_rules_survive_kill_9(home: Path) -> None:
    async with running(home) as daemon:
        for number in range(20):
            await daemon.rule("local:demo", pattern=f"kept-{number}")
        daemon.process.kill()
        await daemon.ended()
    async with running(home) as daemon:
        patterns = {rule["pattern"] for rule in await daemon.admin("rules.list")}
        assert {f"kept-{number}" for number in range(20)} <= patterns


async def test_newer_database_is_refused_and_untouched(home: Path) -> None:
    async with running(home):
        pass
    database = home / "gateway.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    before = database.read_bytes()
    done = await asyncio.to_thread(run_command, home, "serve", "--port", "0")
    assert done.returncode == 1
    assert "newer" in done.stderr
    assert database.read_bytes() == before


async def test_systemd_is_told(home: Path) -> None:
    home.parent.mkdir(exist_ok=True)
    path = home.parent / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.setblocking(False)
        env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
        async with running(home, env=env) as daemon:
            loop = asyncio.get_running_loop()
            heard = [await asyncio.wait_for(loop.sock_recv(ear, 100), 5) for _ in range(3)]
            daemon.signal(signal.SIGTERM)
            while heard[-1] != b"STOPPING=1":
                heard.append(await asyncio.wait_for(loop.sock_recv(ear, 100), 5))
            await daemon.ended()
    assert heard[0] == b"READY=1"
    assert heard.count(b"WATCHDOG=1") >= 2


async def _connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_another_master_key_is_noticed_at_the_start(home: Path) -> None:
    """All looked well until the first request, which met a key that could not be opened."""
    async with Lab() as lab:
        async with running(home) as daemon:
            await daemon.upstream(lab)
        (home / "master.key").unlink()
        (home / "master.key").write_bytes(bytes(range(32)))
        (home / "master.key").chmod(0o600)
        async with running(home) as daemon:
            await daemon.said("credential lab.*/default")
            assert (await daemon.admin("status"))["problems"]
            async with daemon.http() as http, http.get("/readyz") as reply:
                assert reply.status == 200


async def test_home_that_cannot_be_written_is_one_line(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "admin.sock").mkdir()
    done = await asyncio.to_thread(run_command, home, "serve", "--port", "0")
    assert done.returncode == 78
    assert "admin.sock" in done.stderr
    assert "internal error" not in done.stderr
