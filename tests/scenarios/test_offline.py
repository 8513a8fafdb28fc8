"""The network of a real gateway is taken away and comes back; the same on a network of our own is played
in `tests/relay/test_offline.py`, wherever the suite runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.scenarios.daemon import environment

_ROOT = Path(__file__).parents[2]
UNSHARE = ("unshare", "-rnm")


def has_namespaces() -> bool:
    """May this user have a network of its own, and can it be changed?"""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "ip", "mount"))):
        return False
    tried = subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="no network namespaces here")
def test_a_laptop_that_goes_offline_answers_from_what_it_has() -> None:
    """With the network down every request to a cloud burned the connect limit, and the breaker kept the
    cloud out for another half minute after it was back.
    """
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        played = subprocess.run(
            [*UNSHARE, sys.executable, "-m", "tests.scenarios.unplugged", f"{folder}/home"],
            cwd=_ROOT,
            env=environment({"PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert played.returncode == 0, played.stderr[-4000:]
