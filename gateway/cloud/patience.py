"""How often, and after how long, a hub is asked again that may do better in a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.cloud.hub import HubBusyError

T = TypeVar("T")

_FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """So many tries, with a longer wait before each; `note` is told of every wait."""

    tries: int
    note: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep

    def call(self, ask: Callable[[], T]) -> T:
        """The answer to `ask`; raises HubBusyError when no try gave one."""
        failures = 0
        while True:
            try:
                return ask()
            except HubBusyError as busy:
                failures += 1
                self.wait(busy, failures)

    def wait(self, busy: HubBusyError, failures: int) -> None:
        """Wait for the next try; after so many failures in a row raise the last one."""
        if failures >= self.tries:
            raise busy
        wait_s = busy.wait_s if busy.wait_s is not None else _FIRST_WAIT_S * 2.0 ** (failures - 1)
        self.note(f"{busy.message}; trying again in {wait_s:g} s")
        self.sleep(wait_s)
