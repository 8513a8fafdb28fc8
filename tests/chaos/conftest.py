"""Starts the long run of the chaos when the session begins, in a process of its own, and hands on its report.

Of several workers the first to come starts it: the name of a folder, which can be made only once, decides.
The run ends by itself, or soon after the process that leads the session has ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_TEST = "test_the_long_run"
SECONDS = float(os.environ.get("CHAOS_SECONDS", "300"))
SEED = os.environ.get("CHAOS_SEED", "7")
_started: list[subprocess.Popen[bytes]] = []  # kept, because it outlives the hook that starts it
RATE = "2"  # what else runs meanwhile needs its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Its test is the last, because it waits for the end."""
    items.sort(key=lambda item: item.name == _TEST and item.path.parent == Path(__file__).parent)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was deselected is gone by now. The process that only leads the workers has no tests."""
    if session.config.option.collectonly or not any(item.name == _TEST for item in session.items):
        return
    folder = _folder(session.config)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return  # another worker was quicker
    words = ["--seconds", f"{SECONDS:g}", "--seed", SEED, "--rate", RATE, "--json"]
    words += ["--to", str(folder / "report.json"), "--while", str(_leader(session.config))]
    with (folder / "output").open("wb") as output:
        _started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos", *words],
                cwd=_ROOT,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        )


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder in which the run writes `report.json` when it is over, and `output`."""
    folder = _folder(request.config)
    yield folder
    shutil.rmtree(folder)


def _leader(config: pytest.Config) -> int:
    """The process that starts and ends the session, which is the parent of every worker."""
    return os.getppid() if hasattr(config, "workerinput") else os.getpid()


def _folder(config: pytest.Config) -> Path:
    worker = getattr(config, "workerinput", None)
    name = worker["testrunuid"] if worker is not None else str(os.getpid())
    return Path(tempfile.gettempdir()) / f"mlxg-chaos-run-{name}"
