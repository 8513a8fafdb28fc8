"""`python -m tests.chaos`: a real gateway, upstreams that misbehave by a seed, and every answer checked.

The same seed takes the same decisions; only times differ. Exit code 1 tells that something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

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
    given = parser.parse_args()
    report = asyncio.run(run(given.seed, given.seconds, given.rate, given.kill_every))
    print(json.dumps(_plain(report), ensure_ascii=False) if given.json else _shown(report))
    return 1 if report.wrong else 0


def _plain(report: Report) -> dict[str, object]:
    return {"seed": report.seed, "seconds": report.seconds, **report.figures, "wrong": report.wrong}


def _shown(report: Report) -> str:
    lines = [f"{name}: {value}" for name, value in report.figures.items()]
    verdict = [f"WRONG: {each}" for each in report.wrong] or ["nothing is wrong"]
    return "\n".join([f"seed {report.seed}, {report.seconds:g} s", *lines, *verdict])


if __name__ == "__main__":
    sys.exit(main())
