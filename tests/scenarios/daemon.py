"""A whole gateway in a process of its own, driven over loopback as its users drive it."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai

from tests.lab import Lab

_ROOT = Path(__file__).parents[2]
_READY = re.compile(r"ready on http://[^ ]*:(\d+)/v1")
_count = itertools.count(1)


class Refused(Exception):
    """An admin operation was refused; `status` and `message` say how."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Daemon:
    """One running gateway. Its log is kept, so that tests can look for what must not be there."""

    def __init__(self, home: Path, process: asyncio.subprocess.Process) -> None:
        self.home = home
        self.process = process
        self.port = 0
        self.lines: list[str] = []
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def said(self, pattern: str, within: float = 10.0) -> re.Match[str]:
        """Wait until a line of the log matches."""
        async with asyncio.timeout(within):
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self.lines)
                if self._reading is not None and self._reading.done():
                    raise AssertionError(f"the gateway ended without saying {pattern!r}:\n{self.log}")
                self._news.clear()
                await self._news.wait()

    async def admin(self, operation: str, **args: Any) -> Any:
        """Run an operation over admin.sock, as the command does."""
        return await asyncio.to_thread(self._admin, operation, args)

    def _admin(self, operation: str, args: dict[str, Any]) -> Any:
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.home / "admin.sock"))
        try:
            path = "/admin/api/" + operation.replace(".", "/")
            connection.request("POST", path, json.dumps(args), {"content-type": "application/json"})
            reply = connection.getresponse()
            body = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise Refused(reply.status, body["error"]["message"])
        return body

    async def upstream(
        self, lab: Lab, *, key: str = "sk-lab-0123456789abcdef", dialect: str = "openai"
    ) -> str:
        """Make an upstream of a name of its own that leads to the lab."""
        name = f"lab{next(_count)}"
        auth = "x-api-key" if dialect == "anthropic" else "bearer"
        await self.admin(
            "upstreams.add", name=name, dialect=dialect, base_url=lab.base_url, auth=auth, list_models=False
        )
        if key:
            await self.admin("credentials.add", upstream=name, secret=key)
        return name

    async def rule(self, *to: str, policy: str = "default", pattern: str = "") -> str:
        """Make a rule; returns its pattern, which is a model name of its own unless given."""
        pattern = pattern or f"model-{next(_count)}"
        await self.admin("rules.add", pattern=pattern, to=list(to), policy=policy)
        return pattern

    async def policy(self, **knobs: Any) -> str:
        name = f"policy{next(_count)}"
        await self.admin("policies.add", name=name, knobs=knobs)
        return name

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        options = {"api_key": "sk-of-the-app", "max_retries": 0, "timeout": 30.0} | options
        return openai.AsyncOpenAI(base_url=self.base_url, **options)

    def anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        options = {"api_key": "sk-ant-of-the-app", "max_retries": 0, "timeout": 30.0} | options
        return anthropic.AsyncAnthropic(base_url=self.url, **options)

    def http(self, **options: Any) -> aiohttp.ClientSession:
        """A plain client that changes nothing of what it sends or gets."""
        return aiohttp.ClientSession(self.url, auto_decompress=False, **options)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, within: float = 30.0) -> int:
        async with asyncio.timeout(within):
            code = await self.process.wait()
            if self._reading is not None:
                await self._reading
            return code

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())
            self._news.set()
        self._news.set()


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "--home", str(home), *words]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    # Those of the hub are set by an engine that ran in this process.
    foreign = ("MLX_GATEWAY_", "NOTIFY_", "STATE_", "HF_HUB_", "TRANSFORMERS_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return env | (extra or {})


def run_command(
    home: Path, *words: str, typed: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would; the result has its exit code and what it printed."""
    return subprocess.run(
        command(home, *words),
        input=typed,
        capture_output=True,
        text=True,
        cwd=_ROOT,
        timeout=60,
        env=environment(env),
        check=False,
    )


@asynccontextmanager
async def running(
    home: Path, toml: str = "", *, env: dict[str, str] | None = None, wait: bool = True
) -> AsyncIterator[Daemon]:
    """Start a gateway on a free port with `toml` as its configuration; it is stopped at the end."""
    home.mkdir(mode=0o700, exist_ok=True)
    if toml or not (home / "gateway.toml").exists():
        text = toml if "port" in toml else f"[server]\nport = 0\n{toml}"
        (home / "gateway.toml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *command(home, "serve"), stderr=asyncio.subprocess.PIPE, cwd=_ROOT, env=environment(env)
    )
    daemon = Daemon(home, process)
    daemon._reading = asyncio.create_task(daemon._read(), name="gateway-log")
    try:
        if wait:
            daemon.port = int((await daemon.said(_READY.pattern)).group(1))
        yield daemon
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await daemon.ended(within=15)
            except TimeoutError:
                process.kill()
                await daemon.ended()
        else:
            await daemon.ended()
