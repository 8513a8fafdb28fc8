"""PURE: which provider's JSON a path speaks."""

from __future__ import annotations

from enum import StrEnum

_OPENAI_ONLY = ("/v1/chat/", "/v1/completions", "/v1/responses", "/v1/embeddings")


class Dialect(StrEnum):
    """A provider's JSON: requests, replies, events and errors."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


def dialect_of(path: str, *, anthropic_version: bool = False) -> Dialect:
    """The dialect a client speaks on `path`; what both have, as /v1/models and /v1/files, is told apart
    by the header that every client of Anthropic sends.
    """
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return Dialect.ANTHROPIC
    if anthropic_version and not path.startswith(_OPENAI_ONLY):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI
