"""PURE: the ids of a response's items, all derived from its own."""

from __future__ import annotations


class Names:
    """Gives ids that are unique within the response, and the same for every attempt of one request."""

    def __init__(self, response_id: str) -> None:
        self._base = response_id.removeprefix("resp_")
        self._count = 0

    def give(self, kind: str) -> str:
        """The next id: `msg`, `rs`, `fc` and such, as OpenAI's begin."""
        self._count += 1
        return f"{kind}_{self._base}{self._count:04x}"
