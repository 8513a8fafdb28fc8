"""PURE: which call a path is, as far as its stream or reply has rules of its own."""

from __future__ import annotations

from enum import StrEnum


class Api(StrEnum):
    """The calls whose answers are understood. OTHER is relayed without being understood."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    OTHER = "other"


_CREATE_PATHS = {
    "/v1/chat/completions": Api.CHAT,
    "/v1/completions": Api.COMPLETIONS,
    "/v1/responses": Api.RESPONSES,
    "/v1/messages": Api.MESSAGES,
}


def api_of(path: str) -> Api:
    """The call that a POST to `path` (without its query) makes; other methods are always OTHER."""
    return _CREATE_PATHS.get(path, Api.OTHER)
