"""The engine on a thread of this process. MLX is imported there and nowhere else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from gateway.local.engine.quiet import quieten
from gateway.local.mailbox import Command, Counters, EngineSettings, Event, Gone, Pulse, Stop

if TYPE_CHECKING:
    from gateway.local.engine.loop import Border

log = logging.getLogger(__name__)

_IMPORT_S = 120.0  # a cold disk on a busy machine


class EngineThread:
    """An `EngineTransport`: the engine lives in a thread that begins with its first command."""

    def __init__(self, settings: EngineSettings, deliver: Callable[[list[Event]], None]) -> None:
        self._settings, self._deliver = settings, deliver
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._pulse = Pulse("load", time.monotonic(), _IMPORT_S)
        self._border: Border | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="local-engine", daemon=True)
        self._thread.start()

    def post(self, command: Command) -> None:
        self._inbox.put(command)

    def pulse(self) -> Pulse:
        return self._border.pulse if self._border is not None else self._pulse

    def counters(self) -> Counters:
        found = self._border.counters if self._border is not None else Counters()
        return Counters(*(getattr(found, name) for name in Counters.__struct_fields__))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def pid(self) -> int | None:
        return None

    def abandon(self) -> None:
        self._abandoned = True
        if self._border is not None:
            self._border.abandoned = True
        self.post(Stop())

    def join(self, timeout_s: float) -> bool:
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:
            log.exception("the local engine's thread died")
        if not self._abandoned:
            self._deliver([Gone()])

    def _work(self) -> None:
        quieten()
        import mlx.core as mx

        from gateway.local.engine.loop import Border, EngineLoop

        border = Border(self._inbox, self._deliver, abandoned=self._abandoned)  # type: ignore[arg-type]  # the loop posts its own messages into it too
        self._border = border
        try:
            loop = EngineLoop(self._settings, border)
            try:
                loop.run()
            finally:
                loop.close()
                del loop
        finally:
            # Without this as the thread's last act the process aborts when it exits.
            mx.clear_streams()
