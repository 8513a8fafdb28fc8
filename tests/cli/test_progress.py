"""How a download looks on a terminal and in a file."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import click
import pytest

from gateway.cli.command import Common
from gateway.cli.progress import Lines, watch

_SHOW = """
import click
from gateway.cli.progress import watch
with click.Context(click.Command("x")):
    watching = watch()
    watching.note("asking")
    watching.begin(2, 5_000_000, 1_000_000)
    watching.file(2, "model\\x1b[31m[red].safetensors", 4_000_000)
    watching.got(2_000_000)
    watching.note("trying [again]")
    watching.got(2_000_000)
    watching.end()
"""


def test_lines_are_one_for_each_file_and_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with click.Context(click.Command("x")):
        lines = Lines()
        lines.begin(3, 1000, 150)
        lines.file(2, "a.json", 50)
        lines.got(20)
        lines.got(30)
        lines.file(3, "b.safetensors", 800)
        for _ in range(8):
            lines.got(100)
        lines.end()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "3 files, 1 KB; 150 B are here already",
        "2/3 a.json (50 B)",
        "20 %: 200 B of 1 KB",
        "3/3 b.safetensors (800 B)",
        *(f"{n}0 %: {n}00 B of 1 KB" for n in range(3, 10)),
        "100 %: 1 KB of 1 KB",
    ]


def test_nothing_is_nothing_to_divide_by(capsys: pytest.CaptureFixture[str]) -> None:
    with click.Context(click.Command("x")):
        lines = Lines()
        lines.begin(1, 0, 0)
        lines.got(0)
        lines.note("more")
    assert capsys.readouterr().err == "1 files, 0 B\nmore\n"


def test_it_is_silent_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    with click.Context(click.Command("x"), obj=Common(json=True)):
        watching = watch()
        watching.begin(1, 10, 0)
        watching.file(1, "a.json", 10)
        watching.got(10)
        watching.end()
    assert capsys.readouterr() == ("", "")


def on_a_terminal(*command: str, typed: str = "", env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command whose input and errors are a terminal; its exit code and what was seen there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, **(env or {})}
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so when the last one has closed it
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    return process.wait(timeout=30), seen.decode()


def test_a_terminal_has_a_bar_that_strangers_names_do_not_colour() -> None:
    code, seen = on_a_terminal(
        sys.executable, "-c", _SHOW, env={"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": ""}
    )
    assert code == 0
    assert "asking" in seen
    assert "trying [again]" in seen
    assert "2/2 model\N{REPLACEMENT CHARACTER}[31m[red]" in seen
    assert "5.0/5.0 MB" in seen
    assert seen.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back and the bar is gone
