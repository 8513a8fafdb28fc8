"""The log probabilities of an answer's tokens, kept until the text that they made is sent."""

from __future__ import annotations

from collections import deque
from typing import Any

import mlx.core as mx

from gateway.local.engine.vocabulary import Vocabulary
from gateway.local.mailbox import Likely, TokenProb


class Probs:
    """Those of one answer. Text may be held back, and may be no content: then they wait, or are dropped.

    Tokens are kept in groups, each with the text that its last token completed: a character may
    take several tokens.
    """

    __slots__ = ("_groups", "_open", "_top", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary, self._top = vocabulary, top
        self._groups: deque[tuple[list[TokenProb], str]] = deque()
        self._open: list[TokenProb] = []  # tokens that no text came of yet

    def add(self, token: int, logprobs: mx.array) -> None:
        """A token has come; `logprobs` are those of the whole vocabulary at its place."""
        top: tuple[Likely, ...] = ()
        if self._top:
            count = min(self._top, logprobs.shape[-1])
            best = mx.argpartition(-logprobs, kth=count - 1)[:count]
            tokens: Any = best.tolist()
            values: Any = logprobs[best].tolist()
            found = sorted(zip(values, tokens, strict=True), key=lambda pair: (-pair[0], pair[1]))
            top = tuple(self._likely(other, logprob) for logprob, other in found)
        value: Any = logprobs[token].item()
        self._open.append(TokenProb(self._likely(token, value), top))

    def spelt(self, text: str) -> None:
        """The tokens so far have completed this text."""
        if text and self._open:
            self._groups.append((self._open, text))
            self._open = []

    def of(self, text: str) -> tuple[TokenProb, ...]:
        """Those of the tokens that `text` begins in. What is behind it stays pending; what stands before
        it made no content (a marker, blanks at a border) and is dropped.
        """
        left = text
        found: list[TokenProb] = []
        while left and self._groups:
            group, spelt = self._groups.popleft()
            if not found and not _meet(left, spelt):
                spelt = spelt.lstrip()
                if not spelt or not _meet(left, spelt):
                    continue
            found += group
            left = left[len(spelt) :]
        return tuple(found)

    def rest(self) -> tuple[TokenProb, ...]:
        """All that are pending, at the end of an answer."""
        found = [prob for group, _ in self._groups for prob in group] + self._open
        self.dropped()
        return tuple(found)

    def dropped(self) -> tuple[TokenProb, ...]:
        """What is pending made no content."""
        self._groups.clear()
        self._open = []
        return ()

    def _likely(self, token: int, logprob: float) -> Likely:
        raw = self._vocabulary.bytes_of(token)
        return Likely(raw.decode("utf-8", "replace"), raw, max(logprob, -9999.0))


def _meet(text: str, spelt: str) -> bool:
    """Does `text` begin with what was spelt, or end inside of it?"""
    return text.startswith(spelt) or spelt.startswith(text)
