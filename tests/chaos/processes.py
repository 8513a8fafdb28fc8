"""What the operating system says of the daemon: its size, its descriptors, its worker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

_WORKER = "gateway.local.engine.child"


def rss_mb(pid: int) -> float:
    return int(_ps("-o", "rss=", "-p", str(pid)) or 0) / 1024


def cpu_s(pid: int) -> float | None:
    """Seconds of CPU that it has used; None where that can't be read."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def open_files(pid: int) -> int | None:
    """None where that can't be counted."""
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return None


def workers(pid: int) -> list[int]:
    """The engine's processes of this daemon."""
    found = []
    for line in _ps("-axo", "pid=,ppid=,command=").splitlines():
        own, parent, command = line.split(None, 2)
        if int(parent) == pid and _WORKER in command:
            found.append(int(own))
    return found


def kill_worker(pid: int) -> bool:
    """SIGKILL the daemon's worker, if it has one."""
    found = workers(pid)
    for own in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(own, signal.SIGKILL)
    return bool(found)


def _ps(*words: str) -> str:
    return subprocess.run(["ps", *words], capture_output=True, text=True, check=False).stdout.strip()
