"""Loads a model in stages, so that the streams of others go on between them.

Only the engine thread calls this. The weights are mapped lazily and then read in slices; nothing
of a model folder is ever executed (no `trust_remote_code`), and nothing is downloaded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from gateway.local.engine.embed import Pooling, read_pooling
from gateway.local.engine.foreign import (
    ArraysCache,
    CacheList,
    ConcatenateKVCache,
    KVCache,
    QuantizedKVCache,
    TextStateMachine,
    get_classes,
    load_config,
    load_model,
    load_tokenizer,
    make_prompt_cache,
    make_text_state_machine,
    quantize_kv_cache,
    tree_flatten,
)
from gateway.local.engine.guide import GuideMaker
from gateway.local.engine.vocabulary import Vocabulary
from gateway.local.mailbox import ModelFacts, ModelFolder

_SLICE_BYTES = 256 * 1024 * 1024
_SMALL_SLICE_BYTES = 32 * 1024 * 1024  # while others stream: read in the time of a step
_CUT_ANYWHERE = {KVCache, QuantizedKVCache, ConcatenateKVCache}
# Of the models with a recurrent state, those that don't take the padding of a batch for tokens. In
# mlx-lm 0.32.2 mamba, jamba, olmo_hybrid and baichuan_m1 do, measured; others were not tried.
_PADDED_RIGHT = frozenset({"mamba2", "lfm2", "lfm2_moe", "falcon_h1", "qwen3_next"})
_WIDENED_BYTES = 256 * 1024 * 1024
_CACHE_STEP = 256  # tokens by which mlx-lm's caches grow


class Stage(NamedTuple):
    """How far a load has come."""

    done_bytes: int
    all_bytes: int


@dataclass(slots=True)
class Resident:
    """A model in memory with all that is needed to speak to it."""

    folder: ModelFolder
    model: Any
    tokenizer: Any
    vocab: int  # tokens that the model gives a probability to
    template: str
    defaults: dict[str, Any]  # of its generation_config.json
    trimmable: bool  # may a prompt's cache be cut back to any length?
    padded: bool  # may prompts of different lengths be computed together?
    kv_token_bytes: int
    weight_bytes: int
    load_s: float
    width: int = 0  # of a token's state
    kv_group: int = 64  # values that share a scale where keys and values are quantised
    pooling: Pooling | None = None
    draft: Any = None
    guides: GuideMaker = field(init=False)
    vocabulary: Vocabulary = field(init=False)
    family: str = ""
    _machines: dict[tuple[bool, bool], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.guides = GuideMaker(self.tokenizer, self.vocab)
        self.vocabulary = self.guides.vocabulary
        if self.tokenizer.has_tool_calling:
            self.family = str(self.tokenizer.init_kwargs.get("tool_parser_type") or "")

    @property
    def key(self) -> str:
        """What tells its prompt caches from those of any other model or form of this one."""
        folder = self.folder
        return f"{folder.path}:{folder.fingerprint}:{folder.kv_bits}:{folder.draft}"

    @property
    def batched(self) -> bool:
        return not self.folder.kv_bits and self.draft is None

    def machine(self, *, chat: bool, tools: bool) -> Any:
        """What splits its text into reasoning, calls and content."""
        key = (chat, tools)
        if key not in self._machines:
            self._machines[key] = _machine(self.tokenizer, chat=chat, tools=tools)
        return self._machines[key]

    def facts(self) -> ModelFacts:
        """What `models show` tells of it."""
        tokenizer = self.tokenizer
        caches = ", ".join(sorted({type(cache).__name__ for cache in make_prompt_cache(self.model)}))
        if self.folder.kv_bits:
            caches += f" ({self.folder.kv_bits} bits)"
        return ModelFacts(
            load_s=self.load_s,
            parameters=sum(int(array.size) for _, array in tree_flatten(self.model.parameters())),
            weight_bytes=self.weight_bytes,
            vocabulary=self.vocab,
            cache=caches,
            kv_token_bytes=self.kv_token_bytes,
            batched=self.batched,
            chat=bool(tokenizer.has_chat_template),
            tools=self.family,
            thinking=bool(tokenizer.has_thinking),
            embeddings=self.pooling is not None,
            template_bytes=len(self.template.encode()),
        )


def load(
    folder: ModelFolder, tokenizer: Any, *, gently: Callable[[], bool] = lambda: False
) -> Generator[Stage, None, Resident]:
    """Load `folder`; yields between stages, returns the model, raises whatever goes wrong.

    `tokenizer` was loaded by another thread. `gently` says whether others are waiting for a step.
    """
    began = time.monotonic()
    path = Path(folder.path)
    model, config = load_model(path, lazy=True, trust_remote_code=False)
    draft = None
    if folder.draft:
        draft, _ = load_model(Path(folder.draft), lazy=True, trust_remote_code=False)
    parts = [model, draft] if draft is not None else [model]
    for part in parts:
        _widen(part)
    arrays = [array for part in parts for _, array in tree_flatten(part.parameters())]
    all_bytes = sum(int(array.nbytes) for array in arrays)
    done = 0
    yield Stage(0, all_bytes)
    for size, some in _slices(arrays, gently):
        mx.eval(some)
        done += size
        yield Stage(done, all_bytes)
    cache = make_prompt_cache(model)
    logits = model(mx.array([[0]]), cache=cache)
    mx.eval(logits, [c.state for c in cache])
    if draft is not None:
        _check_draft(draft, logits)
    group = _quantise(cache, folder.kv_bits) if folder.kv_bits else 0
    yield Stage(all_bytes, all_bytes)
    return Resident(
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        vocab=int(logits.shape[-1]),
        template=template_of(tokenizer),
        defaults=_generation_config(path),
        trimmable=_kinds(cache) <= _CUT_ANYWHERE,
        padded=ArraysCache not in _kinds(cache) or config.get("model_type") in _PADDED_RIGHT,
        kv_token_bytes=sum(int(c.nbytes) for c in cache) // _CACHE_STEP,
        weight_bytes=all_bytes,
        load_s=time.monotonic() - began,
        width=_width(model),
        pooling=read_pooling(path) if hasattr(model, "model") else None,
        draft=draft,
        kv_group=group,
    )


def read_tokenizer(folder: ModelFolder) -> Any:
    """The tokenizer of a model. Needs no MLX, so another thread can do it: it takes up to a second.
    The model's code is imported on the way, for the same reason.
    """
    path = Path(folder.path)
    config = load_config(path)
    if "model_file" not in config:
        get_classes(config=config)
    tokenizer = load_tokenizer(path, {"trust_remote_code": False}, eos_token_ids=config.get("eos_token_id"))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Set once: otherwise each encode may change the shared tokenizer while another thread decodes.
        backend.no_truncation()
        backend.no_padding()
    return tokenizer


def _widen(model: Any) -> None:
    """On a processor halves are several times slower than floats, so a small model is computed in floats.
    A GPU has no such trouble.
    """
    size = sum(int(array.nbytes) for _, array in tree_flatten(model.parameters()))
    if mx.default_device() == mx.cpu and size <= _WIDENED_BYTES:
        model.set_dtype(mx.float32)


def _slices(
    arrays: list[mx.array], gently: Callable[[], bool]
) -> Generator[tuple[int, list[mx.array]], None, None]:
    batch: list[mx.array] = []
    size = 0
    for array in arrays:
        batch.append(array)
        size += array.nbytes
        if size >= (_SMALL_SLICE_BYTES if gently() else _SLICE_BYTES):
            yield size, batch
            batch, size = [], 0
    if batch:
        yield size, batch


def _kinds(cache: Any) -> set[Any]:
    """The classes of all layers, those inside of lists too."""
    found: set[Any] = set()
    for layer in cache:
        found |= _kinds(layer.caches) if type(layer) is CacheList else {type(layer)}
    return found


def _check_draft(draft: Any, logits: mx.array) -> None:
    guessed = draft(mx.array([[0]]), cache=make_prompt_cache(draft))
    if guessed.shape[-1] != logits.shape[-1]:
        raise ValueError(
            f"the draft model has {guessed.shape[-1]} tokens and the model {logits.shape[-1]}; "
            "a draft model must share the vocabulary"
        )


def _width(model: Any) -> int:
    found = getattr(getattr(model, "args", None), "hidden_size", 0)
    return found if isinstance(found, int) else 0


def _quantise(cache: list[Any], bits: int) -> int:
    """Try it on a cache of one token, and raise where it can't be done; the group size that fits."""
    keys = getattr(cache[0], "keys", None)
    group = 64 if keys is not None and keys.shape[-1] % 64 == 0 else 32
    quantize_kv_cache(cache, 0, group, bits)
    if not any(type(layer).__name__ == "QuantizedKVCache" for layer in cache):
        raise ValueError("the caches of this model can't be quantised; leave it out of local.kv_bits")
    mx.eval([layer.state for layer in cache])
    return group


def template_of(tokenizer: Any) -> str:
    """Its chat templates; empty where it has none."""
    found = tokenizer.chat_template
    if isinstance(found, dict):
        return "\n".join(map(str, found.values()))
    return found if isinstance(found, str) else ""


def _generation_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _machine(tokenizer: Any, *, chat: bool, tools: bool) -> Any:
    """In a plain completion everything is text; without tools what looks like a call is text."""
    if not chat:
        return TextStateMachine(None)
    if tools or not tokenizer.has_tool_calling or tokenizer.response_transitions:
        return make_text_state_machine(tokenizer)
    edges: dict[str, list[tuple[str, str]]] = {}
    if tokenizer.has_thinking:
        edges = {"normal": [(tokenizer.think_start, "reasoning")]}
        edges["reasoning"] = [(tokenizer.think_end, "normal")]
    for marker in tokenizer.structural_markers:
        edges.setdefault("normal", []).append((marker, "normal"))
    return TextStateMachine(edges or None)
