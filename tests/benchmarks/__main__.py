"""`make bench`: the gateway against a bare aiohttp pass-through, side by side in one run.

Same upstream, one process each, the measured one alone on core 0, upstream and load on core 1.
Rounds are interleaved and medians are given. Read CPU first: it is steadier than latency.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks import load, memory
from tests.benchmarks.gateway import gateway
from tests.benchmarks.processes import Process, child, pinnable


@dataclass(frozen=True)
class Case:
    """One kind of traffic."""

    name: str
    model: str
    stream: bool
    clients: int
    each: int
    pace_s: float = 0.0


CASES = (
    Case("whole, c=1", "whole", stream=False, clients=1, each=1500),
    Case("whole, c=16", "whole", stream=False, clients=16, each=150),
    Case("whole, c=64", "whole", stream=False, clients=64, each=40),
    Case("stream of 100, no delay, c=16", "burst", stream=True, clients=16, each=20),
    Case("256 streams paced 20 ms", "paced", stream=True, clients=256, each=2, pace_s=0.02),
)


@dataclass
class Round:
    """What one round of one case cost and gave."""

    cpu_us: float
    p50_ms: float
    p99_ms: float
    ttft_ms: float
    slip_p99_ms: float
    failures: int


def measure(process: Process, case: Case) -> Round:
    before = process.cpu_s()
    figures = asyncio.run(
        load.run(
            process.port,
            case.model,
            stream=case.stream,
            clients=case.clients,
            each=case.each,
            pace_s=case.pace_s,
        )
    )
    spent = process.cpu_s() - before
    return Round(
        cpu_us=1e6 * spent / max(1, len(figures.latencies)),
        p50_ms=figures.ms(figures.latencies, 0.5),
        p99_ms=figures.ms(figures.latencies, 0.99),
        ttft_ms=figures.ms(figures.first_bytes, 0.5),
        slip_p99_ms=figures.ms(figures.slips, 0.99),
        failures=figures.failures,
    )


def compare(rounds: int) -> None:
    with child(["-m", "tests.benchmarks.upstream"], core=1) as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        with (
            child(["-m", "tests.benchmarks.bare", url], core=0) as bare,
            gateway(url, core=0) as ours,
        ):
            print(f"idle RSS: bare aiohttp {bare.rss_mib():.0f} MiB, gateway {ours.rss_mib():.0f} MiB")
            found: dict[tuple[str, str], list[Round]] = defaultdict(list)
            for case in CASES:
                for process in (bare, ours):
                    measure(process, Case(case.name, case.model, case.stream, case.clients, 2, case.pace_s))
                for _ in range(rounds if not case.pace_s else max(1, rounds // 2)):
                    for name, process in (("bare", bare), ("gateway", ours)):
                        found[case.name, name].append(measure(process, case))
                _row(case, found)
            print(f"RSS after: bare aiohttp {bare.rss_mib():.0f} MiB, gateway {ours.rss_mib():.0f} MiB")


def _row(case: Case, found: dict[tuple[str, str], list[Round]]) -> None:
    def of(name: str, pick: Callable[[Round], float]) -> float:
        return load.median([pick(each) for each in found[case.name, name]])

    bare, ours = of("bare", lambda r: r.cpu_us), of("gateway", lambda r: r.cpu_us)
    print(
        f"{case.name:32} CPU us/request {bare:7.0f} {ours:7.0f} ({ours / bare:.2f}x)  "
        f"p50 ms {of('bare', lambda r: r.p50_ms):7.2f} {of('gateway', lambda r: r.p50_ms):7.2f}  "
        f"p99 ms {of('bare', lambda r: r.p99_ms):7.2f} {of('gateway', lambda r: r.p99_ms):7.2f}  "
        f"TTFT ms {of('bare', lambda r: r.ttft_ms):7.2f} {of('gateway', lambda r: r.ttft_ms):7.2f}"
        + (
            f"  slip p99 ms {of('bare', lambda r: r.slip_p99_ms):.2f} {of('gateway', lambda r: r.slip_p99_ms):.2f}"
            if case.pace_s
            else ""
        )
        + (
            f"  FAILURES {of('gateway', lambda r: r.failures):.0f}"
            if of("gateway", lambda r: r.failures)
            else ""
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("compare", "memory"))
    chosen = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {chosen.rounds} rounds"
    )
    if pinnable():
        os.sched_setaffinity(0, {1})  # the load; children are pinned by themselves
    if chosen.only != "memory":
        compare(chosen.rounds)
    if chosen.only != "compare":
        memory.report()


if __name__ == "__main__":
    main()
