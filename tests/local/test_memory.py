"""What a process takes is what it has written, not what it has mapped."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.local import memory
from gateway.local.memory import footprint, machine_bytes

MB = 1024 * 1024
HOLDER = """
import sys
sys.stdout.write("small\\n"); sys.stdout.flush(); sys.stdin.readline()
held = b"x" * (100 * 1024 * 1024)
sys.stdout.write("large\\n"); sys.stdout.flush(); sys.stdin.readline()
"""


def test_what_this_process_allocates_is_seen() -> None:
    before = footprint()
    held = b"x" * (100 * MB)
    grown = footprint() - before
    assert 95 * MB < grown < 130 * MB
    assert footprint(os.getpid()) > 100 * MB
    del held


def test_what_a_child_allocates_is_seen_until_it_is_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        before = footprint(child.pid)
        print(file=child.stdin, flush=True)
        child.stdout.readline()
        assert 95 * MB < footprint(child.pid) - before < 110 * MB
        child.kill()
        child.wait()
        assert footprint(child.pid) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has its own figure")
def test_a_mapped_file_counts_only_where_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * (50 * MB))
    with file.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as view:
        before = footprint()
        for at in range(0, len(view), 4096):
            view[at]
        assert footprint() - before < 10 * MB


def test_the_status_of_linux_is_added_up(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Name:\tx\nVmRSS:\t 900 kB\nRssAnon:\t 10 kB\nRssFile:\t 800 kB\nRssShmem:\t 3 kB\nVmSwap:\t 5 kB\n"
    )
    assert memory._linux(status) == 18 * 1024
    status.write_text("Name:\tzombie\n")
    assert memory._linux(status) == 0
    assert memory._linux(tmp_path / "gone") == 0


def test_the_footprint_of_macos_is_read_from_its_place() -> None:
    def proc_pid_rusage(pid: Any, flavor: Any, buffer: Any) -> int:
        assert flavor.value == 0
        if pid.value != 7:
            return -1
        # uuid, user and system time, wakeups twice, pageins, wired, resident, footprint, start, exit
        ctypes.memmove(buffer, struct.pack("=16s10Q", b"", 1, 2, 3, 4, 5, 6, 7, 2**40, 9, 10), 96)
        return 0

    assert memory._darwin(7, proc_pid_rusage) == 2**40
    assert memory._darwin(8, proc_pid_rusage) == 0


def test_elsewhere_only_this_process_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert footprint() > MB
    assert footprint(os.getpid()) > MB
    assert footprint(1) == 0


def test_the_machine_has_more_than_this_process_takes() -> None:
    assert footprint() < machine_bytes() < 2**50


def test_a_group_of_processes_may_have_less_than_the_machine(tmp_path: Path) -> None:
    root, of = tmp_path / "fs", tmp_path / "cgroup"
    inner = root / "system.slice" / "gateway.service"
    inner.mkdir(parents=True)
    of.write_text("1:name=systemd:/old\n0::/system.slice/gateway.service\n")
    assert list(memory._group_limits(of, root)) == []
    (inner / "memory.max").write_text("max\n")
    (root / "system.slice" / "memory.max").write_text("5000\n")
    (root / "memory.max").write_text("7000\n")
    (tmp_path / "memory.max").write_text("1\n")
    assert list(memory._group_limits(of, root)) == [5000, 7000]
    of.write_text("0::/\n")
    assert list(memory._group_limits(of, root)) == [7000]
    assert list(memory._group_limits(tmp_path / "none", root)) == []
