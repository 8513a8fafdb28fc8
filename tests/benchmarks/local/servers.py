"""The two sides as processes: the gateway as users start it, and mlx_lm.server with its defaults."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.gateway import free_port
from tests.benchmarks.local import blas
from tests.benchmarks.local.family import Family

_ROOT = Path(__file__).parents[3]
_START_S = 60.0
_DEMO = "demo"  # the gateway has it built in


@dataclass(frozen=True)
class Server:
    """One side; `model` is what it calls the model."""

    side: str
    process: Family
    model: str
    home: Path | None = None

    @property
    def port(self) -> int:
        return self.process.port

    def admin(self, operation: str, **args: Any) -> dict[str, Any]:
        """Run an operation over admin.sock, as the command does."""
        assert self.home is not None
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.home / "admin.sock"))
        try:
            path = "/admin/api/" + operation.replace(".", "/")
            connection.request("POST", path, json.dumps(args), {"content-type": "application/json"})
            reply = connection.getresponse()
            body: dict[str, Any] = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{operation}: {reply.status}: {body}")
        return body

    def idle(self) -> bool:
        """Does the gateway's engine wait for something to do?"""
        return bool(self._local()["engine"] == "idle")

    def cancelled(self) -> int:
        """How many requests the gateway's engine has dropped so far."""
        return int(self._local()["cancelled"])

    def active_mib(self) -> float:
        """What MLX holds in the gateway; its engine says so whenever it comes to rest."""
        return int(self._local()["active_bytes"]) / (1 << 20)

    def _local(self) -> dict[str, Any]:
        local: dict[str, Any] = self.admin("status")["local"]
        return local


@contextmanager
def gateway(name: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """A gateway in a home of its own. `settings` are lines of its [local] section."""
    with tempfile.TemporaryDirectory(prefix="mlxg-") as place:
        home, port = Path(place), free_port()
        give(home, name, folder)
        lines = [f"[server]\nport = {port}", "[telemetry]\naccess_log = false", "[local]\nhub_cache = false"]
        lines += [f"{key} = {value}" for key, value in settings.items()]
        (home / "gateway.toml").write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "gateway", "--home", str(home), "serve"]
        with _running(command, port, "/healthz", home / "log") as process:
            yield Server("gateway", process, name, home)


@contextmanager
def mlx_lm_server(folder: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="mlxs-") as place:
        port = free_port()
        command = [sys.executable, "-m", "mlx_lm.server", "--model", str(folder)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "WARNING"]
        with _running(command, port, "/health", Path(place) / "log") as process:
            yield Server("mlx_lm.server", process, str(folder))


def give(home: Path, name: str, folder: Path) -> None:
    """Put a model into a gateway's home; a link out of it would not be followed."""
    if name != _DEMO:
        shutil.copytree(folder, home / "models" / name)


def environment() -> dict[str, str]:
    """The environment of a child: no settings of whoever measures, and no network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLX_GATEWAY_", "NOTIFY_"))}
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} | blas.environment()


@contextmanager
def _running(command: list[str], port: int, path: str, log: Path) -> Iterator[Family]:
    began = time.monotonic()
    with log.open("w") as out:
        child = subprocess.Popen(command, cwd=_ROOT, stdout=out, stderr=out, env=environment())
    try:
        while not _answers(port, path):
            if child.poll() is not None or time.monotonic() - began > _START_S:
                raise RuntimeError(f"{command[2]} did not start: {log.read_text()[-500:]}")
            time.sleep(0.01)
        process = Family(child.pid, port)
        process.started_s = time.monotonic() - began
        yield process
        if child.poll() is not None:
            raise RuntimeError(f"{command[2]} ended with {child.returncode}: {log.read_text()[-500:]}")
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
