"""One model's continuous batch: rows join and leave between steps.

An exception out of the generator's `next()` poisons it: rows have been stepped whose tokens are
lost. It is never used again. Rows of which nothing has left yet start over once, others fail.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import mlx.core as mx

from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine import sampling
from gateway.local.engine.calls import parse_calls
from gateway.local.engine.foreign import BatchGenerator
from gateway.local.engine.models import Resident
from gateway.local.engine.prompts import Prepared
from gateway.local.engine.text import TextFlow
from gateway.local.mailbox import (
    Began,
    Called,
    Counters,
    Delta,
    EngineSettings,
    Event,
    Finished,
    Refused,
    ToolCall,
)
from gateway.local.pieces import Piece
from gateway.local.request import ChatRequest

log = logging.getLogger(__name__)

_PREFILL_ROWS = 4  # prompts that share a prefill step: more wastes padding, fewer makes short ones wait
_NAN_CHECK_EVERY = 64  # tokens; reading a probability costs a synchronisation

Reason = Literal["stop", "length", "tool_calls"]


@dataclass(slots=True, eq=False)
class Row:
    """One request on its way through a batch."""

    id: int
    request: ChatRequest
    tokens: list[int]
    thinking: bool
    limit: int
    flow: TextFlow | None = None
    uid: int | None = None
    produced: int = 0
    emitted: bool = False  # has anything left that can't be taken back
    restarted: bool = False
    calls: int = 0


@dataclass(slots=True)
class Batch:
    """The rows of one model and the generator that steps them."""

    resident: Resident
    settings: EngineSettings
    counters: Counters
    waiting: deque[Row] = field(default_factory=deque)
    rows: dict[int, Row] = field(default_factory=dict)  # by the generator's uid
    _generator: Any = None

    @property
    def busy(self) -> bool:
        return bool(self.rows or self.waiting)

    def add(self, prepared: Prepared, request: ChatRequest) -> None:
        """Take a prepared request; it begins with the next step that has a place."""
        limit = request.max_tokens or self.settings.default_max_tokens
        context = self.resident.folder.context
        if context:
            limit = min(limit, context - len(prepared.tokens))
        self.waiting.append(Row(prepared.id, request, prepared.tokens, prepared.thinking, limit))

    def cancel(self, number: int) -> bool:
        """Drop a row wherever it is; its memory is free with the next step."""
        for row in self.waiting:
            if row.id == number:
                self.waiting.remove(row)
                return True
        for uid, row in self.rows.items():
            if row.id == number:
                del self.rows[uid]
                self._generator.remove([uid])
                if not self.rows:
                    mx.clear_cache()
                return True
        return False

    def step(self, out: list[Event]) -> None:
        """Admit, advance every row by one token or one chunk of its prompt, and say what came of it."""
        try:
            self._admit(out)
            self._step(out)
        except Exception:
            log.exception("the batch of %s failed; its generator is replaced", self.resident.folder.name)
            self.poisoned(out)

    def _step(self, out: list[Event]) -> None:
        if not self.rows:
            return
        self.counters.steps += 1
        _, responses = self._generator.next()
        self.counters.rows += len(responses)
        gone: list[int] = []
        for response in responses:
            row = self.rows.get(response.uid)
            if row is not None and self._over(row, response, out) and response.finish_reason is None:
                gone.append(response.uid)
        if gone:
            self._generator.remove(gone)
        if not self.rows:
            mx.clear_cache()

    def poisoned(self, out: list[Event]) -> None:
        """Throw the generator away; start over what can start over, fail the rest."""
        self.counters.rebuilds += 1
        lost = list(self.rows.values())
        self.close()
        for row in reversed(lost):
            if row.emitted or row.restarted:
                out.append(Refused(row.id, _engine_failure("the local engine failed in this answer")))
                continue
            row.restarted, row.flow, row.uid, row.produced, row.calls = True, None, None, 0, 0
            self.waiting.appendleft(row)

    def close(self) -> None:
        """Let the generator go, with the caches of all its rows."""
        self.rows.clear()
        if self._generator is not None:
            self._generator.close()
            self._generator = None
            mx.clear_cache()

    def _admit(self, out: list[Event]) -> None:
        if self._generator is None:
            self._generator = BatchGenerator(
                self.resident.model,
                stop_tokens=[(token,) for token in self.resident.tokenizer.eos_token_ids],
                completion_batch_size=self.settings.batch_size,
                prefill_batch_size=min(_PREFILL_ROWS, self.settings.batch_size),
                prefill_step_size=self.settings.prefill_step,
                stream=mx.default_stream(mx.default_device()),
            )
        while self.waiting and len(self.rows) < self.settings.batch_size:
            row = self.waiting.popleft()
            try:
                self._insert(row)
            except Exception:  # the generator checks before it changes anything: only this row is wrong
                log.exception("a request can't join the batch of %s", self.resident.folder.name)
                out.append(Refused(row.id, _engine_failure("the local engine can't take this request")))
                continue
            out.append(Began(row.id))

    def _insert(self, row: Row) -> None:
        resident, asked = self.resident, row.request.sampling
        params = sampling.choice(asked, resident.defaults, resident.vocab)
        # Lists are adopted and grown by the generator: it gets a copy.
        (row.uid,) = self._generator.insert(
            [list(row.tokens)],
            max_tokens=[row.limit],
            samplers=[sampling.sampler(params, asked.seed)],
            logits_processors=[sampling.processors(asked, row.tokens, resident.vocab, resident.defaults)],
        )
        tokenizer = resident.tokenizer
        row.flow = TextFlow(
            tokenizer.detokenizer,
            resident.machine if row.request.tools else resident.plain_machine,
            initial=tokenizer.response_initial_state or ("reasoning" if row.thinking else "normal"),
            stop=row.request.stop,
            tidy=bool(row.request.tools) or tokenizer.has_thinking,
        )
        if row.request.prefill:
            row.flow.prime(row.tokens[-1:])
        self.rows[row.uid] = row

    def _over(self, row: Row, response: Any, out: list[Event]) -> bool:
        """Bring one row one token further; True when it is over. What goes wrong here is this row's alone."""
        try:
            over = self._advance(row, response, out)
        except Exception:
            log.exception("the text of a row can't be made; the row ends")
            out.append(Refused(row.id, _engine_failure("the local engine failed in this answer")))
            over = True
        if over:
            self.counters.prompt_tokens += len(row.tokens)
            self.rows.pop(response.uid, None)
        return over

    def _advance(self, row: Row, response: Any, out: list[Event]) -> bool:
        assert row.flow is not None
        row.produced += 1
        self.counters.completion_tokens += 1
        if row.produced % _NAN_CHECK_EVERY == 1 and _broken(response):
            out.append(Refused(row.id, _engine_failure("the model computes no valid numbers")))
            return True
        ended = response.finish_reason
        pieces = row.flow.feed(response.token) if ended != "stop" else []
        reason: Reason | None = None
        if row.flow.stopped:
            reason = "stop"
        elif ended is not None:
            pieces += row.flow.end()
            reason = "stop" if row.flow.stopped else ended
        for piece in pieces:
            self._emit(row, piece, out)
            if row.calls and not row.request.parallel_tool_calls:
                reason = "stop"
                break
        if reason is None:
            return False
        if row.calls and reason == "stop":
            reason = "tool_calls"
        out.append(Finished(row.id, reason, len(row.tokens), row.produced))
        return True

    def _emit(self, row: Row, piece: Piece, out: list[Event]) -> None:
        row.emitted = True
        if piece.kind in ("content", "reasoning"):
            out.append(Delta(row.id, piece.text, piece.kind == "reasoning"))
            return
        tokenizer = self.resident.tokenizer
        calls: list[ToolCall] = parse_calls(piece.text, tokenizer, row.request.tools)
        if not calls:
            end = tokenizer.tool_call_end if piece.kind == "tool" else ""
            out.append(Delta(row.id, f"{tokenizer.tool_call_start}{piece.text}{end}"))
        if not row.request.parallel_tool_calls:
            calls = calls[:1]
        for call in calls:
            out.append(Called(row.id, row.calls, call))
            row.calls += 1


def _broken(response: Any) -> bool:
    return bool(mx.isnan(response.logprobs[response.token]).item())


def _engine_failure(message: str) -> Failure:
    return Failure(outcome=Outcome.LOCAL_FAULT, message=message, status=500, code="engine_failed")
