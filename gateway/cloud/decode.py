"""PURE: undoes a compression that nobody asked for, piece by piece and within bounds.

We ask for `identity`; some upstreams compress all the same. A stream must keep flowing, so whatever
can be decoded is handed on at once. A body that lacks its end looks whole to most libraries: here
`ended` tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PIECE = 1 << 18
_MEMBERS = 64  # a gzip body may be several members; thousands of empty ones are an attack

_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class DecodeError(Exception):
    """What came is not what its encoding says."""


class Inflate:
    """Decodes one gzip or deflate body; feed it in any split."""

    def __init__(self, encoding: str) -> None:
        self._wbits = _WBITS[encoding]
        self._inner = zlib.decompressobj(self._wbits)
        self._members = 1
        self._begun = False
        self._held = False

    @staticmethod
    def knows(encoding: str) -> bool:
        """Can bodies of this encoding be decoded?"""
        return encoding in _WBITS

    @property
    def ended(self) -> bool:
        """Has the body come to its own end (an empty body has none to come to)?"""
        return self._inner.eof or not self._begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode what can be decoded, in pieces of bounded size; raise DecodeError for junk."""
        if not self._begun and data:
            self._begun = True
            # Half of the world reads "deflate" as raw, without the two bytes that zlib begins with.
            if self._wbits == _WBITS["deflate"] and data[0] & 0x0F != zlib.DEFLATED:
                self._inner = zlib.decompressobj(-15)
        while data or self._held:
            if self._inner.eof:
                self._next_member()
            try:
                piece = self._inner.decompress(data, _PIECE)
            except zlib.error as error:
                raise DecodeError(str(error)) from error
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            # A full piece may have more behind it even when all input was taken.
            self._held = len(piece) == _PIECE and not self._inner.eof
            if piece:
                yield piece

    def _next_member(self) -> None:
        self._members += 1
        if self._wbits != _WBITS["gzip"]:
            raise DecodeError("bytes after the end of the compressed body")
        if self._members > _MEMBERS:
            raise DecodeError(f"more than {_MEMBERS} compressed members in one body")
        self._inner = zlib.decompressobj(self._wbits)
