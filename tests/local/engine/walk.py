"""Texts that a guide's grammar allows, drawn at random without any model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any


def walk(guide: Any, dice: random.Random, *, closers: Sequence[list[int]] = (), limit: int = 5000) -> bytes:
    """A whole text; `closers` are tokens that end what would go on for ever, tried now and then."""
    rules = guide._rules
    matcher = rules.answer.begin()
    tokens = rules.vocabulary.tokens
    ending = {token for token, text in enumerate(tokens) if text in (b'"', b"]", b"}", b")", b",", b"0")}
    said: list[int] = []
    while not matcher.is_stopped():
        if matcher.is_accepting() and dice.random() < 0.5:
            break
        closer = next(
            (c for c in closers if dice.random() < 0.1 and matcher.validate_tokens(c) == len(c)), None
        )
        bias = matcher.compute_logit_bias()
        allowed = [token for token in range(len(tokens)) if bias[token] and token not in rules.ends]
        soon = [token for token in allowed if token in ending]
        drawn = closer or [dice.choice(soon if soon and dice.random() < 0.3 else allowed)]
        assert matcher.consume_tokens(drawn), matcher.get_error()
        said += drawn
        assert len(said) < limit
    return b"".join(tokens[token] for token in said)
