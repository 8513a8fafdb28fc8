"""One answer at a time, for what mlx-lm can't do in a batch: a draft model, quantised keys and values.

It keeps to the same steps as a batch: a chunk of a prompt or a token, then others have their turn.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from gateway.local.engine import sampling
from gateway.local.engine.foreign import (
    generate_step,
    make_prompt_cache,
    quantize_kv_cache,
    speculative_generate_step,
)
from gateway.local.engine.models import Resident
from gateway.local.engine.prefix import PrefixCache
from gateway.local.engine.room import Room
from gateway.local.engine.row import Row, engine_failure
from gateway.local.mailbox import Began, Counters, EngineSettings, Event
from gateway.local.prefill import KEPT_TOKENS

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Current:
    """The row that has its turn."""

    row: Row
    cache: list[Any]
    drafted: list[Any]  # the draft model's cache
    fed: int
    said: list[int] = field(default_factory=list)
    tokens: Iterator[Any] | None = None


@dataclass(slots=True)
class Single:
    """The rows of one model, one after the other."""

    resident: Resident
    settings: EngineSettings
    counters: Counters
    prefixes: PrefixCache
    room: Room
    waiting: deque[Row] = field(default_factory=deque)
    _now: _Current | None = None

    @property
    def busy(self) -> bool:
        return self._now is not None or bool(self.waiting)

    def add(self, rows: Iterable[Row]) -> None:
        """Take the rows of a request."""
        self.waiting.extend(rows)

    def cancel(self, number: int) -> bool:
        """Drop a request wherever it is; its memory is free at once."""
        waiting = [row for row in self.waiting if row.task.id == number]
        for row in waiting:
            self.waiting.remove(row)
        running = self._now is not None and self._now.row.task.id == number
        if running:
            self.close()
        return bool(waiting) or running

    def step(self, out: list[Event]) -> None:
        """One chunk of the prompt, or one token."""
        try:
            if self._now is None:
                self._begin(out)
            elif self._now.tokens is None:
                self._feed(self._now)
            else:
                self._advance(self._now, out)
        except Exception:
            log.exception("an answer of %s failed", self.resident.folder.name)
            self.poisoned(out)

    def poisoned(self, out: list[Event]) -> None:
        """What it was doing is lost; it starts over if nothing of it has left."""
        self.counters.rebuilds += 1
        row = self._now.row if self._now is not None else None
        self.close()
        self.room.tighten()
        if row is None:
            return
        if row.emitted or row.restarted:
            row.task.refuse(engine_failure("the local engine failed in this answer"), out)
            self._drop_refused()
            return
        row.start_over()
        self.waiting.appendleft(row)

    def close(self) -> None:
        """Let go of the row that has its turn, with its cache."""
        if self._now is None:
            return
        now, self._now = self._now, None
        if now.tokens is not None:
            now.tokens.close()  # type: ignore[attr-defined] # a generator
        self.room.give(now.row)
        del now
        mx.clear_cache()

    def _begin(self, out: list[Event]) -> None:
        row = self.waiting.popleft()
        resident = self.resident
        cache, covered = None, 0
        if resident.draft is None:
            cache, covered = self.prefixes.fetch(resident.key, row.tokens)
        drafted = make_prompt_cache(resident.draft) if self._drafts(row) else []
        self._now = _Current(row, cache or self._empty(), drafted, covered)
        self.room.take(row, resident, idle=True)
        row.covered = covered
        row.begin(resident)
        row.task.cached_tokens += row.cached
        self.counters.cached_tokens += covered
        self.counters.prompt_tokens += len(row.tokens)
        if not row.task.began:
            row.task.began = True
            out.append(Began(row.task.id))
        if row.repeat(out):
            self.close()

    def _drafts(self, row: Row) -> bool:
        """A draft runs ahead and is taken back: what keeps count of the tokens can't follow it."""
        return self.resident.draft is not None and not row.processors(self.resident)

    def _feed(self, now: _Current) -> None:
        row, resident = now.row, self.resident
        left = len(row.tokens) - 1 - now.fed
        if left <= 0:
            now.tokens = self._generate(now)
            return
        self.counters.steps += 1
        chunk = mx.array([row.tokens[now.fed : now.fed + min(left, self.settings.prefill_step)]])
        resident.model(chunk, cache=now.cache)
        if now.drafted:
            resident.draft(chunk, cache=now.drafted)
        mx.eval([c.state for c in (*now.cache, *now.drafted)])
        mx.clear_cache()
        now.fed += chunk.shape[1]
        row.computed = now.fed == len(row.tokens) - 1
        if row.computed:
            self._keep(now, row.tokens[:-1])

    def _empty(self) -> list[Any]:
        """Quantised from the first token on: what is computed must not depend on where a prompt was cut."""
        cache: list[Any] = make_prompt_cache(self.resident.model)
        bits = self.resident.folder.kv_bits
        if bits:
            quantize_kv_cache(cache, 0, self.resident.kv_group, bits)
        return cache

    def _keep(self, now: _Current, tokens: list[int]) -> None:
        """The next prompt may begin like this one; the cache is read again, so a copy is kept."""
        row, fresh = now.row, len(tokens) - now.row.covered
        if self.resident.draft is not None or row.task.refused:
            return
        if row.followed or (fresh >= KEPT_TOKENS and self.prefixes.max_bytes):
            self.prefixes.keep(self.resident.key, tokens, copy.deepcopy(now.cache))

    def _generate(self, now: _Current) -> Iterator[Any]:
        row, resident = now.row, self.resident
        asked = row.task.work.sampling
        params = sampling.choice(asked, resident.defaults, resident.vocab)
        seed = None if asked.seed is None else asked.seed + row.choice
        how: dict[str, Any] = {
            "stream": mx.default_stream(mx.default_device()),
            "max_tokens": row.left,
            "sampler": sampling.sampler(params, seed, behind=len(row.resumed)),
        }
        last = mx.array(row.tokens[-1:])
        if now.drafted:
            both = [*now.cache, *now.drafted]
            found = speculative_generate_step(last, resident.model, resident.draft, prompt_cache=both, **how)
        else:
            how["logits_processors"] = row.processors(resident)
            found = generate_step(last, resident.model, prompt_cache=now.cache, **how)
        tokens: Iterator[Any] = found
        return tokens

    def _advance(self, now: _Current, out: list[Event]) -> None:
        row = now.row
        assert now.tokens is not None
        self.counters.steps += 1
        self.counters.rows += 1
        self.counters.completion_tokens += 1
        token, logprobs = next(now.tokens)[:2]
        ended = "length" if row.produced + 1 >= row.limit else None
        if token in self.resident.tokenizer.eos_token_ids:
            ended = "stop"
        now.said.append(int(token))
        if row.take(int(token), logprobs, ended, out):
            # When a token comes, mlx-lm has already let the model read it.
            self._keep(now, [*row.tokens, *now.said])
            self.close()
            self._drop_refused()

    def _drop_refused(self) -> None:
        for row in [row for row in self.waiting if row.task.refused]:
            self.waiting.remove(row)
