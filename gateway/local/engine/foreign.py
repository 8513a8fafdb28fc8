"""Everything that is used of mlx-lm and of MLX's untyped corners, in one place.

mlx-lm is pinned exactly and none of this is a stable API: when the pin moves, this is the list
to check.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten as _tree_flatten
from mlx.utils import tree_map as _tree_map
from mlx_lm import __version__ as _mlx_lm_version
from mlx_lm.generate import BatchGenerator as _BatchGenerator
from mlx_lm.generate import TextStateMachine as _TextStateMachine
from mlx_lm.generate import generate_step as _generate_step
from mlx_lm.generate import make_text_state_machine as _make_text_state_machine
from mlx_lm.generate import maybe_quantize_kv_cache as _maybe_quantize_kv_cache
from mlx_lm.generate import speculative_generate_step as _speculative_generate_step
from mlx_lm.models import cache as _cache
from mlx_lm.models.cache import make_prompt_cache as _make_prompt_cache
from mlx_lm.utils import _get_classes
from mlx_lm.utils import load_config as _load_config
from mlx_lm.utils import load_model as _load_model
from mlx_lm.utils import load_tokenizer as _load_tokenizer
from mlx_lm.utils import maybe_set_recommended_wired_limit as _raise_wired_limit

# Untyped there, so Any here.
BatchGenerator: Any = _BatchGenerator
TextStateMachine: Any = _TextStateMachine
make_text_state_machine: Any = _make_text_state_machine
make_prompt_cache: Any = _make_prompt_cache
generate_step: Any = _generate_step
speculative_generate_step: Any = _speculative_generate_step
quantize_kv_cache: Any = _maybe_quantize_kv_cache
get_classes: Any = _get_classes
load_config: Any = _load_config
load_model: Any = _load_model
load_tokenizer: Any = _load_tokenizer
raise_wired_limit: Any = _raise_wired_limit
tree_flatten: Any = _tree_flatten
async_eval: Any = mx.async_eval
tree_map: Any = _tree_map

# The classes of a prompt cache; `engine/layers.py` knows what each of them promises.
KVCache: Any = _cache.KVCache
QuantizedKVCache: Any = _cache.QuantizedKVCache
ConcatenateKVCache: Any = _cache.ConcatenateKVCache
RotatingKVCache: Any = _cache.RotatingKVCache
ChunkedKVCache: Any = _cache.ChunkedKVCache
ArraysCache: Any = _cache.ArraysCache
CacheList: Any = _cache.CacheList
BatchKVCache: Any = _cache.BatchKVCache
BatchRotatingKVCache: Any = _cache.BatchRotatingKVCache
save_prompt_cache: Any = _cache.save_prompt_cache
load_prompt_cache: Any = _cache.load_prompt_cache
mlx_lm_version: str = _mlx_lm_version


def drawn(generator: Any) -> tuple[Any, Any]:
    """While a generator makes a step: the processors of its rows, and the token that each row drew last."""
    batch = generator._generation_batch
    return batch.logits_processors, batch._current_tokens
