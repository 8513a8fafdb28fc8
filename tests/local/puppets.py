"""Takes hold of the real batch generator: it says what a script says, or fails as a test wants it to.

The model, the caches and the steps stay real; only the tokens that come out, or the call of
`next`, are changed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.local.models import SPECIALS

END = 256


def script(text: str, markers: tuple[str, ...] = ()) -> list[int]:
    """The tokens of `text` in a model of `tests.local.models` with these extra tokens."""
    known = {marker: 256 + i for i, marker in enumerate((*SPECIALS, *markers))}
    parts = re.split("(" + "|".join(map(re.escape, known)) + ")", text)
    return [t for part in parts for t in ([known[part]] if part in known else part.encode())]


def puppet(monkeypatch: pytest.MonkeyPatch, tokens: list[int]) -> None:
    """Let every answer of generators made from now on be `tokens` and then the end."""

    def speak(generator: Any) -> tuple[list[Any], list[Any]]:
        prompts, responses = generator.real.next()
        for response in responses:
            said = generator.said[response.uid] = generator.said.get(response.uid, -1) + 1
            ended = response.finish_reason is not None
            if said < len(tokens):
                response.token = tokens[said]
                if response.finish_reason == "stop":
                    raise AssertionError("the real model ended first; forbid its end by a bias")
            elif not ended:
                response.token, response.finish_reason = END, "stop"
                generator.real.remove([response.uid])
        return prompts, responses

    hold(monkeypatch, speak)


def hold(monkeypatch: pytest.MonkeyPatch, step: Callable[[Any], tuple[list[Any], list[Any]]]) -> None:
    """Let `step(held)` stand for `next` of generators made from now on; `held.real` is the real one."""
    from gateway.local.engine.foreign import BatchGenerator as real

    class Held:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.real = real(*args, **kwargs)
            self.said: dict[int, int] = {}
            self.steps = 0

        def next(self) -> tuple[list[Any], list[Any]]:
            self.steps += 1
            return step(self)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr("gateway.local.engine.batch.BatchGenerator", Held)


class Gate:
    """Holds the engine's thread at a step until the test opens it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.open.wait(30)
