"""Keeps one answer to its grammar: before each token is drawn, masks those that can't follow.

    FREE   no mask; each token is read, because the end of reasoning or the beginning of a call
           binds what follows
    BOUND  what the grammar allows; the end of the turn only where the grammar is complete
    OVER   the end of the turn and nothing else
    DONE   the turn has ended; a step that was begun before that is thrown away

Marks are looked for in the text of the tokens, as mlx-lm's text state machine does, so that both
see the same answer however it is cut into tokens. Guides live on the engine thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, assert_never

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from gateway.local.engine.barrier import Barrier
from gateway.local.engine.board import Board
from gateway.local.engine.rules import BrokenRule, Compiled, Compiler
from gateway.local.engine.vocabulary import Vocabulary

log = logging.getLogger(__name__)


class Phase(Enum):
    """Where an answer is."""

    FREE = 1
    BOUND = 2
    OVER = 3
    DONE = 4


class Rules(NamedTuple):
    """What the guides of one request share."""

    compiler: Compiler
    vocabulary: Vocabulary
    barrier: Barrier
    ends: frozenset[int]
    answer: Compiled | None  # binds from the first token on
    later: Compiled | None  # the same after reasoning
    rest: Compiled | None  # binds after the mark that begins a call
    again: bool  # the answer is free again after a call
    thinking: bool
    think_start: tuple[int, ...]  # the model may begin its answer with it
    think_end: bytes
    call_start: bytes


class Guide:
    """The logits processor of one row. It never raises: `failure` says why the answer is not kept."""

    def __init__(self, rules: Rules, board: Board) -> None:
        self.failure: str | None = None
        self._rules = rules
        self._board = board
        self._started = False
        self._phase = Phase.FREE
        self._matcher: LLMatcher | None = None
        self._opening = False  # the first token may begin a reasoning block instead
        self._next: deque[int] = deque()  # tokens that must come before anything else
        self._tail = b""  # of the text, where a mark may have begun
        if rules.answer is not None and not rules.thinking:
            self._bind(rules.answer)
            self._opening = bool(rules.think_start)

    def fork(self) -> Guide:
        """The same rules from the start, for another choice or a row that starts over."""
        return Guide(self._rules, self._board)

    def follow(self, tokens: Iterable[int]) -> None:
        """The answer begins with these tokens, which are not drawn any more."""
        try:
            for token in tokens:
                self._advance(token)
        except BrokenRule as error:
            self.failure = str(error)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self.failure is not None or self._phase is Phase.DONE:
            return logits
        try:
            if self._started:  # the first call comes with the prompt, each one after it with a token more
                self._advance(self._board.last(self, tokens, logits))
            self._started = True
            allowed = self._allowed(logits.shape[-1])
            return logits if allowed is None else mx.where(mx.array(allowed), logits, -mx.inf)
        except BrokenRule as error:
            self.failure = str(error)
        except Exception as error:
            log.exception("a guide failed")
            self.failure = type(error).__name__
        return logits

    def _advance(self, token: int) -> None:
        if self._next:
            self._next.popleft()
            return
        if token in self._rules.ends:
            self._phase = Phase.DONE
            return
        match self._phase:
            case Phase.FREE:
                self._listen(self._rules.vocabulary.bytes_of(token))
            case Phase.BOUND:
                self._follow(token)
            case Phase.OVER | Phase.DONE:
                raise BrokenRule("the answer went on beyond its end")
            case _:
                assert_never(self._phase)

    def _follow(self, token: int) -> None:
        assert self._matcher is not None
        start = self._rules.think_start
        if self._opening and token == start[0]:
            self._phase, self._matcher, self._opening = Phase.FREE, None, False
            self._next.extend(start[1:])
            return
        self._opening = False
        if not self._matcher.consume_token(token):
            raise BrokenRule(self._matcher.get_error())
        barrier = self._rules.barrier
        if token in barrier.marks:
            self._tail = b""
        else:
            self._tail = (self._tail + self._rules.vocabulary.bytes_of(token))[-barrier.longest :]
        self._settle()

    def _settle(self) -> None:
        """Leave a grammar that is complete."""
        assert self._matcher is not None
        if self._matcher.is_stopped():
            self._phase = Phase.FREE if self._rules.again else Phase.OVER
            self._matcher, self._tail = None, b""

    def _listen(self, text: bytes) -> None:
        """Look for a mark in the free text; what follows it in the same token is bound already."""
        rules = self._rules
        heard = self._tail + text
        marks = ((rules.think_end, rules.later), (rules.call_start, rules.rest))
        found = [
            (heard.find(mark), mark, bound) for mark, bound in marks if bound is not None and mark in heard
        ]
        if not found:
            longest = max(len(rules.think_end), len(rules.call_start))
            self._tail = heard[-longest:]
            return
        at, mark, bound = min(found, key=lambda item: item[0])
        self._tail = b""
        self._bind(bound, heard[at + len(mark) :])

    def _bind(self, bound: Compiled, text: bytes = b"") -> None:
        self._matcher, self._phase = bound.begin(), Phase.BOUND
        if not text:
            return
        if self._matcher.consume_tokens(self._rules.compiler.tokenizer.tokenize_bytes(text)):
            self._settle()
        elif self._rules.answer is None:  # no valid call, but nobody has forced one
            self._matcher, self._phase = None, Phase.FREE
        else:
            raise BrokenRule(self._matcher.get_error())

    def _allowed(self, width: int) -> NDArray[np.bool_] | None:
        """Which tokens may come next; None when any may."""
        rules = self._rules
        if self._next:
            return _only({self._next[0]}, width)
        if self._phase is Phase.DONE or (self._phase is Phase.FREE and rules.answer is None):
            return None
        if self._phase is Phase.FREE:  # reasoning does not end an answer that is bound
            return ~_only(rules.ends, width)
        if self._phase is Phase.OVER:
            return _only(rules.ends, width)
        assert self._matcher is not None
        bits = self._board.bits(self._matcher, len(rules.vocabulary.tokens))
        if self._matcher.is_error():  # it would have the answer end here
            raise BrokenRule(self._matcher.get_error())
        size = min(width, len(rules.vocabulary.tokens))
        allowed = np.zeros(width, np.bool_)
        allowed[:size] = bits[:size]
        rules.barrier.shut(allowed, self._tail)
        if self._opening:
            allowed[rules.think_start[0]] = True
        if not allowed.any():
            raise BrokenRule("no token of this model can follow")
        return allowed


def _only(tokens: frozenset[int] | set[int], width: int) -> NDArray[np.bool_]:
    allowed = np.zeros(width, np.bool_)
    allowed[[token for token in tokens if token < width]] = True
    return allowed
