"""The processes of a benchmark: one each, the one that is measured alone on its core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).parents[2]


class Process:
    """A child that prints its port when it listens."""

    started_s: float = 0.0  # from the start of the process until it listened

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def cpu_s(self) -> float:
        """User and system time so far, from /proc (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mib(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return float("nan")


@contextmanager
def child(args: Sequence[str], *, core: int, env: dict[str, str] | None = None) -> Iterator[Process]:
    """Run `python args` on one core until the block ends; it prints its port as its first line."""
    command = [sys.executable, *args]
    if pinnable():
        command = ["taskset", "-c", str(core), *command]
    popen = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env={**os.environ, **(env or {})}
    )
    try:
        assert popen.stdout is not None
        yield Process(popen.pid, int(popen.stdout.readline()))
    finally:
        popen.terminate()
        popen.wait(10)


def pinnable() -> bool:
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) >= 2
