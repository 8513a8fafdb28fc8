"""How much memory a process really takes, and how much there is."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_TAKEN = ("RssAnon:", "RssShmem:", "VmSwap:")
_RUSAGE_INFO_V0 = 0  # <sys/resource.h>: 16 bytes of uuid, then ten numbers of 64 bits
_RUSAGE_INFO_BYTES = 16 + 10 * 8
_PHYS_FOOTPRINT_AT = 16 + 7 * 8


def footprint(pid: int | None = None) -> int:
    """The bytes that a process takes from everybody else (this one, if none is named); 0 when it is gone.

    Linux: what it has written, in memory or swapped out. Pages of mapped files are not in it: they
    are the page cache's, shared and given back at need, so that weights that were mapped, or read
    by two processes, do not count twice. The finer PSS walks all of a process's pages; this costs
    one small read. macOS: `phys_footprint`, which means the same, holds Metal's buffers and is what
    the memory killer goes by. Elsewhere: the most that this process ever held, and 0 for others.
    """
    if sys.platform == "linux":
        return _linux(Path(f"/proc/{pid or 'self'}/status"))
    if sys.platform == "darwin":
        return _darwin(pid or os.getpid(), ctypes.CDLL(None).proc_pid_rusage)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if pid in (None, os.getpid()) else 0


def machine_bytes() -> int:
    """The memory of this machine, or the part of it that a container or a service may have at most."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _linux(status: Path) -> int:
    try:
        lines = status.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends while it is read
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_TAKEN))


def _darwin(pid: int, proc_pid_rusage: Callable[..., int]) -> int:
    found = ctypes.create_string_buffer(_RUSAGE_INFO_BYTES)
    if proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(_RUSAGE_INFO_V0), found) != 0:
        return 0
    (taken,) = struct.unpack_from("=Q", found, _PHYS_FOOTPRINT_AT)
    return int(taken)


def _group_limits(of: Path, root: Path) -> Iterator[int]:
    """The limits of the control group (version 2) that `of` names, and of those around it."""
    try:
        names = [line[4:] for line in of.read_text().splitlines() if line.startswith("0::/")]
    except OSError:
        return
    for name in names:
        for folder in (root / name, *(root / name).parents):
            if not folder.is_relative_to(root):
                break
            try:
                yield int((folder / "memory.max").read_text())
            except (OSError, ValueError):  # not there, or "max"
                continue
