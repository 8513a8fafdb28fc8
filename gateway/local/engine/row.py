"""One answer on its way through a batch: from tokens to the events that its client gets."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx

from gateway.failover.outcome import Failure, Outcome
from gateway.local.calls import STREAMED_FAMILIES, CallReader
from gateway.local.engine import sampling
from gateway.local.engine.calls import new_call_id, parse_calls
from gateway.local.engine.guide import Guide
from gateway.local.engine.models import Resident
from gateway.local.engine.probs import Probs
from gateway.local.engine.text import TextFlow
from gateway.local.mailbox import (
    CallBegan,
    CallDelta,
    Delta,
    Ended,
    Event,
    Finished,
    Refused,
    TokenProb,
)
from gateway.local.pieces import Piece
from gateway.local.request import Chat, Generate

log = logging.getLogger(__name__)

_NAN_CHECK_EVERY = 64  # tokens; reading a probability costs a synchronisation

Reason = Literal["stop", "length", "tool_calls"]


@dataclass(slots=True, eq=False)
class Task:
    """One request at the engine: all of its answers, and what they cost together."""

    id: int
    work: Generate
    prompt_tokens: int
    open: int  # answers that are not complete yet
    began: bool = False
    refused: bool = False
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def refuse(self, failure: Failure, out: list[Event]) -> None:
        """The whole request is over without success; said once."""
        if not self.refused:
            self.refused = True
            out.append(Refused(self.id, failure))

    def answered(self, out: list[Event]) -> None:
        """One more answer is complete."""
        self.open -= 1
        if self.open == 0 and not self.refused:
            out.append(
                Finished(
                    id=self.id,
                    prompt_tokens=self.prompt_tokens,
                    completion_tokens=self.completion_tokens,
                    cached_tokens=self.cached_tokens,
                    reasoning_tokens=self.reasoning_tokens,
                    prefill_s=self.prefill_s,
                    decode_s=self.decode_s,
                )
            )


@dataclass(slots=True, eq=False)
class Row:
    """One answer. `leader` is the row that computes the same prompt before this one.

    `tokens` is all that is computed before its first new token: the prompt, and behind it what was
    `resumed`, an earlier attempt's answer as far as it came. `limit` counts that in.
    """

    task: Task
    choice: int
    tokens: list[int]
    thinking: bool
    limit: int
    resumed: tuple[int, ...] = ()
    guide: Guide | None = None
    borders: tuple[int, ...] = ()  # lengths of its prompt that others may share
    leader: Row | None = None
    followed: bool = False
    uid: int | None = None
    covered: int = 0  # tokens of the prompt that came from the prompt cache
    produced: int = 0
    emitted: bool = False  # has anything left that can't be taken back
    restarted: bool = False
    computed: bool = False  # its prompt is in the prompt cache, or as good as there
    began_at: float = 0.0
    first_at: float = 0.0
    calls: int = 0
    resident: Resident | None = field(default=None, repr=False)
    flow: TextFlow | None = field(default=None, repr=False)
    reader: CallReader | None = None
    probs: Probs | None = None
    untold: list[int] = field(default_factory=list)  # tokens since the last piece, if they are told

    @property
    def prompt(self) -> list[int]:
        """The tokens that it was asked with."""
        return self.tokens[: len(self.tokens) - len(self.resumed)]

    @property
    def left(self) -> int:
        """How many new tokens it may have; never none, for that can't be computed."""
        return max(1, self.limit - len(self.resumed))

    @property
    def cached(self) -> int:
        """How many tokens of its prompt came from the prompt cache."""
        return min(self.covered, len(self.tokens) - len(self.resumed))

    def begin(self, resident: Resident) -> None:
        """Make ready for the first token."""
        work, tokenizer = self.task.work, resident.tokenizer
        chat = isinstance(work.prompts[0], Chat)
        tools = bool(work.tooling.offered)
        self.resident = resident
        self.flow = TextFlow(
            tokenizer.detokenizer,
            resident.machine(chat=chat, tools=tools),
            initial=(chat and tokenizer.response_initial_state)
            or ("reasoning" if self.thinking else "normal"),
            stop=work.stop,
            stop_after=work.sampling.min_tokens,
            tidy=tools or (chat and tokenizer.has_thinking),
        )
        prompt = work.prompts[self.choice // work.n]
        if not isinstance(prompt, Chat) or prompt.prefill:
            self.flow.prime(self.prompt[-1:])
        if work.top_logprobs is not None:
            self.probs = Probs(resident.vocabulary, work.top_logprobs)
        self.began_at = time.monotonic()

    def processors(self, resident: Resident) -> list[sampling.Processor]:
        """What changes its logits before a token is chosen; what keeps it to a form comes last."""
        found = sampling.processors(
            self.task.work.sampling,
            self.prompt,
            resident.vocab,
            resident.defaults,
            ends=sorted(resident.tokenizer.eos_token_ids),
            said=self.resumed,
        )
        return found if self.guide is None else [*found, self.guide]

    def start_over(self) -> None:
        """Its generator is lost; nothing of it has been sent."""
        self.restarted = True
        self.uid = self.flow = self.reader = self.probs = None
        self.produced = self.calls = self.covered = 0
        self.first_at = 0.0
        self.untold.clear()
        self.computed = False
        if self.guide is not None:
            self.guide = self.guide.fork()

    def repeat(self, out: list[Event]) -> bool:
        """Say once more what was resumed; True when it is over with that."""
        if not self.resumed:
            return False
        try:
            if self.guide is not None:
                self.guide.follow(self.resumed)
            return any(self._read(token, self._ended(token), out) for token in self.resumed)
        except Exception:
            log.exception("an answer can't be gone on with; the row ends")
            self.task.refuse(engine_failure("the local engine failed in this answer"), out)
            return True

    def _ended(self, token: int) -> str | None:
        assert self.resident is not None
        if token in self.resident.tokenizer.eos_token_ids:
            return "stop"
        return "length" if self.produced + 1 >= self.limit else None

    def take(self, token: int, logprobs: mx.array, ended: str | None, out: list[Event]) -> bool:
        """Bring it one token further; True when it is over. What goes wrong here is this row's alone."""
        try:
            return self._take(token, logprobs, ended, out)
        except Exception:
            log.exception("the text of a row can't be made; the row ends")
            self.task.refuse(engine_failure("the local engine failed in this answer"), out)
            return True

    def _take(self, token: int, logprobs: mx.array, ended: str | None, out: list[Event]) -> bool:
        first = not self.first_at
        if first:
            self.first_at = time.monotonic()
        if (first or self.produced % _NAN_CHECK_EVERY == 0) and bool(mx.isnan(logprobs[token]).item()):
            self.task.refuse(engine_failure("the model computes no valid numbers"), out)
            return True
        if self.guide is not None and self.guide.failure is not None:
            log.error("an answer could not be kept to its form: %s", self.guide.failure)
            self.task.refuse(engine_failure("the local engine could not keep the answer to its form"), out)
            return True
        if self.probs is not None and ended != "stop":
            self.probs.add(token, logprobs)
        if self.task.work.trail:
            self.untold.append(token)
        return self._read(token, ended, out)

    def _read(self, token: int, ended: str | None, out: list[Event]) -> bool:
        """What the next token means to the client; True when the answer is over with it."""
        assert self.flow is not None
        self.produced += 1
        pieces: list[Piece] = []
        if ended != "stop":
            self.task.reasoning_tokens += self.flow.reasons
            pieces = self.flow.feed(token)
            if self.probs is not None:
                self.probs.spelt(self.flow.segment)
        reason: Reason | None = None
        if self.flow.stopped:
            reason = "stop"
        elif ended is not None:
            pieces += self.flow.end()
            if self.probs is not None:
                self.probs.spelt(self.flow.segment)
            reason = "length" if ended == "length" and not self.flow.stopped else "stop"
        for piece in pieces:
            self._emit(piece, out)
            if self.calls and self.reader is None and not self.task.work.tooling.parallel:
                reason = "stop"
                break
        if reason is None:
            return False
        self._end("tool_calls" if self.calls and reason == "stop" else reason, out)
        return True

    def _end(self, reason: Reason, out: list[Event]) -> None:
        task, now = self.task, time.monotonic()
        if self.probs is not None and not self.flow_stopped and (rest := self.probs.rest()):
            out.append(Delta(task.id, "", choice=self.choice, probs=rest))
        task.completion_tokens += self.produced
        if not self.resumed:  # else these are the times of something else
            task.prefill_s = max(task.prefill_s, self.first_at - self.began_at)
            task.decode_s = max(task.decode_s, now - self.first_at)
        stop = self.flow.stopped_by if self.flow is not None else None
        out.append(Ended(task.id, reason, self.choice, stop))
        task.answered(out)

    @property
    def flow_stopped(self) -> bool:
        return self.flow is not None and self.flow.stopped

    def _emit(self, piece: Piece, out: list[Event]) -> None:
        if piece.kind in ("content", "reasoning"):
            self.emitted = True
            reasoning = piece.kind == "reasoning"
            probs: tuple[TokenProb, ...] = ()
            if self.probs is not None:
                probs = self.probs.dropped() if reasoning else self.probs.of(piece.text)
            out.append(Delta(self.task.id, piece.text, reasoning, self.choice, probs, self._told()))
        elif piece.kind == "tool":
            self._hear(piece.text, out)
        else:
            self._call_over(piece, out)

    def _told(self) -> tuple[int, ...]:
        if not self.untold:
            return ()
        told = tuple(self.untold)
        self.untold.clear()
        return told

    def _hear(self, part: str, out: list[Event]) -> None:
        if self.probs is not None:
            self.probs.dropped()
        if self.reader is None:
            assert self.resident is not None
            self.reader = CallReader(streams=self.resident.family in STREAMED_FAMILIES)
        heard = self.reader.feed(part)
        if heard is None:
            return
        self.emitted = True
        if heard.name is not None:
            out.append(CallBegan(self.task.id, self.calls, new_call_id(), heard.name, self.choice))
        if heard.arguments:
            out.append(CallDelta(self.task.id, self.calls, heard.arguments, self.choice))

    def _call_over(self, piece: Piece, out: list[Event]) -> None:
        reader, self.reader = self.reader, None
        assert reader is not None
        assert self.resident is not None
        self.emitted = True
        if reader.named:
            self.calls += 1
            return
        tokenizer, tooling = self.resident.tokenizer, self.task.work.tooling
        calls = parse_calls(reader.text, tokenizer, tooling.tools)
        if not calls:
            end = tokenizer.tool_call_end if piece.kind == "tool end" else ""
            text = f"{tokenizer.tool_call_start}{reader.text}{end}"
            out.append(Delta(self.task.id, text, choice=self.choice, tokens=self._told()))
        for call in calls if tooling.parallel else calls[:1]:
            out.append(CallBegan(self.task.id, self.calls, call.call_id, call.name, self.choice))
            out.append(CallDelta(self.task.id, self.calls, call.arguments, self.choice))
            self.calls += 1


def engine_failure(message: str) -> Failure:
    """What a request comes to that the engine let down."""
    return Failure(outcome=Outcome.LOCAL_FAULT, message=message, status=500, code="engine_failed")
