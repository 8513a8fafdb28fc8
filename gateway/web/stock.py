"""The local models as the admin operations show and move them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec

from gateway.backend import AttemptFailed
from gateway.errors import MissingError, RefusedError
from gateway.failover.outcome import Outcome
from gateway.local.describe import describe
from gateway.local.model import LocalModel
from gateway.local.pool import LocalPool

T = TypeVar("T")


class Stock:
    """A look at the pool's models, in plain data; what the pool refuses is refused here too."""

    def __init__(self, pool: LocalPool | None) -> None:
        self._pool = pool

    def listed(self) -> list[dict[str, Any]]:
        return [_row(model) for model in self._pool.models()] if self._pool is not None else []

    async def show(self, name: str) -> dict[str, Any]:
        model = await _told(self._there().find(name))
        facts = msgspec.structs.asdict(model.facts) if model.facts is not None else None
        folder = model.folder
        settings = {
            "pinned": model.pinned,
            "kv_bits": folder.kv_bits or None,
            "draft": self._there().draft_of(name),
            "draft_found": bool(folder.draft) if self._there().draft_of(name) else None,
            "runs": "in a batch" if not folder.kv_bits and not folder.draft else "one at a time",
        }
        return {
            **await asyncio.to_thread(describe, folder),
            "state": model.state,
            "settings": settings,
            "in_memory": facts,
            "speed": msgspec.structs.asdict(model.speed),
            "now": self._there().outlook(name),
        }

    async def load(self, name: str) -> dict[str, Any]:
        return _row(await _told(self._there().load(name)))

    async def unload(self, name: str) -> dict[str, Any]:
        return _row(await _told(self._there().unload(name)))

    async def bench(self, name: str) -> dict[str, Any]:
        return await _told(self._there().measure(name))

    def _there(self) -> LocalPool:
        if self._pool is None:
            raise RefusedError("local models are switched off (local.enabled)")
        return self._pool


async def _told(work: Awaitable[T]) -> T:
    try:
        return await work
    except AttemptFailed as failed:
        kind = MissingError if failed.failure.outcome is Outcome.MODEL_MISSING else RefusedError
        raise kind(failed.failure.message) from failed


def _row(model: LocalModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": model.path,
        "size_bytes": model.folder.size_bytes,
        "state": model.state,
        "progress": round(model.progress, 3) if model.state == "loading" else None,
        "context": model.folder.context,
        "pinned": model.pinned,
        "idle_s": None if model.idle_s is None else round(model.idle_s, 1),
        "load_s": model.speed.load_s,
        "prefill_tps": _rounded(model.speed.prefill_tps),
        "decode_tps": _rounded(model.speed.decode_tps),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
