"""PURE: which provider's JSON a path speaks."""

from __future__ import annotations

from enum import StrEnum


class Dialect(StrEnum):
    """A provider's JSON: requests, replies, events and errors."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


def dialect_of(path: str, *, anthropic_version: bool = False) -> Dialect:
    """The dialect a client speaks on `path`; both list models at /v1/models, told apart by header."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return Dialect.ANTHROPIC
    if anthropic_version and (path == "/v1/models" or path.startswith("/v1/models/")):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI
