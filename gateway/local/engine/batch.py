"""One model's continuous batch: rows join and leave between steps.

An exception out of the generator's `next()` poisons it: rows have been stepped whose tokens are
lost. It is never used again. Rows of which nothing has left yet start over once, others fail.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from gateway.local.engine import sampling
from gateway.local.engine.foreign import BatchGenerator
from gateway.local.engine.models import Resident
from gateway.local.engine.prefix import PrefixCache
from gateway.local.engine.room import Room
from gateway.local.engine.row import Row, engine_failure
from gateway.local.mailbox import Began, Counters, EngineSettings, Event
from gateway.local.prefill import KEPT_TOKENS, LEAST_CHUNK, MOST_PROMPTS, choose, chunk

log = logging.getLogger(__name__)

_NEWEST = 0.3  # weight of the newest observation in a running mean


@dataclass(slots=True)
class Batch:
    """The rows of one model and the generator that steps them."""

    resident: Resident
    settings: EngineSettings
    counters: Counters
    prefixes: PrefixCache
    room: Room
    waiting: deque[Row] = field(default_factory=deque)
    rows: dict[int, Row] = field(default_factory=dict)  # by the generator's uid
    _left: dict[int, int] = field(default_factory=dict)  # of those whose prompt is computed: tokens to go
    _generator: Any = None
    _prefill_tps: float | None = None  # learnt from the steps so far

    @property
    def busy(self) -> bool:
        return bool(self.rows or self.waiting)

    def add(self, rows: Iterable[Row]) -> None:
        """Take the rows of a request; they begin with the next step that has a place."""
        self.waiting.extend(rows)

    def cancel(self, number: int) -> bool:
        """Drop a request wherever it is; its memory is free with the next step."""
        waiting = [row for row in self.waiting if row.task.id == number]
        for row in waiting:
            self.waiting.remove(row)
        running = [uid for uid, row in self.rows.items() if row.task.id == number]
        self._drop(running)
        return bool(waiting or running)

    def step(self, out: list[Event]) -> None:
        """Admit, advance every row by one token or one chunk of its prompt, and say what came of it."""
        try:
            self._admit(out)
            self._step(out)
        except Exception:
            log.exception("the batch of %s failed; its generator is replaced", self.resident.folder.name)
            self.poisoned(out)

    def poisoned(self, out: list[Event]) -> None:
        """Throw the generator away; start over what can start over, fail the rest."""
        self.counters.rebuilds += 1
        lost = list(self.rows.values())
        self.close()
        self.room.tighten()
        for row in lost:
            if row.emitted or row.restarted:
                row.task.refuse(engine_failure("the local engine failed in this answer"), out)
        for row in reversed(lost):
            if not row.task.refused:
                row.start_over()
                self.waiting.appendleft(row)
        self._drop_refused()

    def close(self) -> None:
        """Let the generator go, with the caches of all its rows."""
        for row in self.rows.values():
            self.room.give(row)
        self.rows.clear()
        self._left.clear()
        if self._generator is not None:
            self.resident.guides.watch(None)
            self._generator.close()
            self._generator = None
            mx.clear_cache()

    # --- a step -------------------------------------------------------------------------------

    def _step(self, out: list[Event]) -> None:
        if not self.rows:
            return
        self.counters.steps += 1
        generator = self._generator
        if self._left:
            answering = len(self._left) < len(self.rows)
            generator.prefill_step_size = chunk(
                len(self._left),
                self.settings.prefill_step,
                speed_tps=self._prefill_tps if answering else None,
            )
        began, before = time.monotonic(), sum(self._left.values())
        prompts, responses = generator.next()
        self.counters.rows += len(responses)
        for response in prompts:
            self._computed(response)
        self._learn(before - sum(self._left.values()), time.monotonic() - began)
        gone: list[int] = []
        for response in responses:
            row = self.rows.get(response.uid)
            if row is None:
                continue
            ended = response.finish_reason
            if row.take(response.token, response.logprobs, ended, out):
                self._keep_answer(row, response)
                gone.append(response.uid)
        self.counters.completion_tokens += len(responses)
        if gone:
            self._drop(gone)
            self._drop_refused()

    def _learn(self, tokens: int, took_s: float) -> None:
        """How fast prompts are computed here; a few tokens say more of the step than of the speed."""
        if tokens >= LEAST_CHUNK and took_s > 0:
            rate = tokens / took_s
            known = self._prefill_tps
            self._prefill_tps = rate if known is None else known + _NEWEST * (rate - known)

    def _computed(self, response: Any) -> None:
        """A chunk of a prompt is computed."""
        row = self.rows.get(response.uid)
        if row is None:
            return
        done, size = response.progress
        self._left[response.uid] = size - done
        if response.end_of_prompt:
            row.computed = True
            self._left.pop(response.uid, None)
        elif response.end_of_segment:
            self._keep_prompt(row, row.covered + done)
            if row.covered + done == len(row.tokens) - 1:
                row.computed = True

    def _keep_prompt(self, row: Row, size: int) -> None:
        """What is computed of a prompt may serve others, those that come while it is still answered."""
        fresh = size - row.covered
        if row.uid is None or not (row.followed or (fresh >= KEPT_TOKENS and self.prefixes.max_bytes)):
            return
        cache, tokens = self._generator.extract_cache([row.uid])[row.uid]
        self.prefixes.keep(self.resident.key, list(tokens), cache)

    def _keep_answer(self, row: Row, response: Any) -> None:
        """Prompt and answer are most of the next prompt of a conversation."""
        if len(row.prompt) + row.produced < KEPT_TOKENS or not self.prefixes.max_bytes or row.task.refused:
            return
        if response.prompt_cache is not None:
            cache, tokens = response.prompt_cache, response.all_tokens
        else:
            found = self._generator.extract_cache([response.uid])
            if response.uid not in found:
                return
            cache, tokens = found[response.uid]
        self.prefixes.keep(self.resident.key, list(tokens), cache)

    def _drop(self, uids: list[int]) -> None:
        for uid in uids:
            row = self.rows.pop(uid, None)
            self._left.pop(uid, None)
            if row is not None:
                self.room.give(row)
        if uids and self._generator is not None:
            self._generator.remove(uids)  # those that ended by themselves are gone already
        if uids and not self.rows:
            mx.clear_cache()

    def _drop_refused(self) -> None:
        """A request that one of its answers failed has no use for the others."""
        self._drop([uid for uid, row in self.rows.items() if row.task.refused])
        for row in [row for row in self.waiting if row.task.refused]:
            self.waiting.remove(row)

    # --- admission ----------------------------------------------------------------------------

    def _admit(self, out: list[Event]) -> None:
        if not self.waiting:
            return
        if self._generator is None:
            self._generator = BatchGenerator(
                self.resident.model,
                stop_tokens=[(token,) for token in self.resident.tokenizer.eos_token_ids],
                completion_batch_size=self.settings.batch_size,
                prefill_batch_size=min(self._most_prompts, self.settings.batch_size),
                prefill_step_size=self.settings.prefill_step,
                stream=mx.default_stream(mx.default_device()),
            )
            self.resident.guides.watch(self._generator)
        ready = [row for row in self.waiting if row.leader is None or row.leader.computed]
        chosen = choose(
            [len(row.tokens) for row in ready],
            list(self._left.values()),
            places=self.settings.batch_size - len(self.rows),
            budget=self.settings.prefill_step,
            most=self._most_prompts,
        )
        for row in [ready[index] for index in chosen]:
            if not self.room.take(row, self.resident, idle=not self.rows):
                break  # first come, first served: who is behind waits too
            self.waiting.remove(row)
            self._begin(row, out)

    @property
    def _most_prompts(self) -> int:
        return MOST_PROMPTS if self.resident.padded else 1

    def _begin(self, row: Row, out: list[Event]) -> None:
        try:
            self._insert(row)
        except Exception:  # the generator checks before it changes anything: only this row is wrong
            log.exception("a request can't join the batch of %s", self.resident.folder.name)
            self.room.give(row)
            row.task.refuse(engine_failure("the local engine can't take this request"), out)
            self._drop_refused()
            return
        if not row.task.began:
            row.task.began = True
            out.append(Began(row.task.id))
        if row.repeat(out):
            assert row.uid is not None
            self._drop([row.uid])

    def _insert(self, row: Row) -> None:
        resident, asked = self.resident, row.task.work.sampling
        cache, covered = self.prefixes.fetch(resident.key, row.tokens)
        rest = row.tokens[covered:]
        cuts = [cut - covered for cut in row.borders if covered < cut < len(row.tokens)]
        params = sampling.choice(asked, resident.defaults, resident.vocab)
        seed = None if asked.seed is None else asked.seed + row.choice
        # Lists are adopted and grown by the generator: it gets copies.
        (row.uid,) = self._generator.insert_segments(
            [[rest[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]],
            max_tokens=[row.left],
            caches=[cache],
            all_tokens=[row.tokens[:covered]],
            samplers=[sampling.sampler(params, seed, behind=len(row.resumed))],
            logits_processors=[row.processors(resident)],
        )
        row.covered = covered
        row.begin(resident)
        self.rows[row.uid] = row
        self._left[row.uid] = len(rest)
        row.task.cached_tokens += row.cached
        self.counters.cached_tokens += covered
        self.counters.prompt_tokens += len(row.tokens)
