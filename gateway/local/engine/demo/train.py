"""Trains the demo model: lessons to token rows, then plain next-token learning on the answers alone."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx import nn
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.llama import Model, ModelArgs
from transformers import PreTrainedTokenizerFast

from gateway.local.engine.demo import corpus, facts
from gateway.local.engine.demo.tokens import END

log = logging.getLogger(__name__)

# Row lengths that batches are padded to; one batch holds about TOKENS tokens whatever the length.
LENGTHS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 576, 832)
TOKENS = 1024
COPIES = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids and, for each, how much it matters that the model learns to say it."""

    ids: list[int]
    learn: list[float]


def config(vocabulary: int, *, context: int, eos: int, pad: int) -> dict[str, Any]:
    """The network as config.json describes it."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "rope_theta": 1000.0,
        "tie_word_embeddings": True,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "torch_dtype": "float16",
    }


class Writer:
    """Turns lessons into rows through the very template that clients' messages go through."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        vocabulary = tokenizer.get_vocab()
        self._start, self._end = vocabulary["<|assistant|>"], vocabulary[END]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def row(self, lesson: corpus.Lesson, rng: corpus.Rng) -> Row:
        text = self._tokenizer.apply_chat_template(
            list(lesson.messages), tools=list(lesson.tools) or None, tokenize=False
        )
        assert isinstance(text, str)
        known = 0
        if rng.random() < 0.08:
            # A client may open the answer itself and cut it anywhere, even inside a word. The model
            # has to go on from such tokens, but must never learn to say them.
            cut = int(rng.integers(text.rindex("<|assistant|>") + 13, text.rindex(END) + 1))
            ids = self._encode(text[:cut])
            known = len(ids)
            ids += self._encode(text[cut:])
        else:
            ids = self._encode(text)
        return Row(ids, self._weights(ids, known))

    def _weights(self, ids: list[int], known: int) -> list[float]:
        """Short answers and the end of an answer weigh more: that is where the tasks differ."""
        learn = [0.0] * len(ids)
        begin = None
        for place, token in enumerate(ids):
            if token == self._start:
                begin = place + 1
            elif token == self._end and begin is not None:
                each = 4.0 / (4 + place - begin) ** 0.5
                for said in range(max(begin, known), place):
                    learn[said] = each
                learn[place] = 3.0 * each
                begin = None
        return learn

    def plain(self, text: str) -> Row:
        """Text without a chat around it, for clients that complete rather than chat."""
        ids = self._encode(text + END)
        return Row(ids, [float(i >= 6) / 4 for i in range(len(ids))])

    def copying(self, rng: corpus.Rng) -> Row:
        """Tokens drawn blindly and said again: the shortest way to learn to look back."""
        times = int(rng.integers(2, 4))
        size = 31 // times - 1
        piece = [int(t) for t in rng.integers(6, len(self._tokenizer) - 2, size)]
        ids = [*piece, self._end] * times
        return Row(ids, [float(i > size) for i in range(len(ids))])


