"""The memory that answers take while they are made: who may begin, and who waits for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

from gateway.local.residency import kv_bytes

if TYPE_CHECKING:
    from gateway.local.engine.models import Resident
    from gateway.local.engine.prefix import PrefixCache
    from gateway.local.engine.row import Row


class Room:
    """What one engine's answers may take, on top of the weights of its models.

    It is an estimate: keys and values of the prompt and of the answer's first thousand tokens.
    """

    def __init__(self, limit_bytes: int, prefixes: PrefixCache) -> None:
        self._limit = limit_bytes
        self._prefixes = prefixes
        self._taken: dict[Row, int] = {}
        self.weights = 0

    def take(self, row: Row, resident: Resident, *, idle: bool) -> bool:
        """Reserve what a row will need; False when it has to wait. Who is alone never waits."""
        need = self.needed(resident, len(row.tokens), row.left)
        if self._limit and not self._fits(need) and not (idle and not self._taken):
            return False
        self._taken[row] = need
        return True

    def give(self, row: Row) -> None:
        self._taken.pop(row, None)

    def too_large(self, resident: Resident, prompt: int, limit: int) -> bool:
        """Would it not fit even if nothing else was there?"""
        return bool(self._limit) and self.weights + self.needed(resident, prompt, limit) > self._limit

    def tighten(self) -> None:
        """A step failed, perhaps for want of memory: prompts that only may be of use go first."""
        self._prefixes.shrink(self._prefixes.nbytes // 2)
        mx.clear_cache()

    def needed(self, resident: Resident, prompt: int, limit: int) -> int:
        return kv_bytes(resident.kv_token_bytes, prompt, limit)

    def _fits(self, need: int) -> bool:
        free = self._limit - self.weights - sum(self._taken.values())
        if need <= free - self._prefixes.nbytes:
            return True
        if need > free:
            return False
        self._prefixes.shrink(free - need)
        return True
