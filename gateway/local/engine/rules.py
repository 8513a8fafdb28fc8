"""Compiles grammars for one model's vocabulary and keeps those that were used last."""

from __future__ import annotations

import functools
import threading
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from gateway.local.engine.vocabulary import Vocabulary

_KEPT = 128  # grammars of one model; apps send the same few again and again


class BrokenRule(Exception):  # noqa: N818 - it is a finding about a grammar
    """A grammar can't be compiled, or a text does not fit it."""


class Compiled:
    """A grammar that may be followed many times; any thread may ask."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._first = matcher
        self._lock = threading.Lock()

    def begin(self) -> LLMatcher:
        with self._lock:
            return self._first.deep_copy()


class Compiler:
    """Of one model. Used on one thread; building it takes about a second for 150,000 tokens."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, *, ends: list[int], marks: set[int]) -> None:
        wrapped: Any = _Wrapped(tokenizer, vocabulary, ends[0], vocabulary.special | marks)
        self.tokenizer = LLTokenizer(wrapped, eos_token=ends)
        wrapped.greedy = self.tokenizer.greedy_tokenize
        self._limits = LLParserLimits(verbose_errors=False)
        self.compile = functools.lru_cache(maxsize=_KEPT)(self._compile)
        self.fault = functools.lru_cache(maxsize=_KEPT)(self._fault)

    def _compile(self, grammar: str) -> Compiled:
        """Raises BrokenRule."""
        matcher = LLMatcher(self.tokenizer, grammar, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise BrokenRule(matcher.get_error())
        return Compiled(matcher)

    def _fault(self, document: str) -> str | None:
        """What is wrong with a JSON schema, in a sentence."""
        grammar = LLMatcher.grammar_from_json_schema(document)
        return LLMatcher.validate_grammar(grammar, self.tokenizer, limits=self._limits) or None


class _Wrapped:
    """The tokenizer as llguidance wants it."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, end: int, special: frozenset[int]) -> None:
        self.eos_token_id = end
        self.tokens = vocabulary.tokens
        self.special_token_ids = sorted(special)
        self.greedy: Any = None
        self._special = special
        self._encode = functools.partial(tokenizer.encode, add_special_tokens=False)

    def __call__(self, text: str) -> list[int]:
        """The tokens that the model would use for a text that is about to be forced on it."""
        found: list[int] = self._encode(text)
        if self._special.isdisjoint(found) and b"".join(self.tokens[t] for t in found) == text.encode():
            return found
        return list(self.greedy(text))  # an encoder that puts a blank before, or a marker in the text
