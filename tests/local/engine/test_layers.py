"""Each cache class of mlx-lm: when it is believed, what is cut out of it, and that this is exact."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import cache as of_mlx_lm
from mlx_lm.models.cache import (
    ArraysCache,
    BatchKVCache,
    CacheList,
    ChunkedKVCache,
    ConcatenateKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from gateway.local.engine import layers
from tests.local.engine import tiny

OnMlx = Callable[[Callable[[], Any]], Any]

MAKERS: dict[str, Callable[[], Any]] = {
    "plain": KVCache,
    "quantised": lambda: QuantizedKVCache(group_size=32, bits=8),
    "concatenated": ConcatenateKVCache,
    "rotating": lambda: RotatingKVCache(max_size=256),
    "with a sink": lambda: RotatingKVCache(max_size=256, keep=4),
}


def fed(layer: Any, count: int, *, start: int = 0) -> Any:
    """The layer after `count` tokens, each with numbers of its own."""
    for at in range(start, start + count):
        row = mx.full((1, 2, 1, 32), at + 1, dtype=mx.float32)
        layer.update_and_fetch(row, -row)
    return layer


def state(count: int = 1) -> ArraysCache:
    layer = ArraysCache(size=count)
    layer[0] = mx.ones((1, 3, 4))
    return layer


class Odd:
    """A class that a later mlx-lm may have."""

    def __init__(self, offset: int) -> None:
        self.offset, self.state = offset, mx.zeros((1, 8))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("step", [1, 7])
def test_a_cut_cache_writes_what_one_of_that_length_writes(on_mlx: OnMlx, name: str, step: int) -> None:
    """mlx-lm's own trim of a ConcatenateKVCache brings the cut tokens back with the next update."""

    def work() -> None:
        made, long = tiny.model("llama"), tiny.prompt(5, 90)
        held = [MAKERS[name]() for _ in range(2)]
        for at in range(0, len(long), step):
            made(mx.array([long[at : at + step]]), cache=held)
        assert layers.exact(held, 90) and layers.trimmable(held)
        for length in (89, 64, 17, 1):
            shorter = copy.deepcopy(held)
            layers.cut(shorter, length)
            assert layers.exact(shorter, length) and not layers.exact(shorter, 90)
            fresh = [MAKERS[name]() for _ in range(2)]
            told = [*long[:length], 9, 8, 7]
            assert tiny.warm(made, told, shorter, length) == tiny.warm(made, told, fresh, 0)
        assert layers.exact(held, 90)

    on_mlx(work)


@pytest.mark.parametrize("extra", [0, 1, 7, 30])
def test_a_rotating_cache_can_be_cut_until_it_wraps(on_mlx: OnMlx, extra: int) -> None:
    def work() -> None:
        layer = fed(RotatingKVCache(max_size=10), 9)
        assert layers.trimmable([layer]) and layers.exact([layer], 9)
        fed(layer, 1 + extra, start=9)
        assert not layers.trimmable([layer]) and layers.exact([layer], 10 + extra)
        long = RotatingKVCache(max_size=10)
        rows = mx.broadcast_to(mx.arange(1.0, 11 + extra)[None, None, :, None], (1, 2, 10 + extra, 32))
        long.update_and_fetch(rows, -rows)
        layers.cut([long], 10 + extra)
        assert long.keys.shape[2] == 10 and layers.exact([long], 10 + extra)
        seen = [
            sorted(each.update_and_fetch(rows[:, :, :1], rows[:, :, :1])[0][0, 0, :, 0].tolist())
            for each in (layer, long)
        ]
        assert seen[0] == seen[1]

    on_mlx(work)


def test_a_chunked_cache_can_be_cut_while_it_has_its_front(on_mlx: OnMlx) -> None:
    def work() -> None:
        layer = fed(ChunkedKVCache(chunk_size=8), 12)
        assert layers.trimmable([layer]) and layers.exact([layer], 12)
        layer.maybe_trim_front()
        assert layer.is_trimmable() and not layers.trimmable([layer])
        assert layers.exact([layer], 12) and not layers.exact([layer], 8)
        layers.cut([layer], 12)
        assert layer.keys.shape[2] == 8 and layers.exact([layer], 12)

    on_mlx(work)


