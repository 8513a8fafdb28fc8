"""The engine in a child process: what Metal, the memory killer or a broken model does to it stays there.

One `EngineChild` is the life of one worker. Its first thread starts the worker, hears what it says
and buries it; its second one sends the commands, so that a worker which does not read stops nobody
else. The other half is `engine/child.py`, the language of both is `frames.py`.

To the watchdog a worker is starting (a load, until it is first heard), heard, silent (it lives, but
nothing came for a while) or gone. `abandon` leads from each of these to the end, by SIGKILL.
"""

from __future__ import annotations

import copy
import logging
import select
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from gateway.failover.outcome import Failure, Outcome
from gateway.local.frames import Report, Splitter, frame, said_of
from gateway.local.mailbox import (
    Command,
    Counters,
    EngineSettings,
    Event,
    Gone,
    Load,
    ModelChanged,
    Pulse,
    Refused,
    Stop,
    Submit,
    Unload,
)
from gateway.local.process import COMMAND, Worker, how

log = logging.getLogger("gateway.local.engine")

_START_S = 120.0  # a cold disk on a busy machine
_SILENCE_S = 2.0  # a worker reports every quarter of a second
_LEAVE_S = 3.0  # for a worker whose line is closed to be gone; it takes milliseconds but on a busy machine
_READ = 256 * 1024


class EngineChild:
    """An `EngineTransport`: the engine lives in a process that is started at once.

    `command` is what to start instead of our own worker; the number of its socket is put behind it.
    `deliver` is called from threads of this object, and by none of them once `abandon` has returned,
    but for a call that had begun.
    """

    def __init__(
        self,
        settings: EngineSettings,
        deliver: Callable[[list[Event]], None],
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._deliver, self._command = deliver, command
        self._outbox: SimpleQueue[EngineSettings | Command | None] = SimpleQueue()
        self._outbox.put(settings)
        self._worker: Worker | None = None
        self._heard: float | None = None
        self._report = Report(Pulse("load", time.monotonic(), _START_S), Counters())
        self._models: dict[str, str] = {}  # by path, for the log
        self._stopping = self._abandoned = self._over = False
        self._born = threading.Event()
        self._life = threading.Thread(target=self._live, name="local-worker", daemon=True)
        self._life.start()

    def post(self, command: Command) -> None:
        match command:
            case Submit() | Load():
                self._models[command.model.path] = command.model.name
            case Unload():
                self._models.pop(command.path, None)
            case Stop():
                self._stopping = True
        self._outbox.put(command)

    def pulse(self) -> Pulse:
        heard, pulse = self._heard, self._report.pulse
        if heard is None or time.monotonic() - heard <= _SILENCE_S or self._unheard():
            return pulse
        # What it was doing may still take as long as it said: a load may let no other thread run.
        return Pulse("silent", heard, pulse.allowance_s)

    def counters(self) -> Counters:
        return copy.copy(self._report.counters)

    @property
    def pid(self) -> int | None:
        """Waits for the few milliseconds of a start; None when that failed."""
        self._born.wait()
        return None if self._worker is None else self._worker.pid

    @property
    def alive(self) -> bool:
        return not self._over

    def abandon(self) -> None:
        self._abandoned = True
        if self._worker is not None:
            self._worker.kill()

    def join(self, timeout_s: float) -> bool:
        self._life.join(max(0.0, timeout_s))
        return not self._life.is_alive()

    # --- the worker's life, on one thread -------------------------------------------------------------

    def _live(self) -> None:
        try:
            self._worker = worker = Worker(self._command)
        except Exception:
            log.exception("the worker of the local engine can't be started")
            self._end()
            return
        finally:
            self._born.set()
        if self._abandoned:  # in the meantime
            worker.kill()
        sender = threading.Thread(target=self._send, args=(worker,), name="local-worker-out", daemon=True)
        sender.start()
        why = self._listen(worker) or self._leave(worker)
        worker.kill()
        if not self._abandoned:
            if why:
                log.error("the worker of %s %s", ", ".join(list(self._models.values())) or "no model", why)
            self._end()  # now, and not when the kernel has taken back the last of its memory
        self._outbox.put(None)
        sender.join()
        worker.bury()
        self._over = True

    def _listen(self, worker: Worker) -> str:
        """Hear the worker until its line closes; a few words if that is no longer possible."""
        splitter = Splitter()
        try:
            while data := worker.line.recv(_READ):
                for said in splitter.feed(data):
                    self._hear(said_of(said))
        except OSError:  # no different from the end of the stream
            return ""
        except ValueError as error:
            return f"sent what is no message ({error}) and was killed"
        return ""

    def _hear(self, said: list[Event] | Report) -> None:
        if isinstance(said, Report):
            self._report = said
        else:
            self._tell(said)
        self._heard = time.monotonic()

    def _leave(self, worker: Worker) -> str:
        """Wait until it has ended; why, unless it was asked to."""
        code = worker.ended(_LEAVE_S)
        if code is None:
            return "closed its line, did not end and was killed"
        return "" if code == 0 and self._stopping else how(code)

    def _end(self) -> None:
        self._over = True
        self._tell([Gone()])

    def _tell(self, events: list[Event]) -> None:
        if self._abandoned:
            return
        try:
            self._deliver(events)
        except Exception:  # whose fault it is, this thread has a worker to look after
            log.exception("what the worker of the local engine said was lost")

    def _unheard(self) -> bool:
        """Does something wait to be heard? Then the silence is ours: this very process was stopped."""
        if self._worker is None:
            return False
        poll = select.poll()
        try:
            poll.register(self._worker.line, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # it is closed
            return False

    # --- the commands, on another ---------------------------------------------------------------------

    def _send(self, worker: Worker) -> None:
        while (command := self._outbox.get()) is not None:
            try:
                data = frame(command)
            except (ValueError, OverflowError, RecursionError) as error:
                self._unsendable(command, error)
                continue
            try:
                worker.line.sendall(data)
            except OSError:
                return  # it has ended, which the other thread finds out by itself

    def _unsendable(self, command: EngineSettings | Command, error: Exception) -> None:
        if isinstance(command, Submit):
            message = f"the request holds {_what(error)}, which the local engine can't take"
            failure = Failure(outcome=Outcome.CLIENT_FAULT, message=message, status=400, code="invalid_value")
            self._tell([Refused(command.id, failure)])
            return
        log.error("%s can't be sent to the worker: %s", type(command).__name__, error)
        if isinstance(command, Load):
            message = f"model {command.model.name} can't be loaded; the gateway's log says why"
            failure = Failure(
                outcome=Outcome.LOCAL_FAULT, message=message, status=503, code="model_load_failed"
            )
            self._tell([ModelChanged(command.model, "failed", failure)])


def _what(error: Exception) -> str:
    match error:
        case OverflowError():
            return "a whole number beyond 64 bits"
        case RecursionError():
            return "lists or objects that are nested too deeply"
        case UnicodeError():
            return "text that is not Unicode"
        case _:
            return "more"
