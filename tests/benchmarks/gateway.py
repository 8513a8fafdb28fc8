"""The gateway as a user runs it, set up by its own command for one upstream."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.processes import Process, pinnable

_ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def set_up(home: Path, upstream: str, *options: str) -> None:
    """An upstream named mock, its credential, and a rule that sends every name there."""
    command = [sys.executable, "-m", "gateway", "--home", str(home)]

    def run(*words: str, typed: str = "") -> None:
        subprocess.run(
            [*command, *words], input=typed, text=True, check=True, stdout=subprocess.DEVNULL, cwd=_ROOT
        )

    run("upstreams", "add", "mock", "--base-url", upstream, *(options or ("--dialect", "openai")))
    run("credentials", "add", "mock", typed="sk-benchmark-0123456789abcdef")
    run("rules", "add", "*", "--to", "mock")


@contextmanager
def gateway(upstream: str, *options: str, core: int, access_log: bool = False) -> Iterator[Process]:
    """A running gateway in a home of its own; `options` are those of its upstream. `started_s` of the process is start to ready."""
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        home = Path(folder)
        set_up(home, upstream, *options)
        port = free_port()
        settings = f"[server]\nport = {port}\n[telemetry]\naccess_log = {str(access_log).lower()}\n"
        (home / "gateway.toml").write_text(settings)
        command = [sys.executable, "-m", "gateway", "--home", str(home), "serve"]
        if pinnable():
            command = ["taskset", "-c", str(core), *command]
        began = time.monotonic()
        with (home / "log").open("w") as log:
            child = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log, env=os.environ)
        try:
            _wait_for(port, child, home / "log")
            process = Process(child.pid, port)
            process.started_s = time.monotonic() - began
            yield process
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


def _wait_for(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"the gateway ended with {child.returncode}: {log.read_text()[-500:]}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise RuntimeError("the gateway did not start in 30 s")
