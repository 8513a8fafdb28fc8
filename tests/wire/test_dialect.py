from __future__ import annotations

import pytest

from gateway.wire.dialect import Dialect, dialect_of


@pytest.mark.parametrize(
    ("path", "version", "dialect"),
    [
        ("/v1/messages", False, Dialect.ANTHROPIC),
        ("/v1/messages/batches", False, Dialect.ANTHROPIC),
        ("/v1/messagesx", False, Dialect.OPENAI),
        ("/v1/models", False, Dialect.OPENAI),
        ("/v1/models", True, Dialect.ANTHROPIC),
        ("/v1/models/claude", True, Dialect.ANTHROPIC),
        ("/v1/chat/completions", True, Dialect.OPENAI),
    ],
)
def test_the_path_says_the_dialect(path: str, version: bool, dialect: Dialect) -> None:
    assert dialect_of(path, anthropic_version=version) is dialect
