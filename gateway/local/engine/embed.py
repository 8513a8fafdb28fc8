"""Vectors of texts, from models that were made for it (sentence-transformers' description beside them).

A group of short inputs is computed at once, padded on the right, where no token looks; a long one
alone and in chunks. One group or chunk a step, so that the streams of others go on.
"""

from __future__ import annotations

import array
import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx

from gateway.failover.outcome import Failure
from gateway.local.engine.foreign import make_prompt_cache
from gateway.local.mailbox import Began, Event, Finished, Refused, Vectors

_GROUP_TOKENS = 2048
_GROUP_ROWS = 16


@dataclass(frozen=True, slots=True)
class Pooling:
    """How a vector comes of the states of all tokens."""

    mode: Literal["last", "mean", "first"]
    normalised: bool


def read_pooling(folder: Path) -> Pooling | None:
    """What modules.json and its pooling module say; None for a model that makes no vectors."""
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
        kinds = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
        if "Pooling" not in kinds or ".." in kinds["Pooling"]:
            return None
        said = json.loads((folder / kinds["Pooling"] / "config.json").read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    for key, mode in _MODES:
        if isinstance(said, dict) and said.get(key):
            return Pooling(mode, "Normalize" in kinds)
    return None


_MODES: tuple[tuple[str, Literal["last", "mean", "first"]], ...] = (
    ("pooling_mode_lasttoken", "last"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_cls_token", "first"),
)


@dataclass(slots=True)
class _Job:
    id: int
    inputs: list[list[int]]
    dimensions: int | None
    data: list[bytes] = field(default_factory=list)
    began: bool = False


@dataclass(slots=True)
class Embedder:
    """The inputs that wait for their vectors, of one model."""

    model: Any
    pooling: Pooling
    chunk: int
    jobs: deque[_Job] = field(default_factory=deque)
    _long: tuple[list[Any], int, mx.array | None] | None = None  # cache, tokens done, sum of states

    @property
    def busy(self) -> bool:
        return bool(self.jobs)

    def add(self, number: int, inputs: list[list[int]], dimensions: int | None) -> None:
        self.jobs.append(_Job(number, inputs, dimensions))

    def cancel(self, number: int) -> bool:
        for job in self.jobs:
            if job.id == number:
                if job is self.jobs[0]:
                    self._long = None
                self.jobs.remove(job)
                return True
        return False

    def fail(self, failure: Failure, out: list[Event]) -> None:
        """A step failed: the request that it was for is over."""
        self._long = None
        if self.jobs:
            out.append(Refused(self.jobs.popleft().id, failure))

    def step(self, out: list[Event]) -> None:
        """One group of inputs, or one chunk of a long one."""
        job = self.jobs[0]
        if not job.began:
            job.began = True
            out.append(Began(job.id))
        at = len(job.data)
        if len(job.inputs[at]) > _GROUP_TOKENS:
            vectors = self._step_long(job.inputs[at])
        else:
            vectors = self._group(job.inputs[at:])
        if vectors is None:
            return
        job.data += [self._packed(vector, job.dimensions) for vector in vectors]
        if len(job.data) == len(job.inputs):
            self.jobs.popleft()
            out.append(Vectors(job.id, tuple(job.data)))
            out.append(Finished(id=job.id, prompt_tokens=sum(map(len, job.inputs))))

    def _group(self, inputs: list[list[int]]) -> list[mx.array]:
        longest, count = 0, 0
        for tokens in inputs[:_GROUP_ROWS]:
            longest = max(longest, len(tokens))
            if longest * (count + 1) > _GROUP_TOKENS:
                break
            count += 1
        rows = inputs[:count]
        longest = max(map(len, rows))
        states = self.model.model(mx.array([row + [0] * (longest - len(row)) for row in rows]))
        return [self._pooled(states[index, : len(row)]) for index, row in enumerate(rows)]

    def _step_long(self, tokens: list[int]) -> list[mx.array] | None:
        cache, done, total = self._long or (make_prompt_cache(self.model), 0, None)
        states = self.model.model(mx.array([tokens[done : done + self.chunk]]), cache=cache)[0]
        if self.pooling.mode == "mean":
            summed = states.sum(axis=0)
            total = summed if total is None else total + summed
        elif self.pooling.mode == "last" or total is None:
            total = states[-1] if self.pooling.mode == "last" else states[0]
        done += states.shape[0]
        mx.eval(total, [c.state for c in cache])
        if done < len(tokens):
            self._long = (cache, done, total)
            return None
        self._long = None
        assert total is not None
        return [total / len(tokens) if self.pooling.mode == "mean" else total]

    def _pooled(self, states: mx.array) -> mx.array:
        if self.pooling.mode == "mean":
            return states.mean(axis=0)
        return states[-1] if self.pooling.mode == "last" else states[0]

    def _packed(self, vector: mx.array, dimensions: int | None) -> bytes:
        found = vector.astype(mx.float32)
        if dimensions is not None:
            found = found[:dimensions]
        if self.pooling.normalised or dimensions is not None:
            found = found / mx.maximum(mx.linalg.norm(found), 1e-12)
        values: Any = found.tolist()
        return array.array("f", values).tobytes()
