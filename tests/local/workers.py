"""Workers of the tests' own: small programs that stand where the real one would, and who hears them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.local.child import EngineChild
from gateway.local.mailbox import EngineSettings, Event, Gone, ModelFolder, Submit
from gateway.local.request import Chat, Generate

SETTINGS = EngineSettings(batch_size=7, prefill_step=64, default_max_tokens=16, cache_bytes=0)
MODEL = ModelFolder(name="tiny", path="/m/tiny", size_bytes=1, fingerprint="f")

# Speaks the frames and nothing else: what such a program does comes after this.
SPEAKER = """
import os, signal, socket, sys, time
from gateway.local.frames import Report, Splitter, command_of, frame, settings_of
from gateway.local.mailbox import *

line = socket.socket(fileno=int(sys.argv[1]))

def frames():
    splitter = Splitter()
    while data := line.recv(65536):
        yield from splitter.feed(data)

heard = frames()
def say(*events): line.sendall(frame(list(events)))
def beat(phase="idle"): line.sendall(frame(Report(Pulse(phase, time.monotonic()), Counters(steps=5))))
def commands(): return map(command_of, heard)
settings = settings_of(next(heard))
"""

# The real worker around a loop that does what the text of a chat says, in place of MLX.
PUPPET = """
import logging, os, sys, time, types
from dataclasses import dataclass, field
from gateway.local.mailbox import *

@dataclass
class Border:
    inbox: object
    deliver: object
    counters: Counters = field(default_factory=Counters)
    pulse: Pulse = field(default_factory=lambda: Pulse("idle", time.monotonic()))
    abandoned: bool = False

class EngineLoop:
    def __init__(self, settings, border): self.border = border
    def close(self): logging.info("closed")
    def run(self):
        while not isinstance(command := self.border.inbox.get(), Stop):
            if isinstance(command, Submit):
                self.border.pulse = Pulse("step", time.monotonic())
                self.work(command.id, command.work.prompts[0].messages[0])
                self.border.pulse = Pulse("idle", time.monotonic())
            elif isinstance(command, Cancel):
                self.border.counters.cancelled += 1
                self.border.deliver([Delta(0, f"cancelled {command.id}")])
    def work(self, number, message):
        exec(message["do"], globals() | {"number": number, "border": self.border,
             "tell": lambda text: self.border.deliver([Delta(number, str(text))])})
        self.border.counters.completion_tokens += 1
        self.border.deliver([Finished(id=number, prompt_tokens=1)])

loop = types.ModuleType("gateway.local.engine.loop")
loop.Border, loop.EngineLoop = Border, EngineLoop
core = types.ModuleType("mlx.core")
core.clear_streams = lambda: logging.info("streams cleared")
sys.modules |= {"gateway.local.engine.loop": loop, "mlx": types.ModuleType("mlx"), "mlx.core": core}
from gateway.local.engine.child import main
main(int(sys.argv[1]))
"""


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-c", code)


def submit(number: int = 1, do: str = "", **fields: Any) -> Submit:
    """A chat; a puppet runs `do`."""
    chat = Chat(messages=[{"role": "user", "content": "hi", "do": do, **fields}])
    return Submit(number, MODEL, Generate(prompts=(chat,)))


class Ears:
    """Collects what is delivered; `gate` may be shut to hold the thread that delivers."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, events: list[Event]) -> None:
        assert self.gate.wait(20)
        self.events += events
        self.calls += 1

    @property
    def text(self) -> str:
        return "".join(getattr(event, "text", "") for event in self.events)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def gone(self) -> int:
        return len(self.of(Gone))


def eventually(holds: Callable[[], object], within_s: float = 10.0) -> float:
    """Look until it holds; the seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, "it did not come to that"
        time.sleep(0.002)
    return time.monotonic() - began


@contextlib.contextmanager
def child(code: str) -> Iterator[tuple[EngineChild, Ears]]:
    """A running child; at the end nothing of it is left, which is checked."""
    ears = Ears()
    found = EngineChild(SETTINGS, ears, command=program(code))
    try:
        yield found, ears
    finally:
        ears.gate.set()
        found.abandon()
        assert found.join(10)
        assert not found.alive
        assert found.pid is None or ended(found.pid)


def ended(pid: int) -> bool:
    """Is this process gone, and was it reaped if it was ours to reap?"""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else ""
    except (FileNotFoundError, ProcessLookupError):
        return True
    # A grandchild is left to the machine's first process, which may take its time.
    return "State:\tZ" in status and f"PPid:\t{os.getpid()}\n" not in status


def descriptors() -> int:
    return len([*Path("/dev/fd").iterdir()])
