"""The command as a person runs it: with nobody else there, and with a daemon that answers."""

import asyncio
import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from gateway.admin.explain import explain
from gateway.admin.operations import Context
from gateway.admin.operations import run as operate
from gateway.cli.main import run
from gateway.config import Config, Server
from gateway.errors import MissingError, RefusedError
from gateway.failover.breaker import Breakers, Standing
from gateway.store.store import Store
from gateway.web.app import build
from gateway.web.site import Site


@dataclass(frozen=True)
class Told:
    """What one command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one value on standard output; fails where there is anything else."""
        return msgspec.json.decode(self.out)

    @property
    def error(self) -> str:
        """The one line of a refusal, with nothing on standard output."""
        assert self.code != 0
        assert self.out == ""
        assert self.err.startswith("mlx-gateway: ")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err.removeprefix("mlx-gateway: ").rstrip("\n")


Run = Callable[..., Told]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that only this test knows; its path is short, as the address of a socket must be."""
    for name in [name for name in os.environ if name.startswith("MLX_GATEWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="gw"))
    monkeypatch.setenv("MLX_GATEWAY_HOME", str(folder))
    monkeypatch.setenv("HF_HOME", str(folder / "no-hub-cache"))
    before = os.umask(0o022)
    yield folder
    os.umask(before)
    shutil.rmtree(folder)


@pytest.fixture
def gw(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process, on the test's home."""

    def told(*args: object, stdin: bytes = b"") -> Told:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = run([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Told(code, out, err)

    return told


@pytest.fixture(params=["alone", "with a daemon"])
def either(request: pytest.FixtureRequest, gw: Run, home: Path) -> Iterator[Run]:
    """The same command, answered by the store itself and by a daemon."""
    if request.param == "alone":
        yield gw
        return
    with Daemon(home):
        yield gw


@pytest.fixture
def daemon(home: Path) -> Iterator["Daemon"]:
    """A daemon at the test's home."""
    with Daemon(home) as running:
        yield running


class Daemon:
    """The admin half of a daemon: the store and the real routes on admin.sock, in a thread."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.live = Live()
        self.asked: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="daemon")
        self._parts = contextlib.AsyncExitStack()

    def __enter__(self) -> "Daemon":
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._parts.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        store = self.live.store = await Store.open(Config(), self.home)
        self._parts.push_async_callback(store.close)
        runner = web.AppRunner(build(self._site(store), owner=True), access_log=None)
        await runner.setup()
        self._parts.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(self.home / "admin.sock")).start()

    def _site(self, store: Store) -> Site:
        async def counted(context: Context, name: str, args: dict[str, object]) -> object:
            self.asked.append(name)
            return await operate(context, name, args)

        nothing: Any = None
        return Site(
            server=Server(),
            spool=self.home,
            keyless=True,
            admin_over_tcp=False,
            snapshot=lambda: store.snapshot,
            relay=nothing,
            kept=nothing,
            models=nothing,
            admin_context=partial(self._context, store),
            ready=lambda: None,
            render_metrics=lambda: b"",
            operate=counted,
        )

    def _context(self, store: Store, actor: str) -> Context:
        return Context(store=store, home=self.home, config=Config(), actor=actor, live=self.live)


class Live:
    """What the daemon's other half would say."""

    def __init__(self) -> None:
        self.works = True
        self.plans: dict[str, Any] = {}
        self.store: Store | None = None
        self.models = [{"name": "demo", "path": "/m/demo", "size_bytes": 1_234_567, "state": "loaded"}]
        self.looks = 0
        self.breakers = Breakers()

    def status(self) -> dict[str, Any]:
        return {
            "version": "9.9",
            "uptime_s": 3725.0,
            "problems": [],
            "read_only": None,
            "local": {"memory_bytes": 2_500_000_000, "models": {"demo": {"state": "ready", "waiting": 0}}},
            "cooling": [{"backend": "openai", "model": "a", "state": "cooling"}],
        }

    def standings(self) -> list[Standing]:
        return self.breakers.standings(0.0)

    async def reset(self, backend: str, credential_id: int | None) -> int:
        return self.breakers.reset(backend, credential_id)

    def local_models(self) -> list[dict[str, Any]]:
        return self.models

    async def look(self) -> None:
        self.looks += 1

    def _model(self, name: str) -> dict[str, Any]:
        found = next((model for model in self.models if model["name"] == name), None)
        if found is None:
            raise MissingError(f"there is no local model {name!r}")
        return found

    async def show_model(self, name: str) -> dict[str, Any]:
        facts = {"parameters": 738_176, "weight_bytes": 1_480_000, "batched": True}
        return {
            **self._model(name),
            "architecture": "LlamaForCausalLM",
            "template": {"chat": True, "tools": False},
            "in_memory": facts,
            "speed": {"prefill_tps": 1234.56, "decode_tps": None, "load_s": 0.5},
        }

    async def load_model(self, name: str) -> dict[str, Any]:
        return {**self._model(name), "state": "ready", "load_s": 3.0}

    async def unload_model(self, name: str) -> dict[str, Any]:
        if not self.works:
            raise RefusedError(f"{name} is in use; stop what uses it, or wait")
        return {**self._model(name), "state": "cold"}

    async def bench_model(self, name: str) -> dict[str, Any]:
        return {
            "model": name,
            "load_s": 0.25,
            "prompt_tokens": 512,
            "answer_tokens": 64,
            "prefill_tps": 2048.0,
            "ttft_ms": 250.0,
            "decode_tps": {"1": 100.0, "8": 480.0},
        }

    async def explain(self, model: str, body: dict[str, Any] | None, path: str) -> dict[str, Any]:
        assert self.store is not None
        return {**explain(self.store.snapshot, model), "plans": self.plans}

    async def test_upstream(self, name: str) -> dict[str, Any]:
        if self.works:
            return {
                "upstream": name,
                "ok": True,
                "outcome": "ok",
                "message": "",
                "ms": 12.3,
                "models": ["a", "b"],
            }
        return {
            "upstream": name,
            "ok": False,
            "outcome": "auth",
            "message": "key refused",
            "ms": 1.0,
            "models": [],
        }
