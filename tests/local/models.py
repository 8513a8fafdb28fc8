"""Makes small random models on disk, as `mlx_lm.load` opens them: a Llama and a byte-level tokenizer.

What they write is noise, but always the same noise at temperature 0; they are for everything
that does not need sense: batching, cancelling, loading, failing.
"""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any, Literal

Shapes = dict[str, tuple[int, ...]]

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'forbidden' or m.content == 'raise' %}"
    "{{ raise_exception('roles must alternate, see /usr/share/x') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}{% if not (loop.last and continue_final_message) %}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOOL_TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{% for tool_call in m.tool_calls or [] %}"
    "<tool_call>{{ tool_call.name }}</tool_call>{% endfor %}{% endfor %}" + CHAT_TEMPLATE
)
SPECIALS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")


def make_model(
    folder: Path,
    *,
    template: str | None = CHAT_TEMPLATE,
    extra_tokens: tuple[str, ...] = (),
    hidden: int = 32,
    layers: int = 2,
    context: int = 2048,
    seed: int = 0,
    heads: int = 2,
    head_dim: int | None = None,
    kind: Literal["llama", "lfm2"] = "llama",
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
) -> Path:
    """Write a model; the same arguments give the same bytes. Needs no MLX: safetensors is a simple format.

    `kind` lfm2 has attention in its last layer only, and a convolution in the others, whose state can't be
    cut back.
    """
    head_dim = head_dim or hidden // heads
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*_byte_alphabet(), *SPECIALS, *extra_tokens]
    vocab = len(tokens)
    _tokenizer(folder, tokens, template)
    shape = {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": hidden * 2,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": head_dim,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocab,
        "rope_theta": 10000.0,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "eos_token_id": tokens.index("<|end|>"),
    }
    if kind == "lfm2":
        types = ["conv"] * (layers - 1) + ["full_attention"]
        shape |= {"norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "layer_types": types}
        shape |= {"block_dim": hidden, "block_ff_dim": hidden * 2, "block_auto_adjust_ff_dim": False}
        shape |= {"block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0}
    (folder / "config.json").write_text(json.dumps({**shape, **(config or {})}))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    if kind == "lfm2":
        shapes |= _lfm2(hidden, heads, layers)
    else:
        shapes |= _llama(hidden, heads * head_dim, layers)
    _weights(folder, shapes, seed)
    return folder


def make_embedder(folder: Path, mode: str, *, normalised: bool, **how: Any) -> Path:
    """A model with the description that sentence-transformers puts beside it; `mode` is `lasttoken`,
    `mean_tokens` or `cls_token`.
    """
    make_model(folder, template=None, **how)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalised else [])]
    modules = [
        {
            "idx": n,
            "name": f"{n}",
            "path": f"{n}_{kind}" if n else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    return folder


def _llama(hidden: int, wide: int, layers: int) -> Shapes:
    shapes: Shapes = {"model.norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name in ("q", "k", "v"):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (wide, hidden)
        shapes[f"{at}.self_attn.o_proj.weight"] = (hidden, wide)
        for name in ("gate", "up"):
            shapes[f"{at}.mlp.{name}_proj.weight"] = (hidden * 2, hidden)
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, hidden * 2)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{name}.weight"] = (hidden,)
    return shapes


def _lfm2(hidden: int, heads: int, layers: int) -> Shapes:
    shapes: Shapes = {"model.embedding_norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        if layer == layers - 1:
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{at}.self_attn.{name}.weight"] = (hidden, hidden)
            for name in ("q_layernorm", "k_layernorm"):
                shapes[f"{at}.self_attn.{name}.weight"] = (hidden // heads,)
        else:
            shapes[f"{at}.conv.conv.weight"] = (hidden, 3, 1)
            shapes[f"{at}.conv.in_proj.weight"] = (hidden * 3, hidden)
            shapes[f"{at}.conv.out_proj.weight"] = (hidden, hidden)
        for name in ("w1", "w3"):
            shapes[f"{at}.feed_forward.{name}.weight"] = (hidden * 2, hidden)
        shapes[f"{at}.feed_forward.w2.weight"] = (hidden, hidden * 2)
        for name in ("operator_norm", "ffn_norm"):
            shapes[f"{at}.{name}.weight"] = (hidden,)
    return shapes


def _byte_alphabet() -> list[str]:
    """One printable character for each byte, as GPT-2 and its heirs have it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [
        chr(b) if b in plain else chr(256 + sorted(set(range(256)) - set(plain)).index(b)) for b in range(256)
    ]


def _tokenizer(folder: Path, tokens: list[str], template: str | None) -> None:
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": token in SPECIALS,
        }
        for i, token in enumerate(tokens)
        if i >= 256
    ]
    parts = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": parts,
        "post_processor": None,
        "decoder": parts,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens[:256])},
            "merges": [],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _weights(folder: Path, shapes: Shapes, seed: int) -> None:
    dice = random.Random(seed)
    header: dict[str, Any] = {}
    data = bytearray()
    for name, shape in shapes.items():
        size = math.prod(shape)
        values = [1.0] * size if "norm" in name else [dice.gauss(0, 0.3) for _ in range(size)]
        begin = len(data)
        data += struct.pack(f"<{size}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
