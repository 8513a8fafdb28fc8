"""`python -m tests.chaos`: a real gateway, upstreams that misbehave by a seed, and every answer checked.

The same seed takes the same decisions; only times differ. Exit code 1 tells that something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.chaos.report import Report
from tests.chaos.run import run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument(
        "--kill-every", type=float, default=240.0, help="seconds that the daemon lives; 0: all"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--to", type=Path, help="write the report into this file, when it is complete")
    parser.add_argument("--while", type=int, dest="leader", help="end when this process has ended")
    given = parser.parse_args()
    try:
        report = asyncio.run(_led(run(given.seed, given.seconds, given.rate, given.kill_every), given.leader))
    except asyncio.CancelledError:  # nobody waits any more
        if given.to is not None:
            shutil.rmtree(given.to.parent, ignore_errors=True)
        return 1
    except Exception:
        report = Report(given.seed, given.seconds, wrong=[traceback.format_exc()])
    text = json.dumps(_plain(report), ensure_ascii=False) if given.json else _shown(report)
    if given.to is None:
        print(text)
    else:
        part = given.to.with_suffix(".part")
        part.write_text(text)
        part.rename(given.to)  # whoever waits for it finds it whole
    return 1 if report.wrong else 0


async def _led(work: Coroutine[Any, Any, Report], leader: int | None) -> Report:
    """Do it, unless the process that wants it ends."""
    task = asyncio.ensure_future(work)
    while not (await asyncio.wait([task], timeout=1.0))[0]:
        if leader is not None and not _lives(leader):
            task.cancel()
    return await task


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _plain(report: Report) -> dict[str, object]:
    return {"seed": report.seed, "seconds": report.seconds, **report.figures, "wrong": report.wrong}


def _shown(report: Report) -> str:
    lines = [f"{name}: {value}" for name, value in report.figures.items()]
    verdict = [f"WRONG: {each}" for each in report.wrong] or ["nothing is wrong"]
    return "\n".join([f"seed {report.seed}, {report.seconds:g} s", *lines, *verdict])


if __name__ == "__main__":
    sys.exit(main())
