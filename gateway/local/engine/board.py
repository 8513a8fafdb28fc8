"""What the guides of one model share while its rows step: the tokens drawn, and a place for masks.

Without help each row would wait for its own token, one after another, and behind the computation
of the next ones. The generator knows all of them at once: one wait a step, and while the model
computes on, the masks are made.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from gateway.local.engine.foreign import async_eval, drawn


class Board:
    """Of one model; used on the engine thread only."""

    def __init__(self) -> None:
        self.generator: Any = None  # the batch generator whose rows are guided, if it is known
        self._drawn: mx.array | None = None
        self._tokens: dict[int, tuple[object, int]] = {}  # it holds the rows, so that none takes another's id
        self._words: NDArray[np.uint32] = np.zeros(0, np.uint32)

    def last(self, row: object, context: mx.array, logits: mx.array) -> int:
        """The token that this row has drawn last. The logits begin to be computed."""
        if self.generator is not None:
            self._look(logits)
            found = self._tokens.get(id(row))
            if found is not None:
                return found[1]
        mx.eval(context)
        last: int = memoryview(context)[-1]  # type: ignore[arg-type]
        async_eval(logits)
        return last

    def _look(self, logits: mx.array) -> None:
        processors, tokens = drawn(self.generator)
        if tokens is None or tokens is self._drawn:
            return
        self._drawn = tokens
        async_eval(logits)
        rows = zip(processors, memoryview(tokens), strict=True)
        self._tokens = {id(each): (each, token) for row, token in rows for each in row}

    def bits(self, matcher: LLMatcher, size: int) -> NDArray[np.uint8]:
        """A 1 for each token that may come next."""
        if len(self._words) != (size + 31) // 32:
            self._words = np.zeros((size + 31) // 32, np.uint32)
        matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        return np.unpackbits(self._words.view(np.uint8), bitorder="little")
