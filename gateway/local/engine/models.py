"""Loads a model in stages, so that the streams of others go on between them.

Only the engine thread calls this. The weights are mapped lazily and then read in slices; nothing
of a model folder is ever executed (no `trust_remote_code`), and nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from gateway.local.engine.foreign import (
    TextStateMachine,
    load_model,
    load_tokenizer,
    make_prompt_cache,
    make_text_state_machine,
    tree_flatten,
)
from gateway.local.mailbox import ModelFolder

_SLICE_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class Resident:
    """A model in memory with all that is needed to speak to it."""

    folder: ModelFolder
    model: Any
    tokenizer: Any
    vocab: int  # tokens that the model gives a probability to
    template: str
    defaults: dict[str, Any]  # of its generation_config.json
    machine: Any = field(init=False)
    plain_machine: Any = field(init=False)  # knows no tool calls

    def __post_init__(self) -> None:
        self.machine = make_text_state_machine(self.tokenizer)
        self.plain_machine = _without_tools(self.tokenizer)


def load(folder: ModelFolder) -> Generator[None, None, Resident]:
    """Load `folder`; yields between stages, returns the model, raises whatever goes wrong."""
    path = Path(folder.path)
    model, config = load_model(path, lazy=True, trust_remote_code=False)
    yield
    tokenizer = load_tokenizer(path, {"trust_remote_code": False}, eos_token_ids=config.get("eos_token_id"))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Set once: otherwise each encode may change the shared tokenizer while another thread decodes.
        backend.no_truncation()
        backend.no_padding()
    yield
    for arrays in _slices(model):
        mx.eval(arrays)
        yield
    logits = model(mx.array([[0]]), cache=make_prompt_cache(model))
    mx.eval(logits)
    return Resident(
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        vocab=int(logits.shape[-1]),
        template=_template(tokenizer),
        defaults=_generation_config(path),
    )


def _slices(model: Any) -> Generator[list[mx.array], None, None]:
    batch: list[mx.array] = []
    size = 0
    for _, array in tree_flatten(model.parameters()):
        batch.append(array)
        size += array.nbytes
        if size >= _SLICE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _template(tokenizer: Any) -> str:
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


def _without_tools(tokenizer: Any) -> Any:
    """The machine for requests without tools: what looks like a call is text."""
    if not tokenizer.has_tool_calling or tokenizer.response_transitions:
        return make_text_state_machine(tokenizer)
    edges: dict[str, list[tuple[str, str]]] = {}
    if tokenizer.has_thinking:
        edges = {"normal": [(tokenizer.think_start, "reasoning")]}
        edges["reasoning"] = [(tokenizer.think_end, "normal")]
    for marker in tokenizer.structural_markers:
        edges.setdefault("normal", []).append((marker, "normal"))
    return TextStateMachine(edges or None)
