"""The process of a worker: `python -m gateway.local.engine.child FD`, started by `gateway.local.child`.

The loop and all of MLX live on its main thread. A second thread hears commands, a third one says
four times a second what the loop is doing, also from within a long call of MLX, which lets other
threads run. Nothing outlives the gateway: when the line closes, the process ends at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.outlet import Outlet
from gateway.local.engine.quiet import quieten
from gateway.local.frames import Report, Splitter, command_of, frame, settings_of
from gateway.local.mailbox import (
    CallDelta,
    Cancel,
    Counters,
    Delta,
    EngineSettings,
    Event,
    Gone,
    ModelChanged,
    Pulse,
    Refused,
)

if TYPE_CHECKING:
    from gateway.local.engine.loop import Border

log = logging.getLogger(__name__)

_BEAT_S = 0.25
_IMPORT_S = 120.0  # a cold disk on a busy machine
_FLUSH_S = 5.0
_READ = 256 * 1024
_OOM_SCORE = 500  # of 1000: the memory killer is to take a worker, not the gateway
_PR_SET_PDEATHSIG = 1


def main(fd: int) -> NoReturn:
    """Serve the gateway at the other end of this socket until it says `Stop` or is gone."""
    line = socket.socket(fileno=fd)
    line.set_inheritable(False)
    _settle()
    _log_to_stderr()
    quieten()
    code = 1
    try:
        _serve(line)
        code = 0
    except BaseException:
        log.exception("the worker's loop has failed")
    # Not the interpreter's own way out: threads that still wait would meet a half-dead one.
    os._exit(code)


def _serve(line: socket.socket) -> None:
    inbox: SimpleQueue[Any] = SimpleQueue()  # the loop posts its own messages into it too
    voice = Voice(Outlet(line), inbox)
    heard = _frames(line)
    first = next(heard, None)
    if first is None:
        return
    settings = settings_of(first)
    threading.Thread(target=_listen, args=(heard, inbox), name="worker-in", daemon=True).start()
    _run(settings, inbox, voice)
    voice.outlet.flush(_FLUSH_S)


def _run(settings: EngineSettings, inbox: SimpleQueue[Any], voice: Voice) -> None:
    import mlx.core as mx

    from gateway.local.engine.loop import Border, EngineLoop

    voice.border = border = Border(inbox, voice.say)
    try:
        loop = EngineLoop(settings, border)
        try:
            loop.run()
        finally:
            loop.close()
            del loop
    finally:
        mx.clear_streams()


class Voice:
    """Says to the gateway what the loop delivers, and how the loop is."""

    def __init__(self, outlet: Outlet, inbox: SimpleQueue[Any]) -> None:
        self.outlet, self._inbox = outlet, inbox
        self.border: Border | None = None
        self._start = Pulse("load", time.monotonic(), _IMPORT_S)
        threading.Thread(target=self._beat, name="worker-beat", daemon=True).start()

    def say(self, events: list[Event]) -> None:
        """What the loop calls. Who is told of an end finds it counted: the counters go first."""
        data = self._frame(events)
        if not all(isinstance(event, Delta | CallDelta) for event in events):
            data = self._report() + data
        self.outlet.put(data)

    def _beat(self) -> None:
        while True:
            self.outlet.offer(self._report())
            time.sleep(_BEAT_S)

    def _report(self) -> bytearray:
        border = self.border
        if border is None:
            return frame(Report(self._start, Counters()))
        return frame(Report(border.pulse, border.counters))

    def _frame(self, events: list[Event]) -> bytearray:
        try:
            return frame(events)
        except (ValueError, OverflowError, RecursionError):
            return frame([self._sendable(event) for event in events])

    def _sendable(self, event: Event) -> Event:
        """The event, or the end of its request: a model may well write half a character into JSON."""
        try:
            frame([event])
        except (ValueError, OverflowError, RecursionError):
            if isinstance(event, ModelChanged | Gone):
                raise
            log.exception("an answer of the model can't be sent")
            self._inbox.put(Cancel(event.id))
            message = "the model wrote something that is not Unicode"
            failure = Failure(
                outcome=Outcome.LOCAL_FAULT, message=message, status=500, code="generation_failed"
            )
            return Refused(event.id, failure)
        return event


def _frames(line: socket.socket) -> Iterator[bytes]:
    splitter = Splitter()
    with contextlib.suppress(OSError):
        while data := line.recv(_READ):
            yield from splitter.feed(data)


def _listen(heard: Iterator[bytes], inbox: SimpleQueue[Any]) -> None:
    try:
        for command in heard:
            inbox.put(command_of(command))
    except Exception:
        log.exception("a command could not be read")
    os._exit(1)  # in the midst of whatever MLX is doing


def _settle() -> None:
    """Be a process whose end is the gateway's decision and whose traces nobody else can read."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds prompts, and takes minutes to write
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faulthandler.enable(2)
    if sys.platform != "linux":
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # even if this one is stopped
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        if int(score.read_text()) < _OOM_SCORE:
            score.write_text(str(_OOM_SCORE))


class _Stderr(io.RawIOBase):
    """Loses what nobody reads, rather than to wait or to fail."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            os.write(2, data)
        return len(data)


class _Format(logging.Formatter):
    """Each line begins with its level, as systemd writes it; the gateway takes it off again."""

    def format(self, record: logging.LogRecord) -> str:
        number = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        name = "" if record.name.startswith(("gateway", "__main__", "root")) else f"{record.name}: "
        rows = (name + super().format(record)).splitlines()
        return "\n".join(f"<{number}>{row}" for row in rows)


def _log_to_stderr() -> None:
    if stat.S_ISFIFO(os.fstat(2).st_mode):  # not a terminal, which others write to as well
        os.set_blocking(2, False)
    sys.stdout = sys.stderr = io.TextIOWrapper(
        _Stderr(),  # without a buffer, as `python -u` has it
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
