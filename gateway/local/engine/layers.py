"""What a row's cache is allowed to be taken for: mlx-lm's cache classes, one by one.

mlx-lm's own `is_trimmable` and `trim` are not used. They say yes where cutting is not exact: a
`ChunkedKVCache` that has dropped its front, a `ConcatenateKVCache` that brings the cut tokens back
with its next update; and some classes have no `size`, so that they report 0. Here each class is
known by its exact type. One that isn't known is used whole, and only as far as its offset agrees.

An `ArraysCache` has no length that could be checked. Where it is alone (a pure state-space model),
the caller's word is all there is.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from gateway.local.engine.foreign import (
    ArraysCache,
    BatchKVCache,
    BatchRotatingKVCache,
    CacheList,
    ChunkedKVCache,
    ConcatenateKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    tree_flatten,
    tree_map,
)

_PLAIN = (KVCache, QuantizedKVCache, ConcatenateKVCache)
_KEYED = (*_PLAIN, RotatingKVCache, ChunkedKVCache)  # these hold `keys` and `values`


def exact(cache: list[Any], length: int) -> bool:
    """Whether this is the cache of one row that holds `length` tokens, as far as each layer can tell."""
    return bool(cache) and all(_exact(layer, length) for layer in cache)


def trimmable(cache: list[Any]) -> bool:
    """Whether an exact cache of any shorter length can be cut out of this one."""
    return all(_trimmable(layer) for layer in cache)


def cut(cache: list[Any], length: int) -> None:
    """Leave the first `length` tokens, in arrays that are no longer than needed.

    The cache must be `exact` for its present length, and `trimmable` if `length` is less.
    """
    for layer in cache:
        _cut(layer, length)


def detach(cache: list[Any]) -> None:
    """Compute all arrays now, each with memory of its own instead of a view into a whole batch's."""
    for layer in cache:
        _detach(layer)
    mx.eval(arrays(cache))


def arrays(cache: list[Any]) -> list[mx.array]:
    return [array for layer in cache for array in _arrays(layer)]


def size_bytes(cache: list[Any]) -> int:
    return sum(array.nbytes for array in arrays(cache))


def storable(cache: list[Any]) -> bool:
    """Whether mlx-lm can read the cache again from what it writes: it knows only its own classes."""
    return all(_known(layer) for layer in cache)


def _known(layer: Any) -> bool:
    if type(layer) is CacheList:
        return all(map(_known, layer.caches))
    return type(layer) in (*_KEYED, ArraysCache)


def _exact(layer: Any, length: int) -> bool:
    kind = type(layer)
    if kind in (BatchKVCache, BatchRotatingKVCache):
        return False  # of a whole batch
    if kind is CacheList:
        return bool(layer.caches) and all(_exact(part, length) for part in layer.caches)
    found = _arrays(layer)
    if kind is ArraysCache:
        aligned = layer.lengths is None and layer.left_padding is None
        return aligned and bool(found) and all(array.shape[0] == 1 for array in found)
    if kind not in _KEYED:
        return bool(getattr(layer, "offset", length) == length)
    if layer.offset != length or not found or any(array.shape[0] != 1 for array in found):
        return False
    widths = {array.shape[-2] for array in found}
    return len(widths) == 1 and _complete(layer, widths.pop())


def _complete(layer: Any, width: int) -> bool:
    """Whether arrays with places for `width` tokens hold what the layer's offset promises."""
    used: int = layer.offset
    if type(layer) is ChunkedKVCache:
        return bool(0 <= layer.start_position < used <= layer.start_position + width)
    if type(layer) is not RotatingKVCache:
        return 0 < used <= width
    if used < layer.max_size:
        return bool(0 < used == layer._idx <= width)
    # Either a ring, or longer than the window and in the order of time.
    ring = width == layer.max_size and 0 <= layer._idx <= width
    return bool(ring or (width > layer.max_size and layer._idx == width))


def _trimmable(layer: Any) -> bool:
    kind = type(layer)
    if kind is CacheList:
        return all(map(_trimmable, layer.caches))
    if kind is RotatingKVCache:
        return bool(layer.offset < layer.max_size)
    if kind is ChunkedKVCache:
        return bool(layer.start_position == 0)
    return kind in _PLAIN


def _cut(layer: Any, length: int) -> None:
    kind = type(layer)
    if kind is CacheList:
        cut(layer.caches, length)
        return
    if kind not in _KEYED:
        return
    if kind is RotatingKVCache and layer.offset >= layer.max_size:
        _keep_window(layer)
        return
    used = length - layer.start_position if kind is ChunkedKVCache else length
    layer.keys, layer.values = tree_map(lambda array: array[..., :used, :], (layer.keys, layer.values))
    layer.offset = length
    if kind is RotatingKVCache:
        layer._idx = length


def _keep_window(layer: Any) -> None:
    """A long prefill leaves more than the window; the next update would drop it anyway."""
    if layer.keys.shape[2] > layer.max_size and layer.keep == 0:
        layer.keys = layer.keys[..., -layer.max_size :, :]
        layer.values = layer.values[..., -layer.max_size :, :]
        layer._idx = layer.max_size


def _detach(layer: Any) -> None:
    kind = type(layer)
    if kind is CacheList:
        for part in layer.caches:
            _detach(part)
    elif kind is ArraysCache:
        layer.cache = [None if array is None else mx.contiguous(array) for array in layer.cache]
    elif kind in _KEYED:
        layer.keys, layer.values = tree_map(mx.contiguous, (layer.keys, layer.values))


def _arrays(layer: Any) -> list[mx.array]:
    kind = type(layer)
    if kind is CacheList:
        return arrays(layer.caches)
    if kind is ArraysCache:
        tree = layer.cache
    elif kind in _KEYED:
        tree = (layer.keys, layer.values)
    else:
        tree = layer.state
    return [array for _, array in tree_flatten(tree) if isinstance(array, mx.array)]
