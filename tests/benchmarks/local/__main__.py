"""`make bench-local`: the local engine beside mlx_lm.server, both over HTTP, in turn in one run.

Ratios are those of rounds that were measured side by side; absolute figures move with the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

import uvloop

from tests.benchmarks.local import (
    blas,
    cancel,
    jitter,
    lag,
    memory,
    newcomer,
    overhead,
    prefix,
    residency,
    schema,
    throughput,
)
from tests.benchmarks.local.ask import WrongAnswerError
from tests.benchmarks.local.pair import pair
from tests.benchmarks.local.subject import Subject, make

PAIRED = {
    "throughput": throughput.measure,
    "prefix": prefix.measure,
    "newcomer": newcomer.measure,
    "jitter": jitter.measure,
    "cancel": cancel.measure,
    "lag": lag.measure,
    "schema": schema.measure,
}
ALONE = {"residency": residency.measure, "overhead": overhead.measure, "memory": memory.measure}
NAMES = (*PAIRED, *ALONE)


def run(subject: Subject, names: list[str], rounds: int, settings: Mapping[str, str]) -> int:
    """Returns how many measures failed; one that does is said and the others go on."""
    print(f"\n=== {subject.name} ===")
    failed = 0
    paired = [PAIRED[name] for name in names if name in PAIRED]
    if paired:
        with pair(subject, rounds, settings) as both:
            _in_a_loop(both.warm_up())
            for measure in paired:
                failed += _tried(lambda measure=measure: _in_a_loop(measure(both)))
    for name in names:
        if name in ALONE:
            failed += _tried(lambda name=name: ALONE[name](subject, rounds, settings))
    return failed


def _in_a_loop(work: Coroutine[None, None, None]) -> None:
    """A loop of its own: when it closes so do the connections that a failed measure has left."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_told(work))
    signal.signal(signal.SIGTERM, _leave)  # the loop took its handler away when it closed


async def _until_told(work: Coroutine[None, None, None]) -> None:
    """What a signal's handler raises inside uvloop's callbacks is swallowed there: so SIGTERM cancels."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


def _leave(*_: object) -> None:
    sys.exit(143)


def _tried(measure: Callable[[], None]) -> int:
    try:
        measure()
    except (WrongAnswerError, TimeoutError, AssertionError, RuntimeError, OSError) as error:
        print(f"  FAILED: {type(error).__name__} {error}", flush=True)
        return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-local", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--skip", nargs="+", choices=NAMES, default=[], metavar="NAME")
    parser.add_argument("--models", default="demo,m6", help="of demo, demo32 and m6, with commas")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a line of the gateway's [local] section",
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)  # so that the children end, too
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mlx", "mlx-lm"))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}, "
        f"{chosen.rounds} rounds\n{blas.sentence()}"
    )
    settings = dict(line.split("=", 1) for line in chosen.set)
    names = [name for name in chosen.only if name not in chosen.skip]
    with tempfile.TemporaryDirectory(prefix="mlxb-") as place:
        failed = sum(
            run(make(model, Path(place)), names, chosen.rounds, settings)
            for model in chosen.models.split(",")
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except asyncio.CancelledError:  # SIGTERM; the children have ended by now
        sys.exit(143)
