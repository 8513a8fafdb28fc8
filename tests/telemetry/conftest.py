from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.config import Telemetry
from gateway.telemetry import log

Lines = Callable[[], list[str]]


class Written(io.StringIO):
    """What was written, in a stream that outlives its closing."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def begin() -> Iterator[Callable[..., Lines]]:
    """Set logging up with some settings; the result reads all lines so far."""
    root = logging.root
    level, quiet = root.level, {name: logging.getLogger(name).level for name in log._QUIET}

    def start(**settings: Any) -> Lines:
        out = Written()
        log.setup(replace(Telemetry(), **settings), out)

        def lines() -> list[str]:
            assert log.flush()
            return out.getvalue().splitlines()

        return lines

    yield start
    log.close()
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)
