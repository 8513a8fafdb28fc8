"""PURE: the events of a response's stream, numbered and framed."""

from __future__ import annotations

import msgspec

from gateway.wire.translate.responses_fields import Json

_encode = msgspec.json.Encoder().encode


class EventWriter:
    """Writes events one after the other: each has the next number."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, kind: str, **fields: object) -> bytes:
        """One event of the type `response.{kind}`."""
        return self.piece(self.head(kind, **fields), "")

    def head(self, kind: str, **fields: object) -> bytes:
        """What is the same in all events that add to one text; `piece` writes these."""
        said: Json = {"type": f"response.{kind}", **fields}
        return b"".join((b"event: response.", kind.encode(), b"\ndata: ", _encode(said)[:-1]))

    def piece(self, head: bytes, delta: str) -> bytes:
        """An event that adds `delta`, or one without."""
        number = self._number
        self._number = number + 1
        if not delta:
            return b'%b,"sequence_number":%d}\n\n' % (head, number)
        return b'%b,"sequence_number":%d,"delta":%b}\n\n' % (head, number, _encode(delta))
