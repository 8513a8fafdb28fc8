"""Keeps the text of a bound answer from spelling a mark in letters.

A grammar lets a string hold any characters, and whoever splits the answer by its marks would see
one where none is meant. The tokens of the marks themselves are a grammar's business, not this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gateway.local.engine.vocabulary import Vocabulary

Tokens = NDArray[np.intp]


class Barrier:
    """The marks of a model, and for each beginning of one the tokens that would complete it."""

    def __init__(self, vocabulary: Vocabulary, marks: Iterable[int]) -> None:
        self.marks = frozenset(marks)
        self._texts = [text for mark in self.marks if (text := vocabulary.bytes_of(mark))]
        self._firsts = {text[:1] for text in self._texts}
        self.longest = max(map(len, self._texts), default=1)
        whole, ends = [], defaultdict(list)
        rests: dict[int, set[bytes]] = defaultdict(set)
        for text in self._texts:
            for cut in range(1, len(text)):
                rests[text[cut]].add(text[cut:])
        for token, spelt in enumerate(vocabulary.tokens):
            if not spelt or token in self.marks:
                continue
            if any(text in spelt for text in self._texts):
                whole.append(token)
            for rest in rests.get(spelt[0], ()):
                if spelt.startswith(rest):
                    ends[rest].append(token)
        self._whole: Tokens = np.array(whole, np.intp)
        self._ends: dict[bytes, Tokens] = {rest: np.array(found, np.intp) for rest, found in ends.items()}

    def shut(self, allowed: NDArray[np.bool_], tail: bytes) -> None:
        """Take from the allowed tokens those that would complete a mark after this text."""
        self._take(allowed, self._whole)
        if not any(first in tail for first in self._firsts):
            return
        for text in self._texts:
            for cut in range(1, len(text)):
                if tail.endswith(text[:cut]) and text[cut:] in self._ends:
                    self._take(allowed, self._ends[text[cut:]])

    def _take(self, allowed: NDArray[np.bool_], tokens: Tokens) -> None:
        # The model may know fewer tokens than its tokenizer; they are in order.
        allowed[tokens[: np.searchsorted(tokens, len(allowed))]] = False
