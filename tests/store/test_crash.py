"""What was acknowledged is there, whatever happened to the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gateway
from gateway.config import Config
from gateway.store.store import Store

WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.config import Config
from gateway.store.store import Store
from tests.store.make import add_rule

async def main():
    store = await Store.open(Config(), Path(sys.argv[1]))
    for number in range(int(sys.argv[2]), 10**9):
        rule = await add_rule(store, f"model-{number}")
        print(number, rule.id, flush=True)

asyncio.run(main())
"""


def write_until_killed(home: Path, *, start: int, acknowledged: int) -> dict[str, int]:
    """Let a process write rules and kill it in the middle; the rules it had been told are safe."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home), str(start)],
        cwd=Path(gateway.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.kill()
        lines += writer.stdout.readlines()
    pairs = [line.split() for line in lines if line.endswith("\n")]
    return {f"model-{number}": int(ident) for number, ident in pairs}


async def test_no_acknowledged_change_is_lost_when_the_process_is_killed(home: Path) -> None:
    told: dict[str, int] = {}
    for round_ in range(3):
        told |= write_until_killed(home, start=round_ * 1000, acknowledged=40)
        store = await Store.open(Config(), home)  # the lock went with the process
        there = {rule.pattern: rule.id for rule in store.snapshot.rules.rules}
        assert {name: there.get(name) for name in told} == told
        assert all(rule.targets for rule in store.snapshot.rules.rules)  # nothing is half there
        await store.close()
    assert len(told) >= 120
