"""Makes m6: a random Llama of 6 million parameters that writes words for ever.

Its vocabulary are bytes, syllables and words, with and without a blank before them. Of the output
layer only the rows of printable bytes and of words with a blank are random, the others are zero:
the largest logit is always one of the former, so at temperature 0 each token is visible text and
none is the end.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

HIDDEN, LAYERS, INNER, HEADS, KV_HEADS, VOCAB = 256, 6, 512, 2, 1, 4096  # few heads: long prompts stay cheap
CONTEXT = 16384
SPECIALS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_MARKERS = ("<tool_call>", "</tool_call>")
_SYLLABLES = tuple("".join(pair) for pair in itertools.product("bcdfghjklmnpqrstvwxz", "aeiou"))
_NUMBER = (VOCAB - 256 - len(_SYLLABLES) - len(SPECIALS) - len(_MARKERS)) // 2
WORDS = tuple(a + b for a, b in itertools.islice(itertools.product(_SYLLABLES, _SYLLABLES), _NUMBER))
_BLANK = "Ġ"  # what a blank is in a byte-level vocabulary
# That it writes the name of a call between the markers is how mlx-lm knows which kind of calls it makes.
_TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for tool_call in m.tool_calls or [] %}"
    "<tool_call>{{ tool_call.name }}</tool_call>{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    tokens = _tokenizer(folder)
    shape = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "eos_token_id": tokens.index("<|end|>"),
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(shape))
    save_file(_weights(tokens), folder / "model.safetensors", metadata={"format": "mlx"})
    return folder


def _tokenizer(folder: Path) -> list[str]:
    """Write it; returns the tokens in order."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(s[0], s[1]) for s in _SYLLABLES]
    merges += [(word[:2], word[2:]) for word in WORDS]
    merges += [(_BLANK, word) for word in WORDS]
    pieces = letters + ["".join(pair) for pair in merges]
    tokenizer = Tokenizer(BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in _MARKERS])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "chat_template": _TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return [*pieces, *SPECIALS, *_MARKERS]


def _weights(tokens: list[str]) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (dice.standard_normal(shape) * 0.05).astype(np.float32)

    kv = HIDDEN * KV_HEADS // HEADS
    found = {
        "model.embed_tokens.weight": normal(VOCAB, HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": normal(VOCAB, HIDDEN),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name, rows in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            found[f"{at}.self_attn.{name}_proj.weight"] = normal(rows, HIDDEN)
        for name in ("gate", "up"):
            found[f"{at}.mlp.{name}_proj.weight"] = normal(INNER, HIDDEN)
        found[f"{at}.mlp.down_proj.weight"] = normal(HIDDEN, INNER)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{at}.{name}.weight"] = np.ones(HIDDEN, np.float32)
    for number in range(VOCAB):
        token = tokens[number] if number < len(tokens) else ""
        printable = len(token) == 1 and "!" <= token <= "~"
        if not printable and not (token.startswith(_BLANK) and len(token) > 1):
            found["lm_head.weight"][number] = 0
    return found
