"""What the daemon does between its signals, as far as no scenario has it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config
from gateway.daemon import _Daemon
from gateway.errors import StoreError
from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import running

CHAT = "/v1/chat/completions"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        yield Path(folder) / "home"


async def test_the_drain_lets_idle_connections_go_and_waits_for_bodies(home: Path) -> None:
    """Idle connections stayed open and deaf until the end; a body that was still coming was dropped, and
    its request cut after a second.
    """
    async with Lab() as lab, running(home, "drain_s = 15") as daemon:
        model = await daemon.rule(await daemon.upstream(lab))
        gate = asyncio.Event()
        events = canned.chat_stream()
        lab.script(CHAT, lab.sse([*events[:3], gate, *events[3:]]))
        ask = json.dumps({"model": model, "messages": [], "stream": True}).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1:{daemon.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(ask)}\r\n\r\n"
        ).encode()
        idle = await asyncio.open_connection("127.0.0.1", daemon.port)
        streaming = await asyncio.open_connection("127.0.0.1", daemon.port)
        sending = await asyncio.open_connection("127.0.0.1", daemon.port)
        idle[1].write(f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{daemon.port}\r\n\r\n".encode())
        await idle[0].readuntil(b"}")
        streaming[1].write(head + ask)
        await streaming[0].readuntil(events[2])
        sending[1].write(head + ask[:5])
        async with daemon.http() as http, http.get("/healthz"):
            pass  # by now the half request is being read
        daemon.signal(signal.SIGTERM)
        async with asyncio.timeout(2):
            assert await idle[0].read() == b""
        gate.set()
        async with asyncio.timeout(2):
            assert events[-1] in await streaming[0].read()
        await asyncio.sleep(1.2)  # longer than what aiohttp grants
        sending[1].write(ask[5:])
        async with asyncio.timeout(2):
            assert canned.DONE in await sending[0].read()
        assert await daemon.ended(within=5) == 0
        for _, writer in (idle, streaming, sending):
            writer.close()


class Shelf:
    """A store that can be reloaded, or not."""

    class snapshot:
        generation = 7

    def __init__(self, trouble: Exception | None = None) -> None:
        self.trouble = trouble
        self.gate = asyncio.Event()
        self.inside = 0
        self.most = 0

    async def reload(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.gate.wait()
        self.inside -= 1
        if self.trouble is not None:
            raise self.trouble


def daemon_with(shelf: Shelf, home: Path, config_path: Path | None = None) -> Any:
    daemon: Any = _Daemon(Config(), home, config_path)
    daemon._store = shelf
    return daemon


async def reloaded(daemon: Any, times: int) -> None:
    for _ in range(times):
        daemon._asked_to_reload()
    await asyncio.sleep(0)
    daemon._store.gate.set()
    async with asyncio.timeout(2):
        while daemon._reloads:
            await asyncio.sleep(0)


@pytest.mark.parametrize("trouble", [StoreError("it is locked"), RuntimeError("a bug"), OSError("no disk")])
async def test_a_reload_that_fails_is_told_and_changes_nothing(
    home: Path, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw vanished with its task."""
    with caplog.at_level(logging.ERROR):
        await reloaded(daemon_with(Shelf(trouble), home), 1)
    assert "not reloaded" in caplog.text
    assert str(trouble) in caplog.text


async def test_reloads_follow_each_other(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    with caplog.at_level(logging.INFO):
        await reloaded(daemon_with(shelf, home), 3)
    assert shelf.most == 1
    assert caplog.text.count("reloaded; generation 7") == 3


async def test_nothing_is_reloaded_on_the_way_out(home: Path) -> None:
    """It ended with READY=1 behind STOPPING=1."""
    daemon = daemon_with(Shelf(), home)
    daemon._stop.set()
    daemon._asked_to_reload()
    assert not daemon._reloads


@pytest.mark.parametrize("usec", ["0", "", "soon"])
async def test_without_a_watchdog_nothing_is_told(
    home: Path, usec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of 0 made a loop that never slept."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify.sock")
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    async with asyncio.timeout(1):
        await daemon_with(Shelf(), home)._watchdog()


async def test_the_watchdog_lives_on_without_a_descriptor(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task died of it, and the manager killed a gateway that was only busy."""

    def none_left(*_: object, **__: object) -> socket.socket:
        raise OSError(24, "too many open files")

    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify.sock")
    monkeypatch.setenv("WATCHDOG_USEC", "10000")
    daemon = daemon_with(Shelf(), home)
    monkeypatch.setattr("gateway.telemetry.notify.socket.socket", none_left)
    watchdog = asyncio.create_task(daemon._watchdog())
    await asyncio.wait([watchdog], timeout=0.05)
    assert not watchdog.done()
    watchdog.cancel()
    await asyncio.gather(watchdog, return_exceptions=True)
