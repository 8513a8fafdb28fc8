"""Makes models that say what a test has written down, token by token, on the real engine.

A Llama without attention: its only layer adds nothing, so the next token hangs on the last one alone.
Each token that has a successor owns an axis of the embedding, and the head names the successor on
that axis. Which script is told therefore hangs on the last token of the prompt.

A piece of a script is one token: a byte, a marker such as <think>, or any other text, which becomes
a word of the vocabulary that no prompt is ever split into. Within one model a piece has one successor;
a script that comes back to a piece of its own goes round for ever.

A grammar may keep a parrot from its script. Then it has manners: it takes up its script again wherever
it may, else it closes what is open and does not ramble.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.local.models import CHAT_TEMPLATE, SPECIALS, make_model

AGAIN = "(again)"  # as the last piece: the one before it is said for ever
END = "<|end|>"
BEGIN = "<|assistant|>"  # what a prompt of CHAT_TEMPLATE ends with

Piece = str | bytes
_MARKER = re.compile(r"<[^<>]+>")
_SURE = 40.0  # the logit of a successor; all others have what follows, or 0
_MANNERS = {'"': 6.5, "}": 6.0, "]": 6.0, ",": 4.0} | dict.fromkeys("0123456789", 2.0)
_MANNERS |= dict.fromkeys(" \t\r\n", -6.0)
_PIECE = 7.0

# A call of get_weather. Its value begins with a piece, so that a grammar leads back into the script.
WEATHER_CALL = ["<tool_call>", '{"name": "get_', 'weather", "argu', 'ments": {"city": ']
WEATHER_CALL += ['"Paris, ', "the capital ", "of France", '"}}', "</tool_call>"]
WEATHER_ARGUMENTS = {"city": "Paris, the capital of France"}


def make_parrot(
    folder: Path,
    scripts: Mapping[str, Sequence[Piece]],
    *,
    template: str | None = CHAT_TEMPLATE,
    otherwise: Mapping[str, float] | None = None,
    context: int = 2048,
    hidden: int = 64,
    markers: Sequence[str] = (),
) -> Path:
    """Write a model that says `scripts[last token of the prompt]` and then its end.

    `otherwise` are the logits after every token that is in no script: the end, unless given.
    `markers` are further ones that it knows. A larger `hidden` makes the model heavy, not slow to write.
    """
    known = _tokens([markers, *scripts.values()])
    steps = _steps(scripts, known)
    assert len(steps) < hidden, "more pieces than axes"
    make_model(
        folder, template=template, extra_tokens=tuple(known)[256 + len(SPECIALS) :], hidden=4, layers=1
    )
    _split_no_prompt_into_pieces(folder / "tokenizer.json")
    config = json.loads((folder / "config.json").read_text())
    shape = {
        "hidden_size": hidden,
        "head_dim": hidden // 2,
        "intermediate_size": hidden * 2,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config | shape))
    embedding = np.zeros((len(known), hidden), np.float32)
    head = np.zeros((len(known), hidden), np.float32)
    size = math.sqrt(hidden)  # of an axis that the last norm leaves as it is
    embedding[:, hidden - 1] = size
    for text, number in known.items():
        spoken = len(text) > 1 and not _MARKER.fullmatch(text)
        head[number] = (_PIECE if spoken else _MANNERS.get(text, 0.0)) / size
    for axis, (token, successor) in enumerate(steps.items()):
        embedding[token] = 0
        embedding[token, axis] = size
        head[successor, axis] = _SURE / size
    if otherwise is not None:
        head[:, hidden - 1] = 0
    for text, logit in (otherwise or {END: _SURE}).items():
        head[known[text], hidden - 1] = logit / size
    _write(folder / "model.safetensors", embedding, head)
    return folder


def _tokens(texts: Iterable[Sequence[Piece]]) -> dict[str, int]:
    """Every token's id: the bytes, the special ones, and what the scripts need besides."""
    known = {chr(byte): byte for byte in range(256)}
    for text in SPECIALS:
        known[text] = len(known)
    for pieces in texts:
        for piece in pieces:
            if isinstance(piece, str) and piece != AGAIN:
                assert len(piece) > 1 or piece.isascii(), "one byte is one token"
                known.setdefault(piece, len(known))
    return known


def _steps(scripts: Mapping[str, Sequence[Piece]], known: Mapping[str, int]) -> dict[int, int]:
    """Which token follows which."""
    steps: dict[int, int] = {}
    for start, pieces in scripts.items():
        at = known[start]
        own: set[int] = set()
        for piece in [*pieces, END]:
            then = piece[0] if isinstance(piece, bytes) else at if piece == AGAIN else known[piece]
            assert steps.setdefault(at, then) == then, f"{piece!r}: one token can't have two successors"
            if then in own:
                break
            own.add(then)
            at = then
    return steps


def _split_no_prompt_into_pieces(file: Path) -> None:
    """Let only markers be found in texts; the other pieces are plain words, spelt as their bytes are."""
    tokenizer = json.loads(file.read_text())
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    letters = {number: letter for letter, number in vocabulary.items()}
    added = tokenizer["added_tokens"]
    for one in added:
        text = one["content"]
        marker = _MARKER.fullmatch(text) is not None
        vocabulary[text if marker else "".join(letters[byte] for byte in text.encode())] = one["id"]
    tokenizer["added_tokens"] = [one for one in added if _MARKER.fullmatch(one["content"])]
    file.write_text(json.dumps(tokenizer))


def _write(file: Path, embedding: np.ndarray[Any, Any], head: np.ndarray[Any, Any]) -> None:
    """The weights; those of the layer are zeros, which are left out as holes at the file's end."""
    hidden = embedding.shape[1]
    norms = ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm")
    full: dict[str, np.ndarray[Any, Any]] = {f"{name}.weight": np.ones(hidden, np.float32) for name in norms}
    full |= {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    empty = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    empty |= {f"mlp.{name}_proj": (hidden * 2, hidden) for name in ("gate", "up")}
    empty["mlp.down_proj"] = (hidden, hidden * 2)
    shapes = {name: array.shape for name, array in full.items()}
    shapes |= {f"model.layers.0.{name}.weight": shape for name, shape in empty.items()}
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in full.values():
            out.write(array.tobytes())
        out.truncate(8 + len(text) + end)
