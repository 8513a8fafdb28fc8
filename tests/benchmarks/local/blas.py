"""OpenBLAS for the measured processes: the Linux wheel of MLX brings a BLAS that gains nothing from a batch.

With it further rows are nearly free, as they are on a GPU. It is an aid of measuring, preloaded into
children only; on a Mac MLX has what it needs.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path

_PLACES = ("/usr/lib/*/openblas-pthread", "/usr/lib/*", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def find() -> str | None:
    """What LD_PRELOAD is to be, None when there is nothing to preload."""
    if sys.platform != "linux":
        return None
    if name := ctypes.util.find_library("openblas"):
        return name
    for place in _PLACES:
        found = sorted(Path("/").glob(f"{place[1:]}/libopenblas*.so.0"))
        if found:
            return str(found[0])
    return None


def threads() -> int:
    """Half the cores: the others are for HTTP and for the one who asks."""
    return max(1, (os.cpu_count() or 2) // 2)


def environment() -> dict[str, str]:
    """What both sides get, the same for both."""
    preload = find()
    if preload is None:
        return {}
    number = str(threads())
    return {"LD_PRELOAD": preload, "OPENBLAS_NUM_THREADS": number, "OMP_NUM_THREADS": number}


def sentence() -> str:
    if sys.platform != "linux":
        return "MLX uses the system's own BLAS"
    if find() is None:
        return "OpenBLAS NOT found: batches gain little with MLX's own BLAS (Debian: libopenblas0-pthread)"
    return f"OpenBLAS preloaded into both sides, {threads()} thread(s)"
