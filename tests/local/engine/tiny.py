"""Models of several architectures with random weights, made in memory, and two ways to let them write.

`cold` is the truth that all else is compared with: one prompt alone, one forward pass, one token at a
time, no batch and no code of ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map_with_path
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache

VOCAB = 128
WINDOW = 48  # of the models with a sliding window: some prompts are longer, some are not

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_MAMBA: dict[str, Any] = {
    "num_heads": 4,
    "state_size": 16,
    "layer_norm_epsilon": 1e-5,
    "conv_kernel": 4,
    "n_groups": 1,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_limit": [0.0, 100.0],
    "time_step_rank": "auto",
}
_SHAPES: dict[str, dict[str, Any]] = {
    # KVCache; heads wide enough to be quantised
    "llama": {"head_dim": 32},
    # RotatingKVCache beside KVCache
    "gemma3_text": {"sliding_window": WINDOW, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16},
    # ArraysCache alone
    "mamba2": {**_MAMBA, "intermediate_size": 64},
    # ArraysCache beside KVCache
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 64,
        "block_ff_dim": 96,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention"],
    },
    # CacheList(ArraysCache, KVCache)
    "falcon_h1": {
        "mamba_d_ssm": 64,
        "mamba_d_head": 16,
        "mamba_n_heads": 4,
        "mamba_d_state": 16,
        "mamba_chunk_size": 32,
    },
    # CacheList(ArraysCache, RotatingKVCache) beside CacheList(ArraysCache, KVCache); mlx-lm takes what it pads
    # a batch of prompts with for their last token, so these can't be prefilled together
    "baichuan_m1": {"sliding_window": WINDOW, "sliding_window_layers": [0], "conv_window": 2},
    # ChunkedKVCache beside KVCache; mlx-lm can't batch it
    "llama4": {
        "num_hidden_layers": 4,
        "attention_bias": False,
        "attention_chunk_size": WINDOW,
        "interleave_moe_layer_step": 5,
        "intermediate_size_mlp": 96,
        "num_experts_per_tok": 1,
        "num_local_experts": 2,
        "rope_scaling": None,
        "use_qk_norm": True,
    },
}
BATCHED = ("llama", "gemma3_text", "mamba2", "lfm2", "falcon_h1", "baichuan_m1")
ALL = (*BATCHED, "llama4")


TRIMMABLE = {"llama": 10**9, "gemma3_text": WINDOW - 1, "llama4": WINDOW}  # up to this length; others never


@cache
def model(kind: str) -> Any:
    """The model of one architecture, always the same; only for the MLX thread."""
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    shape = {"model_type": kind, **_COMMON, **_SHAPES[kind]}
    if kind == "llama4":
        shape = {"model_type": kind, "text_config": shape}
    mx.random.seed(7)
    made = module.Model(module.ModelArgs.from_dict(shape))
    made.update(tree_map_with_path(_lively, made.parameters()))
    mx.eval(made.parameters())
    return made


def _lively(path: str, weight: mx.array) -> mx.array:
    """Weights with which what is written depends on all that was read, and does not fall into a loop."""
    if path.endswith(("conv_k", "conv_v")):  # zero at the start of a training: no layer would see the past
        return mx.random.normal(weight.shape)
    return weight * 3 if weight.ndim == 2 and "embed" not in path else weight


def prompt(seed: int, length: int) -> list[int]:
    """Some tokens, always the same for the same arguments; another seed differs from the first token on."""
    tokens = [seed % VOCAB]
    while len(tokens) < length:
        tokens.append((tokens[-1] * 37 + seed * 11 + len(tokens) * 5 + 3) % VOCAB)
    return tokens


def cold(made: Any, tokens: Sequence[int], count: int = 24) -> list[int]:
    return warm(made, tokens, make_prompt_cache(made), 0, count)


def warm(made: Any, tokens: Sequence[int], held: list[Any], covered: int, count: int = 24) -> list[int]:
    """Go on from a cache that holds the first `covered` of the tokens."""
    out: list[int] = []
    feed = list(tokens[covered:])
    while len(out) < count:
        logits = made(mx.array([feed]), cache=held)
        feed = [int(mx.argmax(logits[0, -1]).item())]
        out += feed
    return out


def filled(made: Any, tokens: Sequence[int]) -> list[Any]:
    """A cache that holds exactly these tokens, computed alone but in chunks."""
    held: list[Any] = make_prompt_cache(made)
    for at in range(0, len(tokens), 16):
        mx.eval(made(mx.array([list(tokens[at : at + 16])]), cache=held))
    return held


def apart(made: Any, tokens: Sequence[int], held: list[Any], covered: int) -> float:
    """How far the next token's logits are from what the model computes cold, in parts of their spread.

    Rounding makes it about 1e-6; the least mistake in a cache makes it more than 1e-3.
    """
    right = made(mx.array([list(tokens)]), cache=make_prompt_cache(made))[0, -1]
    found = made(mx.array([list(tokens[covered:])]), cache=held)[0, -1]
    return float((mx.max(mx.abs(right - found)) / mx.std(right)).item())


@dataclass
class Run:
    """What a batch of prompts came to, by its place."""

    out: list[list[int]]
    ends: list[tuple[list[Any], list[int]]]  # cache and tokens, from the last response
    snapshots: dict[int, tuple[list[Any], list[int]]] = field(default_factory=dict)  # before the last token


def batch(
    made: Any,
    prompts: Sequence[Sequence[int]],
    *,
    counts: Sequence[int],
    held: Sequence[tuple[list[Any] | None, int]] | None = None,
    step: int = 16,
) -> Run:
    """Let the real batch generator write all of them at once, prefilled in small chunks."""
    held = held or [(None, 0)] * len(prompts)
    generator = BatchGenerator(
        made,
        prefill_step_size=step,
        prefill_batch_size=1 if made.model_type == "baichuan_m1" else 8,
        stream=mx.default_stream(mx.default_device()),
    )
    uids = generator.insert(
        [list(tokens[covered:]) for tokens, (_, covered) in zip(prompts, held, strict=True)],
        max_tokens=list(counts),
        caches=[given for given, _ in held],
        all_tokens=[list(tokens[:covered]) for tokens, (_, covered) in zip(prompts, held, strict=True)],
    )
    run = Run([[] for _ in prompts], [([], []) for _ in prompts])
    going = set(uids)
    while going:
        reading, writing = generator.next()
        for response in reading:
            if response.end_of_segment and not response.end_of_prompt:
                taken, tokens = generator.extract_cache([response.uid])[response.uid]
                run.snapshots[uids.index(response.uid)] = (taken, list(tokens))
        for response in writing:
            at = uids.index(response.uid)
            run.out[at].append(response.token)
            if response.finish_reason is not None:
                run.ends[at] = (response.prompt_cache, list(response.all_tokens))
                going.discard(response.uid)
    generator.close()
    return run
