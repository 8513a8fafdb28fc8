"""A process and those it started: an engine may live in a child of the gateway."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.processes import Process


class Family(Process):
    """CPU time and memory of a whole tree of processes (Linux)."""

    def cpu_s(self) -> float:
        return sum(Process(pid, 0).cpu_s() for pid in self._pids())

    def rss_mib(self) -> float:
        return sum(Process(pid, 0).rss_mib() for pid in self._pids())

    def _pids(self) -> list[int]:
        found, todo = [], [self.pid]
        while todo:
            found.append(todo.pop())
            for children in Path(f"/proc/{found[-1]}/task").glob("*/children"):
                todo += [int(pid) for pid in children.read_text().split()]
        return found
