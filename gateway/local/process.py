"""A worker as the operating system sees it: how it is started, what it inherits, how it ends.

What is said over its line is the business of `child`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

log = logging.getLogger("gateway.local.engine")

# -P: whoever may write to the working directory must not become a module of the worker.
COMMAND = (sys.executable, "-P", "-m", "gateway.local.engine.child")

_ROOT = str(Path(__file__).parents[2])

# Everything else stays here: keys, tokens, proxies, our own settings.
_INHERITED = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|LD_PRELOAD|LD_LIBRARY_PATH|DYLD_\w+"
    r"|PYTHON(HOME|UTF8|MALLOC|DONTWRITEBYTECODE|PYCACHEPREFIX)"
)
_NUMBERS = re.compile(r"(OPENBLAS_|OMP_|VECLIB_|MLX_(?!GATEWAY_))\w+=[0-9.]{1,20}")

_LOG_S = 1.0  # for the last lines of a worker that has ended
_LINE = 8192  # bytes; a longer one is cut in two
_LEVELS = {"<3>": logging.ERROR, "<4>": logging.WARNING, "<6>": logging.INFO, "<7>": logging.DEBUG}


def inheritance(environ: Mapping[str, str], path: Sequence[str]) -> dict[str, str]:
    """The environment of a worker. With `path`, our own `sys.path`, it finds the same modules as we do,
    be it from a checkout, an installed package or a test. What is relative in it is left out: it meant
    the working directory of the time when we were imported.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if _INHERITED.fullmatch(name) or _NUMBERS.fullmatch(f"{name}={value}")
    }
    absolute = [entry for entry in path if Path(entry).is_absolute()]
    if _ROOT not in absolute:
        absolute.insert(0, _ROOT)
    return kept | {"PYTHONPATH": os.pathsep.join(absolute)}


class Worker:
    """A running process, our end of its line, and a thread that brings what it prints to our log.

    On Linux a worker asks the kernel to end together with its parent, which means the very thread
    that started it: make it on a thread that outlives it. It has a session of its own, so that
    Ctrl-C in a terminal is for us alone to act on. Raises `OSError` when it can't be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.line, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [*command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    env=inheritance(os.environ, sys.path),
                    start_new_session=True,
                )
        except BaseException:
            self.line.close()
            raise
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self._log = threading.Thread(
            target=_take_log, args=(self._process.stdout, self.pid), name="local-worker-log", daemon=True
        )
        self._log.start()

    def kill(self) -> None:
        """End it now, and wake whoever reads or writes its line. Never blocks; may be called at any time."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a zombie
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):  # a process that it started may hold the other end as well
            self.line.shutdown(socket.SHUT_RDWR)

    def ended(self, within_s: float) -> int | None:
        """Its exit code, or minus the signal that killed it; None when it is still there after the time."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    def bury(self) -> None:
        """Wait for its end; leave no zombie, no thread and no descriptor."""
        self._process.wait()
        self._log.join(_LOG_S)  # a process that it started may hold the log
        self.line.close()


def how(code: int) -> str:
    """In words, what `Worker.ended` says."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-code}"


def _take_log(source: IO[bytes], pid: int) -> None:
    """Log each line; what the worker's own logging wrote has its level in front, as systemd knows it.
    Other lines are last words: of MLX before it aborts, of Python after a SIGSEGV.
    """
    with source:
        while line := source.readline(_LINE):
            text = line.decode("utf-8", "replace").rstrip()
            level = _LEVELS.get(text[:3])
            if level is not None:
                text = text[3:]
            if text:
                log.log(level or logging.WARNING, "%s", text, extra={"worker": pid})
