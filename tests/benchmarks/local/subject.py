"""What is asked: a model and prompts of a given number of tokens that never come twice.

A prompt is a system message of random words and a short question. `short` ones make the model write
on without being told to: the demo tells its story of some 130 tokens, m6 can't say its end.
"""

from __future__ import annotations

import bisect
import json
import random
import shutil
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from gateway.local.engine import demo
from tests.benchmarks.local import m6

_FRAME = "<|system|>{}<|end|><|user|>{}<|end|><|assistant|>"  # what the templates make of a prompt
STORY = "Tell me a story"


@dataclass(frozen=True)
class Subject:
    """A model that both sides serve."""

    name: str
    folder: Path
    words: tuple[str, ...]
    question: str  # what makes it write at length
    context: int
    end: int  # the token that ends an answer
    call: int  # the token that opens a tool call
    tokenizer: Tokenizer
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def system(self, tokens: int) -> str:
        """Random words that fill a prompt up to so many tokens."""
        left = tokens - self._length(_FRAME.format("", self.question))
        words = self.dice.choices(self.words, k=left)
        fits = bisect.bisect_right(range(left + 1), left, key=lambda n: self._length(" ".join(words[:n]))) - 1
        return " ".join(words[:fits])

    def _length(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def short(self, tokens: int = 24) -> list[dict[str, str]]:
        return messages(self.system(tokens), self.question)

    def long(self, tokens: int) -> list[dict[str, str]]:
        return messages(self.system(tokens), self.question)

    def tail(self) -> str:
        """A short question that was not asked before."""
        return " ".join(self.dice.choices(self.words, k=6))

    @property
    def endless(self) -> dict[str, Any]:
        """The field that forbids the end, for answers longer than what the model says by itself."""
        return {"logit_bias": {str(self.end): -100}}


def messages(system: str, question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def make(name: str, place: Path) -> Subject:
    """A subject by its name; what has to be made for it is made in `place`."""
    return MAKERS[name](place)


def _demo(_: Path) -> Subject:
    return _taught("demo", Path(demo.MODEL_DIR))


def _demo32(place: Path) -> Subject:
    """The demo in float32: MLX's CPU multiplies float16 without the BLAS, so rows of it are never free."""
    folder = shutil.copytree(demo.MODEL_DIR, place / "demo32")
    weights = load_file(folder / "model.safetensors")
    wide = {name: weight.astype(np.float32) for name, weight in weights.items()}
    save_file(wide, folder / "model.safetensors", metadata={"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}))
    return _taught("demo32", folder)


def _taught(name: str, folder: Path) -> Subject:
    facts = tomllib.loads((Path(demo.MODEL_DIR).parent / "facts.toml").read_text())
    return _subject(name, folder, tuple(facts["words"]["plain"].split()), question=STORY, context=2048)


def _m6(place: Path) -> Subject:
    return _subject("m6", m6.make(place / "m6"), m6.WORDS, question=m6.WORDS[0], context=m6.CONTEXT)


def _subject(name: str, folder: Path, words: tuple[str, ...], *, question: str, context: int) -> Subject:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Subject(
        name=name,
        folder=folder,
        words=words,
        question=question,
        context=context,
        end=tokenizer.token_to_id("<|end|>"),
        call=tokenizer.token_to_id("<tool_call>"),
        tokenizer=tokenizer,
    )


MAKERS = {"demo": _demo, "demo32": _demo32, "m6": _m6}
