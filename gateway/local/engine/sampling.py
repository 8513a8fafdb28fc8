"""Samplers and logits processors for one row of a batch.

None of them ever raises: that would poison the batch.

Filters come in the order top_k, top_p, min_p and see the model's own distribution; temperature
comes last. Rows with the same parameters share one sampler, because the generator samples a
batch in one call only if all its rows have the same sampler object.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from gateway.local.request import Sampling

log = logging.getLogger(__name__)

Sampler = Callable[[mx.array], mx.array]
Processor = Callable[[mx.array, mx.array], mx.array]
_BARRED = -30_000.0  # within the range of 16-bit floats
_COLDEST = 1e-4  # below this, dividing by the temperature leaves the range of numbers


class Choice(NamedTuple):
    """The parameters of a sampler, with the model's own defaults filled in."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float


def choice(sampling: Sampling, defaults: dict[str, Any], vocab: int) -> Choice:
    """What the request asks, else what the model's generation config says, else OpenAI's defaults."""
    warm = 1.0 if defaults.get("do_sample", True) else 0.0
    temperature = _pick(sampling.temperature, defaults, "temperature", warm)
    if sampling.temperature is None and not warm:
        temperature = 0.0
    top_k = int(_pick(sampling.top_k, defaults, "top_k", 0))
    top_p = _pick(sampling.top_p, defaults, "top_p", 1.0)
    if temperature < _COLDEST or top_p <= 0 or top_k == 1:
        return GREEDY
    return Choice(
        temperature, top_p, top_k if 0 < top_k < vocab else 0, _pick(sampling.min_p, defaults, "min_p", 0.0)
    )


def sampler(params: Choice, seed: int | None, *, behind: int = 0) -> Sampler:
    """A sampler for a row; a seed makes its choices repeatable, alone or in a batch. It goes on `behind`
    so many choices.
    """
    if params == GREEDY:
        return greedy
    return _shared(params) if seed is None else _keyed(params, seed, behind)


def greedy(logprobs: mx.array) -> mx.array:
    return mx.argmax(logprobs, axis=-1)


GREEDY = Choice(0.0, 1.0, 0, 0.0)


@functools.lru_cache(maxsize=256)
def _shared(params: Choice) -> Sampler:
    def sample(logprobs: mx.array) -> mx.array:
        return mx.random.categorical(_filtered(logprobs, params))

    return sample


def _keyed(params: Choice, seed: int, behind: int) -> Sampler:
    keys = [mx.random.key(seed % 2**64)]
    for _ in range(behind):
        keys[0], _ = mx.random.split(keys[0])
        mx.eval(keys[0])  # else the graph grows with every choice

    def sample(logprobs: mx.array) -> mx.array:
        keys[0], key = mx.random.split(keys[0])
        return mx.random.categorical(_filtered(logprobs, params), key=key)

    return sample


def _filtered(logprobs: mx.array, params: Choice) -> mx.array:
    found = logprobs.astype(mx.float32)
    if params.top_k:
        least = mx.min(mx.topk(found, params.top_k, axis=-1), axis=-1, keepdims=True)
        found = mx.where(found < least, -mx.inf, found)
    if params.top_p < 1.0:
        ordered = mx.sort(found, axis=-1)
        mass = mx.cumsum(mx.exp(ordered), axis=-1)
        total = mass[..., -1:]
        kept = mx.where(total - mass < params.top_p * total, ordered, mx.inf)
        found = mx.where(found < mx.min(kept, axis=-1, keepdims=True), -mx.inf, found)
    if params.min_p > 0:
        least = mx.max(found, axis=-1, keepdims=True) + math.log(params.min_p)
        found = mx.where(found < least, -mx.inf, found)
    return found * (1.0 / params.temperature)


def processors(
    sampling: Sampling,
    prompt: Sequence[int],
    vocab: int,
    defaults: dict[str, Any],
    *,
    ends: Sequence[int] = (),
    said: Sequence[int] = (),
) -> list[Processor]:
    """The logits processors of a row; `ends` are the tokens that end an answer, `said` those that it has
    begun with.
    """
    found: list[Processor] = []
    repetition = sampling.repetition_penalty
    if repetition == 1.0:
        repetition = _pick(None, defaults, "repetition_penalty", 1.0)
    if sampling.presence_penalty or sampling.frequency_penalty or repetition != 1.0:
        found.append(_Penalties(prompt, said, vocab, sampling, repetition))
    if sampling.logit_bias:
        found.append(_bias(sampling.logit_bias))
    if sampling.min_tokens > len(said) and ends:
        found.append(_not_yet(ends, sampling.min_tokens - len(said)))
    return [_guarded(processor) for processor in found]


class _Penalties:
    """Presence and frequency count the answer's own tokens, as OpenAI defines them; repetition
    counts the prompt too. The counts grow by one token a step and never leave the device.
    """

    def __init__(
        self, prompt: Sequence[int], said: Sequence[int], vocab: int, sampling: Sampling, repetition: float
    ) -> None:
        self._begun = False
        self._counts = mx.zeros((vocab,), mx.float32)
        if said:
            self._counts = self._counts.at[mx.array(list(said))].add(1.0)
        self._presence, self._frequency = sampling.presence_penalty, sampling.frequency_penalty
        self._repetition = repetition
        self._seen = None
        if repetition != 1.0:
            known = sorted({token for token in prompt if token < vocab})
            self._seen = mx.zeros((vocab,), mx.bool_)
            if known:
                self._seen[mx.array(known)] = True

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        # The first call comes with the prompt; each one after it with one token more.
        if self._begun:
            self._counts = self._counts.at[tokens[-1:]].add(1.0)
        self._begun = True
        wide = logits.astype(mx.float32)
        said = self._counts > 0
        if self._seen is not None:
            marked = mx.logical_or(self._seen, said)
            weaker = mx.where(wide < 0, wide * self._repetition, wide / self._repetition)
            wide = mx.where(marked, weaker, wide)
        wide = wide - self._frequency * self._counts - self._presence * said.astype(mx.float32)
        return wide.astype(logits.dtype)


def _bias(pairs: tuple[tuple[int, float], ...]) -> Processor:
    ids = mx.array([token for token, _ in pairs])
    values = mx.array([bias for _, bias in pairs])

    def add(_: mx.array, logits: mx.array) -> mx.array:
        return logits.at[:, ids].add(values.astype(logits.dtype))

    return add


def _not_yet(ends: Sequence[int], tokens: int) -> Processor:
    """Keeps an answer from ending before it has so many tokens; not for ever, if nothing else is left."""
    ids, left = mx.array(list(ends)), [tokens]

    def bar(_: mx.array, logits: mx.array) -> mx.array:
        if left[0] <= 0:
            return logits
        left[0] -= 1
        return logits.at[:, ids].add(mx.array(_BARRED, logits.dtype))

    return bar


def _guarded(processor: Processor) -> Processor:
    def run(tokens: mx.array, logits: mx.array) -> mx.array:
        try:
            return processor(tokens, logits)
        except Exception:
            log.exception("a logits processor failed; its row goes on without it")
            return logits

    return run


def _pick(asked: float | None, defaults: dict[str, Any], name: str, otherwise: float) -> float:
    if asked is not None:
        return asked
    found = defaults.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found) or found < 0:
        return otherwise
    return found
