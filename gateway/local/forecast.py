"""PURE: what would become of a call to a local model, said before it is made.

Everything is an estimate but `failure`: that is what the pool or the engine would refuse the call
with if it came now. What is not known of a model is guessed from its size on disk, by a rate that
is typical of the machines this runs on; the first answers replace the guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.failover.outcome import Failure, Outcome
from gateway.local.mailbox import ModelFacts
from gateway.local.prompt import (
    CONTEXT_CODE,
    far_too_long,
    field_of,
    given_tokens,
    longest,
    no_chat,
    no_vectors,
    too_long,
)
from gateway.local.request import Chat, Embed, Generate

IMPORT_S = 1.5  # of MLX, where no engine runs
BYTES_PER_TOKEN = 4.0  # of a body, until a model's own are known
_LOAD_BASE_S = 0.5  # a tokenizer, whatever the size
_LOAD_RATE = 1.5e9  # bytes per second from a disk
_PREFILL_RATE = 2.5e12  # tokens per second times bytes of weights: 300 for a model of 8 GB
_DECODE_RATE = 2e11  # the same of an answer, for which all weights are read once a token: 25
_OVERDUE = 4  # what has taken longer than expected takes this part of it again
# A template adds text of its own and may lay out tools with blanks. A normaliser that lengthens text is
# not reckoned with: then a refusal is not foreseen, and the engine says it.
_TEMPLATE_BYTES = 4096  # of a template that was not read yet
_ADDED_BYTES = 256  # a date, the marks at both ends
_LAID_OUT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One call, foreseen. With `failure` the rest is as far as it got."""

    failure: Failure | None = None
    retry_after_s: float | None = None  # where waiting helps: a place is free, a load is over
    resident: bool = False
    load_s: float = 0.0  # until the model is in memory
    evicts: tuple[str, ...] = ()  # the models that go for it
    queue_s: float = 0.0  # until a place is free, or memory that is in use now
    queued: int = 0  # places that are waited for
    places: int = 0  # of the batch
    prompt_tokens: int = 0  # of all prompts; at least so many where they are too long
    exact: bool = False  # they were counted
    cached_tokens: int = 0  # of them, known to be computed already
    prefill_s: float = 0.0
    ttft_s: float = 0.0  # from the call to the first token
    context: int | None = None  # tokens; None: not known
    max_tokens: int | None = None  # as asked
    decode_tps: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a model is expected to be: as measured, else guessed from its size."""

    prefill_tps: float
    decode_tps: float
    bytes_per_token: float = BYTES_PER_TOKEN

    @classmethod
    def of(
        cls,
        size_bytes: int,
        prefill_tps: float | None,
        decode_tps: float | None,
        bytes_per_token: float | None,
    ) -> Pace:
        size = max(1, size_bytes)
        return cls(
            prefill_tps=prefill_tps or _between(20.0, _PREFILL_RATE / size, 5000.0),
            decode_tps=decode_tps or _between(1.0, _DECODE_RATE / size, 200.0),
            bytes_per_token=bytes_per_token or BYTES_PER_TOKEN,
        )


def with_tokens(forecast: Forecast, pace: Pace, tokens: int, *, exact: bool) -> Forecast:
    """The same for a prompt of so many tokens."""
    prefill_s = tokens / pace.prefill_tps
    return replace(
        forecast,
        prompt_tokens=tokens,
        exact=exact,
        prefill_s=prefill_s,
        ttft_s=forecast.load_s + forecast.queue_s + prefill_s + 1 / pace.decode_tps,
    )


def refused(forecast: Forecast, failure: Failure | None) -> Forecast:
    """The same with what is wrong with the prompt, if anything is; no waiting helps against that."""
    if failure is None:
        return forecast
    least = forecast.context if failure.code == CONTEXT_CODE else None
    tokens = max(forecast.prompt_tokens, least or 0)
    return replace(forecast, failure=failure, retry_after_s=None, prompt_tokens=tokens)


def lacking(work: Generate | Embed, facts: ModelFacts, name: str) -> Failure | None:
    """The refusal of what a model in memory can't do at all."""
    missing = None
    if isinstance(work, Embed):
        missing = None if facts.embeddings else no_vectors(name)
    elif not facts.chat and isinstance(work.prompts[0], Chat):
        missing = no_chat()
    if missing is None:
        return None
    return Failure(
        outcome=Outcome.UNSUPPORTED,
        message=str(missing),
        status=400,
        code=missing.code,
        param=missing.param,
    )