def test_a_mixed_cache_is_as_strict_as_its_strictest_part(on_mlx: OnMlx) -> None:
    def work() -> None:
        both = [CacheList(fed(KVCache(), 5), fed(RotatingKVCache(max_size=10), 5)), fed(KVCache(), 5)]
        assert layers.exact(both, 5) and layers.trimmable(both) and layers.storable(both)
        layers.cut(both, 3)
        assert layers.exact(both, 3)
        assert not layers.exact([CacheList(fed(KVCache(), 5), fed(KVCache(), 4))], 5)
        assert not layers.exact([CacheList()], 5) and not layers.exact([], 5)
        hybrid = [state(), fed(KVCache(), 5)]
        assert layers.exact(hybrid, 5) and not layers.exact(hybrid, 4) and not layers.trimmable(hybrid)
        assert not layers.trimmable([CacheList(state(), fed(KVCache(), 5))])

    on_mlx(work)


def test_what_is_no_finished_row_is_not_believed(on_mlx: OnMlx) -> None:
    def work() -> None:
        assert not layers.exact([KVCache()], 0) and not layers.exact([ArraysCache(size=2)], 5)
        assert not layers.exact([BatchKVCache.merge([fed(KVCache(), 5)])], 5)
        padded, short, two, uneven = state(), fed(KVCache(), 5), state(), fed(KVCache(), 5)
        padded.prepare(lengths=[3])
        short.offset = 300  # more than there are places for
        two[0] = mx.ones((2, 3, 4))
        uneven.values = uneven.values[..., :100, :]
        assert not layers.exact([padded], 5) and not layers.exact([two], 5)
        assert not layers.exact([short], 300) and not layers.exact([uneven], 5)
        turned = fed(RotatingKVCache(max_size=10), 5)
        turned._idx = 3
        assert not layers.exact([turned], 5)
        lost = fed(RotatingKVCache(max_size=10), 25)
        lost.keys, lost.values = lost.keys[..., :6, :], lost.values[..., :6, :]
        assert not layers.exact([lost], 25)

    on_mlx(work)


def test_an_unknown_class_is_used_whole_and_only_in_memory(on_mlx: OnMlx) -> None:
    def work() -> None:
        odd = [Odd(5)]
        assert layers.exact(odd, 5) and not layers.exact(odd, 6)
        assert not layers.trimmable(odd) and not layers.storable(odd)
        layers.cut(odd, 5)
        layers.detach(odd)
        assert layers.size_bytes(odd) == 32
        assert not layers.storable([CacheList(fed(KVCache(), 2), Odd(2))])

    on_mlx(work)


def test_a_detached_row_has_its_own_memory(on_mlx: OnMlx) -> None:
    """Otherwise one kept row holds the arrays of its whole batch."""

    def work() -> None:
        whole = mx.random.normal((16, 2, 512, 32))
        rows = ArraysCache(size=2)
        rows.cache = [whole, None]
        mx.eval(whole)
        rows.cache = [rows.cache[0][3:4], None]
        active = mx.get_active_memory()
        del whole
        layers.detach([rows])
        assert abs(active - mx.get_active_memory() - 15 * 2 * 512 * 32 * 4) < 2 * 512 * 32 * 4
        assert layers.size_bytes([rows]) == 2 * 512 * 32 * 4

    on_mlx(work)


def test_every_class_that_mlx_lm_has_is_known() -> None:
    """A tripwire: a new class in `mlx_lm.models.cache` is to be looked at before the pin moves."""
    found = {name for name in vars(of_mlx_lm) if name.endswith("Cache") or name == "CacheList"}
    known = {"KVCache", "QuantizedKVCache", "ConcatenateKVCache", "RotatingKVCache", "ChunkedKVCache"}
    known |= {"ArraysCache", "CacheList", "BatchKVCache", "BatchRotatingKVCache"}
    assert found == known | {"_BaseCache", "LRUPromptCache"}
