"""Strings on the real batch generator: it says what a test lets it say, or fails as the test wants it to.

The model, the caches and the steps stay real; only the tokens that come out, or the call of `next`,
are changed. What is to happen stands in a folder, which an engine in a process of its own reads as well
as one on a thread: `Strings` is the test's end of it, `attach` puts the other end into an engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.local.models import SPECIALS

END = 256
Deed = Literal["raise", "die", "kill", "nan", "gate", "garble", "refuse"]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong: `raise` (an exception), `die` (one that ends the engine), `kill` (the process, by
    SIGKILL), `nan` (no numbers), `gate` (a step waits until the test opens), `garble` (the first request gets
    what is no token), `refuse` (the generator takes no request).
    """

    do: Deed
    skip: int = 0  # so many steps come first
    times: int | None = None  # in all, whatever engines die on the way; None: again and again


class Strings:
    """The test's end. What is said holds for requests that begin afterwards, what is done from the next step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "gate")
        self._gate = os.open(folder / "gate", os.O_RDWR | os.O_NONBLOCK)

    def say(self, text: str, markers: tuple[str, ...] = ()) -> int:
        """Let every answer be `text` and then the end; gives its number of tokens."""
        tokens = script(text, markers)
        _write(self.folder / "say", json.dumps(tokens))
        return len(tokens)

    def act(self, do: Deed, *, skip: int = 0, times: int | None = None) -> None:
        for number in range(times or 0):
            (self.folder / f"charge.{number}").touch()
        for number in range(skip):
            (self.folder / f"skip.{number}").touch()
        if do == "gate":
            self._drain()
        _write(self.folder / "act", msgspec.json.encode(Act(do=do, skip=skip, times=times)).decode())

    @property
    def reached(self) -> bool:
        """Does a step wait at the gate, or has it waited?"""
        return (self.folder / "reached").exists()

    def open(self) -> None:
        """Let all steps go on that wait, and no further one wait."""
        (self.folder / "act").unlink(missing_ok=True)
        os.write(self._gate, b"." * 64)

    def rest(self) -> None:
        """Everything is as if there were no strings."""
        self.open()
        for path in self.folder.iterdir():
            if path.name != "gate":
                path.unlink()

    def close(self) -> None:
        self.open()
        os.close(self._gate)

    def _drain(self) -> None:
        """What nobody took when it was opened last. Not at once then: it may be on its way."""
        (self.folder / "reached").unlink(missing_ok=True)
        with contextlib.suppress(BlockingIOError):
            os.read(self._gate, 1 << 16)


def script(text: str, markers: tuple[str, ...] = ()) -> list[int]:
    """The tokens of `text` in a model of `tests.local.models` with these extra tokens."""
    known = {marker: 256 + i for i, marker in enumerate((*SPECIALS, *markers))}
    parts = re.split("(" + "|".join(map(re.escape, known)) + ")", text)
    return [t for part in parts for t in ([known[part]] if part in known else part.encode())]


def attach(folder: Path, put: Callable[[str, Any], None]) -> None:
    """Put the generators of an engine in this process on strings; `put(name, value)` sets an attribute."""
    from gateway.local.engine.foreign import BatchGenerator as Real
    from gateway.local.engine.foreign import generate_step

    class Held:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.real = Real(*args, **kwargs)
            self.texts: dict[int, list[int]] = {}
            self.said: dict[int, int] = {}

        def insert_segments(self, segments: Any, **how: Any) -> list[int]:
            if _due(folder, "refuse"):
                how["logits_processors"] = [5]
            uids: list[int] = self.real.insert_segments(segments, **how)
            with contextlib.suppress(FileNotFoundError):
                self.texts |= dict.fromkeys(uids, json.loads((folder / "say").read_text()))
            return uids

        def next(self) -> tuple[list[Any], list[Any]]:
            act = _due(folder, "raise", "die", "kill", "nan", "gate", "garble")
            _before(folder, act)
            prompts, responses = self.real.next()
            for response in responses:
                if response.uid in self.texts:
                    self._speak(response, self.texts[response.uid])
                if act is not None and act.do == "nan":
                    response.logprobs = response.logprobs * float("nan")
                if act is not None and act.do == "garble" and response.uid == 0:
                    response.token = "not a token"
            return prompts, responses

        def _speak(self, response: Any, tokens: list[int]) -> None:
            said = self.said[response.uid] = self.said.get(response.uid, -1) + 1
            if said < len(tokens):
                response.token = tokens[said]
                assert response.finish_reason != "stop", (
                    "the real model ended first; forbid its end by a bias"
                )
            elif response.finish_reason is None:
                response.token, response.finish_reason = END, "stop"
                self.real.remove([response.uid])

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "prefill_step_size":
                setattr(self.real, name, value)
            else:
                super().__setattr__(name, value)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    put("gateway.local.engine.batch.BatchGenerator", Held)
    put("gateway.local.engine.single.generate_step", partial(_stepped, folder, generate_step))


def _stepped(folder: Path, real: Callable[..., Iterator[Any]], *args: Any, **how: Any) -> Iterator[Any]:
    """The tokens of a model without a batch."""
    for token in real(*args, **how):
        _before(folder, _due(folder, "raise", "die", "kill", "gate"))
        yield token


class Deadly(BaseException):
    """What no engine survives."""


def _due(folder: Path, *deeds: str) -> Act | None:
    try:
        act = msgspec.json.decode((folder / "act").read_bytes(), type=Act)
    except FileNotFoundError:
        return None
    if act.do not in deeds or _taken(folder, "skip", act.skip):
        return None
    return act if act.times is None or _taken(folder, "charge", act.times) else None


def _taken(folder: Path, kind: str, most: int) -> bool:
    """Was there one left?"""
    for number in range(most):
        with contextlib.suppress(FileNotFoundError):
            (folder / f"{kind}.{number}").unlink()
            return True
    return False


def _before(folder: Path, act: Act | None) -> None:
    match act.do if act is not None else None:
        case "raise":
            raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory")
        case "die":
            raise Deadly
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "gate":
            (folder / "reached").touch()
            gate = os.open(folder / "gate", os.O_RDONLY)
            os.read(gate, 1)
            os.close(gate)


def _write(path: Path, text: str) -> None:
    """All at once: the other end may be reading."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)
