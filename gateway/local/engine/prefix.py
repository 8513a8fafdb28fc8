"""The prompt cache: what one request has computed, the next one need not.

One for all models of an engine, used on the MLX thread only. Keys of models are opaque: they name
everything that makes two caches different (weights, adapter, quantisation of the cache).

An entry is checked when it is taken and again when it is given: each layer that knows how many
tokens it holds must say exactly as many as the tokens it is kept under. What fails is dropped.
"""

from __future__ import annotations

import copy
import logging
import time
from itertools import count
from pathlib import Path
from typing import Any

from gateway.local.engine import layers
from gateway.local.engine.shelf import Shelf
from gateway.local.prefixes import LEAST_USED, Entry, Hit, PrefixIndex, pack, worth_keeping

log = logging.getLogger(__name__)

_SPILL_LEAST = 64  # tokens; below it a file costs more than it saves
# A write holds up every stream of the engine: so much at once while there may be any,
_SPILL_BYTES = 1 << 30
_FORGET_S = 2.0  # and no new write after this in one unload,
_CLOSE_S = 10.0  # or at the end


class PrefixCache:
    """Prompt caches in memory, bounded in bytes, with a shelf on disk behind them if there is a folder."""

    def __init__(self, *, max_bytes: int, folder: Path | None = None, disk_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = self.hit_tokens = self.spilled = self.restored = 0
        self._index = PrefixIndex()
        self._held: dict[str, list[Any]] = {}  # by the id of the entry
        self._numbers = count()
        self._shelf = _shelf(folder, disk_bytes)

    @property
    def nbytes(self) -> int:
        return self._index.size_bytes

    def fetch(self, model: str, tokens: list[int]) -> tuple[list[Any] | None, int]:
        """A cache of the first tokens, the caller's own, and how many there are in it: never all of them."""
        prompt = pack(tokens)
        hit = self._nearest(model, prompt)
        while hit is not None:
            # Copy on write: the arrays are shared until one side changes its own.
            cache = copy.deepcopy(self._held[hit.entry.id])
            sound = layers.exact(cache, hit.entry.length)
            if sound and hit.length < hit.entry.length:
                layers.cut(cache, hit.length)
                sound = hit.entry.trimmable and layers.exact(cache, hit.length)
            if sound:
                self._index.touch(hit.entry.id)
                self._fit(self.max_bytes)
                self.hits += 1
                self.hit_tokens += hit.length
                return cache, hit.length
            log.warning("a kept prompt cache does not hold its %d tokens; it is dropped", hit.entry.length)
            self._drop(hit.entry)
            hit = self._index.best(model, prompt)  # not from disk again: it might be the same
        self.misses += 1
        return None, 0

    def keep(self, model: str, tokens: list[int], cache: list[Any]) -> None:
        """Take over `cache`, which holds exactly `tokens`. What is not worth it, or not exact, is let go."""
        if not worth_keeping(len(tokens)):
            return
        if not layers.exact(cache, len(tokens)):
            log.debug("a prompt cache does not hold its %d tokens exactly; it is not kept", len(tokens))
            return
        packed, trimmable = pack(tokens), layers.trimmable(cache)
        known = self._index.covering(model, packed, trimmable=trimmable)
        if known is not None:
            self._index.touch(known.id)
            return
        try:
            layers.cut(cache, len(tokens))
            layers.detach(cache)
        except RuntimeError as error:  # of MLX, and that is no memory
            log.warning("a prompt cache of %d tokens could not be kept: %s", len(tokens), error)
            return
        size = layers.size_bytes(cache) + len(packed)
        entry = Entry(str(next(self._numbers)), model, packed, size, trimmable)
        if size > self.max_bytes:
            self._spill(entry, cache, most_bytes=_SPILL_BYTES)
            return
        self._add(entry, cache)
        self._fit(self.max_bytes)

    def shrink(self, max_bytes: int) -> None:
        """Give memory back now, down to `max_bytes`; the bound stays as it is."""
        self._fit(max_bytes)

    def forget(self, model: str) -> None:
        """Let go of all of one model's; it is unloaded."""
        self._leave(self._index.of(model), seconds=_FORGET_S, most_bytes=_SPILL_BYTES)
        if self._shelf is not None:
            self._shelf.forget(model)

    def close(self) -> None:
        """Let go of all; what is lost is only what did not get to disk in time."""
        self._leave(self._index.of(), seconds=_CLOSE_S, most_bytes=None)

    def _nearest(self, model: str, prompt: bytes) -> Hit | None:
        """The best entry, in memory when this returns."""
        near = self._index.best(model, prompt)
        while self._shelf is not None:
            far = self._shelf.best(model, prompt)
            if far is None or (near is not None and far.length < near.length + LEAST_USED):
                break
            cache = self._shelf.take(far.entry)
            if cache is None:
                continue
            self.restored += 1
            size = layers.size_bytes(cache) + len(far.entry.tokens)
            entry = Entry(str(next(self._numbers)), model, far.entry.tokens, size, layers.trimmable(cache))
            self._add(entry, cache)
            return Hit(entry, far.length)
        return near

    def _add(self, entry: Entry, cache: list[Any]) -> None:
        needless = self._index.add(entry)
        assert needless is not None, "whoever adds has looked before"
        self._held[entry.id] = cache
        for other in needless:
            del self._held[other.id]

    def _drop(self, entry: Entry) -> None:
        self._index.remove(entry.id)
        del self._held[entry.id]

    def _fit(self, max_bytes: int) -> None:
        for entry in self._index.evict(max_bytes):
            self._spill(entry, self._held.pop(entry.id), most_bytes=_SPILL_BYTES)

    def _leave(self, entries: list[Entry], *, seconds: float, most_bytes: int | None) -> None:
        deadline = time.monotonic() + seconds
        for entry in reversed(entries):  # what was used last is the likeliest to be asked for again
            if time.monotonic() < deadline:
                self._spill(entry, self._held[entry.id], most_bytes=most_bytes)
            self._drop(entry)

    def _spill(self, entry: Entry, cache: list[Any], *, most_bytes: int | None) -> None:
        if self._shelf is None or entry.length < _SPILL_LEAST:
            return
        if most_bytes is not None and entry.size_bytes > most_bytes:
            return
        if self._shelf.put(entry.model, entry.tokens, cache):
            self.spilled += 1


def _shelf(folder: Path | None, disk_bytes: int) -> Shelf | None:
    if folder is None:
        return None
    try:
        return Shelf(folder, disk_bytes)
    except OSError as error:
        log.warning("prompt caches are not kept on disk, %s can't be used: %s", folder, error)
        return None
