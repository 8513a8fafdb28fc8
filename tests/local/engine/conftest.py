"""A thread for tests that touch MLX themselves: it clears its streams at its end, as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


@pytest.fixture(scope="session")
def on_mlx() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    with ThreadPoolExecutor(1) as thread:
        yield lambda work: thread.submit(work).result(60)

        def clear() -> None:
            import mlx.core as mx

            mx.clear_streams()

        thread.submit(clear).result(60)