def matters(forecast: Forecast, pace: Pace, limit_s: float | None) -> bool:
    """May the first token come in time or not, depending on how wrong the estimate of the prompt is?
    It is taken to be right within a factor of two.
    """
    if limit_s is None or forecast.exact:
        return False
    fixed = forecast.ttft_s - forecast.prefill_s
    return fixed + forecast.prefill_s / 2 <= limit_s < fixed + forecast.prefill_s * 2


def load_s(size_bytes: int, measured_s: float | None, rate: float | None, *, running: bool) -> float:
    """How long a model takes from disk to memory; `running` says whether there is an engine for it."""
    found = measured_s if measured_s is not None else _LOAD_BASE_S + size_bytes / (rate or _LOAD_RATE)
    return found if running else found + IMPORT_S


def remaining_s(expected_s: float, elapsed_s: float, progress: float) -> float:
    """The rest of a load. The further it is, the more its own speed counts."""
    expected = max(expected_s - elapsed_s, expected_s / _OVERDUE)
    if progress <= 0:
        return expected
    own = elapsed_s * (1 - progress) / progress
    return progress * own + (1 - progress) * expected


def most_tokens(work: Generate | Embed, body_bytes: int, template_bytes: int | None = None) -> int:
    """More tokens than any prompt of this has: a token is a byte of text at least. A template writes for each
    message no more than its JSON has, and besides no more than its own source.
    """
    sizes = given_tokens(work)
    if sizes is not None:
        return max(sizes)
    if isinstance(work, Embed) or not isinstance(work.prompts[0], Chat):
        return body_bytes + _ADDED_BYTES
    own = _TEMPLATE_BYTES if template_bytes is None else template_bytes
    return body_bytes * (_LAID_OUT if work.tooling.offered else 1) + own + _ADDED_BYTES


def certainly_too_long(work: Generate | Embed, context: int) -> Failure | None:
    """The refusal of prompts that can be seen to be too long without a tokenizer."""
    if not context:
        return None
    most = longest(work, context)
    for size in given_tokens(work) or ():
        if size > most:
            return too_long(size, context, field_of(work))
    if isinstance(work, Generate):
        for prompt in work.prompts:
            if isinstance(prompt, Chat) and far_too_long(prompt, context):
                return too_long(f"more than {context}", context, field_of(work))
    return None


def soon(*waits_s: float) -> float | None:
    """The shortest wait there is; None where nothing has to be waited for."""
    return min((wait for wait in waits_s if wait > 0), default=None)


def plain(forecast: Forecast, pace: Pace, facts: Mapping[str, Any]) -> dict[str, Any]:
    """For display, without a call: what holds for any."""
    return {
        "resident": forecast.resident,
        "load_s": round(forecast.load_s, 3),
        "evicts": list(forecast.evicts),
        "queue": forecast.queued,
        "places": forecast.places,
        "wait_s": round(forecast.queue_s, 3),
        "prefill_tps": round(pace.prefill_tps, 1),
        "decode_tps": round(pace.decode_tps, 1),
        "context": forecast.context,
        "failure": forecast.failure.message if forecast.failure is not None else None,
        "retry_after_s": forecast.retry_after_s,
        **facts,
    }


def _between(least: float, value: float, most: float) -> float:
    return min(max(least, value), most)
