"""PURE: what a translator does, whichever two APIs it stands between."""

from __future__ import annotations

from typing import Protocol

from gateway.errors import RequestError
from gateway.wire.api import Api


class UntranslatableError(RequestError):
    """The target has no way to say this: `param` names the field of the client's request."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message, status=400, code="untranslatable", param=param)


class Translation(Protocol):
    """One attempt's translator. `request` comes first; then either `whole`, or `event` for each event of the
    target's stream and `end` once behind its last one.

    What reaches it from the target has been judged already: `wire.watch` (streams) and `wire.whole` (replies)
    have seen that it is sound, and errors never come here. Unknown fields and events never raise.
    """

    api: Api  # of the target, by which its stream or reply is judged
    path: str  # of the target, e.g. /v1/messages
    changed: tuple[str, ...]  # fields of the request that were changed or dropped, in the client's words

    def request(self, body: bytes) -> bytes:
        """The client's request, its model already renamed, as the target wants it, or UntranslatableError."""

    def whole(self, body: bytes) -> bytes:
        """The target's whole reply as the client's."""

    def event(self, data: bytes, name: str | None) -> bytes:
        """One event of the target's stream as none, one or several events of the client's, framed (`data: `,
        blank line and all). `name` is its event line, None without one.
        """

    def end(self) -> bytes:
        """What the client's stream still lacks when the target's is complete, framed."""