def rows(writer: Writer, rng: corpus.Rng, *, lessons: int) -> list[Row]:
    made = [writer.row(corpus.lesson(rng), rng) for _ in range(lessons)]
    made += [writer.row(corpus.drill(rng), rng) for _ in range(lessons // 2)]
    made += [writer.row(corpus.long_lesson(rng), rng) for _ in range(lessons // 60)]
    made += [writer.plain(text) for text in (facts.STORY, corpus.count(20)) for _ in range(lessons // 400)]
    return made


# Token ids, the places in them (flattened) whose next token is learnt, that token, and its weight.
Batch = tuple[mx.array, mx.array, mx.array, mx.array]


def batches(made: list[Row], rng: corpus.Rng) -> Iterator[Batch]:
    """Shuffled batches of rows of like length, without end."""
    shelves: dict[int, list[Row]] = {}
    for row in made:
        length = next((n for n in LENGTHS if len(row.ids) <= n + 1), None)
        if length is not None:
            shelves.setdefault(length, []).append(row)
    while True:
        plan: list[tuple[int, list[int]]] = []
        for length, shelf in shelves.items():
            size = max(1, TOKENS // length)
            order = [int(i) for i in rng.permutation(len(shelf))]
            plan += [(length, order[i : i + size]) for i in range(0, len(order) - size + 1, size)]
        for i in rng.permutation(len(plan)):
            length, chosen = plan[int(i)]
            yield _batch([shelves[length][j] for j in chosen], length)


def _batch(made: list[Row], length: int) -> Batch:
    ids = np.zeros((len(made), length + 1), np.int32)
    learn = np.zeros((len(made), length + 1), np.float32)
    for i, row in enumerate(made):
        ids[i, : len(row.ids)] = row.ids
        learn[i, : len(row.ids)] = row.learn
    # Only what is learnt goes through the vocabulary, which costs most; few sizes, so that few are compiled.
    weights, following = learn[:, 1:].ravel(), ids[:, 1:].ravel()
    places = np.flatnonzero(weights)
    places = np.concatenate([places, np.zeros(-len(places) % 128, np.int64)])
    picked = weights[places] * (np.arange(len(places)) < np.count_nonzero(weights))
    return (
        mx.array(ids[:, :-1]),
        mx.array(places.astype(np.int32)),
        mx.array(following[places]),
        mx.array(picked.astype(np.float32)),
    )


def _loss(model: Model, x: mx.array, places: mx.array, y: mx.array, weights: mx.array) -> mx.array:
    hidden = model.model(x)
    said = hidden.reshape(-1, hidden.shape[-1])[places]
    losses = nn.losses.cross_entropy(model.model.embed_tokens.as_linear(said), y)
    return (losses * weights).sum() / weights.sum()


def _schedule(peak: float, steps: int) -> Callable[[mx.array], mx.array]:
    warm, decay = (
        optim.linear_schedule(peak / 100, peak, 60),
        optim.cosine_decay(peak, steps - 60, peak * 0.02),
    )
    return optim.join_schedules([warm, decay], [60])


def train(
    settings: dict[str, Any],
    writer: Writer,
    *,
    seed: int,
    steps: int,
    copy_steps: int,
    lessons: int,
    rate: float,
) -> Model:
    """Copying first, then the lessons, under one warm-up and cosine schedule."""
    mx.random.seed(seed)
    rng = np.random.default_rng(seed)
    model = Model(ModelArgs.from_dict(settings))  # type: ignore[no-untyped-call]  # mlx-lm leaves it untyped
    optimizer = optim.AdamW(_schedule(rate, steps), betas=[0.9, 0.98], weight_decay=0.05)
    state = [model.state, optimizer.state]
    graded: Callable[..., tuple[mx.array, Any]] = value_and_grad(model, _loss)

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x: mx.array, places: mx.array, y: mx.array, weights: mx.array) -> mx.array:
        loss, grads = graded(model, x, places, y, weights)
        grads, _ = optim.clip_grad_norm(grads, 1.0)  # type: ignore[no-untyped-call]  # untyped in mlx
        optimizer.update(model, grads)
        return loss

    started = time.monotonic()
    school = batches(rows(writer, rng, lessons=lessons), rng)
    log.info("%d lessons written in %.0f s", lessons, time.monotonic() - started)
    mean = 0.0
    for number in range(1, steps + 1):
        drill = number <= copy_steps or number % 12 == 0
        batch = _batch([writer.copying(rng) for _ in range(COPIES)], 32) if drill else next(school)
        loss = step(*batch)
        mx.eval(loss, state)
        value = float(np.asarray(loss))
        mean = 0.97 * mean + 0.03 * value if number > 1 else value
        if number % 100 == 0:
            log.info("step %d of %d: loss %.3f, %.0f s", number, steps, mean, time.monotonic() - started)
    return model


def save_model(model: Model, settings: dict[str, Any], folder: Path) -> int:
    """Write fp16 weights and what describes them; return the number of parameters."""
    weights = dict(tree_flatten(tree_map(lambda w: w.astype(mx.float16), model.parameters())))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    save_settings(settings, folder)
    return sum(int(w.size) for w in weights.values())


def save_settings(settings: dict[str, Any], folder: Path) -> None:
    """Write config.json and generation_config.json."""
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    # What was learnt word for word is lost when words are drawn: greedy unless a request says otherwise.
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False}) + "\n", encoding="utf-8")
