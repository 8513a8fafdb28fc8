import os
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Run


def test_at_a_terminal_the_secret_is_asked_for_and_not_shown(gw: Run, home: Path):
    gw("upstreams", "add", "openai", "--preset", "openai")
    ours, theirs = os.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        command = subprocess.Popen(
            [sys.executable, "-m", "gateway", "credentials", "add", "openai"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"key for openai: " not in shown:
            shown += terminal.read(100)
        terminal.write(b"sk-typed-0123456789abcdefTYP1\n")
        while chunk := _read(terminal):
            shown += chunk
        assert command.wait(timeout=30) == 0
    assert b"added credential openai/default: sk-...TYP1" in shown
    assert b"sk-typed" not in shown


def _read(terminal) -> bytes:
    try:
        return terminal.read(1000)
    except OSError:  # Linux says so when the last process has closed the other end
        return b""
