"""`python -m tests.benchmarks.translate`: what it costs to translate a stream, beside handing it on as it is.

One gateway in front of a mock of OpenAI's dialect and one in front of Anthropic's, each asked for a stream
of 100 events in all three APIs: one of them is relayed untouched, the others go through translators.
CPU of the whole gateway per stream, medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import defaultdict
from typing import Any

from tests.benchmarks import load
from tests.benchmarks.gateway import gateway
from tests.benchmarks.processes import Process, child, pinnable

CLIENTS, EACH = 16, 25
SAID = [{"role": "user", "content": "Write something. " * 15}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": SAID},
    "/v1/messages": {"messages": SAID, "max_tokens": 500},
    "/v1/responses": {"input": SAID},
}
UPSTREAMS = {
    "openai": ("--dialect", "openai", "--ability", "responses=no"),
    "anthropic": ("--dialect", "anthropic"),
}
RAW = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def cpu_us(process: Process, path: str, each: int) -> float:
    """CPU microseconds of one stream."""
    body = json.dumps({"model": "burst", "stream": True, **BODIES[path]}).encode()
    payload = load.post(path, body, port=process.port)
    before = process.cpu_s()
    figures = asyncio.run(
        load.run(process.port, "burst", stream=True, clients=CLIENTS, each=each, payload=payload)
    )
    assert figures.failures == 0, f"{figures.failures} streams of {path} failed"
    return 1e6 * (process.cpu_s() - before) / len(figures.latencies)


def compare(dialect: str, url: str, rounds: int) -> None:
    with gateway(url, *UPSTREAMS[dialect], core=0) as ours:
        found: dict[str, list[float]] = defaultdict(list)
        for path in BODIES:
            cpu_us(ours, path, 2)
        for _ in range(rounds):
            for path in BODIES:
                found[path].append(cpu_us(ours, path, EACH))
    raw = load.median(found[RAW[dialect]])
    for path in BODIES:
        spent = load.median(found[path])
        how = "as it is" if path == RAW[dialect] else f"{spent / raw:.2f}x"
        print(f"{path:22} at {dialect:10} CPU us/stream {spent:7.0f}  {how}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.translate", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    if pinnable():
        os.sched_setaffinity(0, {1})  # the load; children are pinned by themselves
    with child(["-m", "tests.benchmarks.upstream"], core=1) as upstream:
        for dialect in UPSTREAMS:
            compare(dialect, f"http://127.0.0.1:{upstream.port}", chosen.rounds)


if __name__ == "__main__":
    main()
