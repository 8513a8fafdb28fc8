"""PURE: the `model` field of a multipart form, found while the form flows by.

An upload may be hundreds of megabytes; what is kept of it here is the tail that may still turn out to
be a boundary, a part's headers, and the value itself. Bytes are told apart by RFC 2046 alone: a part
begins after CRLF, two dashes and the boundary, and what stands in it means nothing.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from gateway.errors import RequestError

_BOUNDARY_LIMIT = 70  # RFC 2046 5.1.1
_HEADERS_LIMIT = 16 << 10
_VALUE_LIMIT = 1 << 10
_PADDING_LIMIT = 256  # blanks that may follow a boundary
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_ALLOWED = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
_DISPOSITION = re.compile(
    rb"^content-disposition[ \t]*:[ \t]*form-data[ \t]*(;.*)$", re.IGNORECASE | re.MULTILINE
)
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)')
_BLANKS = re.compile(rb"[ \t]*")


def boundary_of(content_type: str) -> bytes:
    """The boundary that a multipart content type announces. RequestError when it can't be used."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _bad("a multipart body needs a boundary in its content-type; there is none")
    text = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    if len(text) > _BOUNDARY_LIMIT:
        raise _bad(f"the multipart boundary is longer than {_BOUNDARY_LIMIT} characters")
    if not _ALLOWED.fullmatch(text):
        raise _bad("the multipart boundary holds characters that it may not")
    return text.encode("ascii")


class ScanState(Enum):
    """What is known of the model so far."""

    SEARCHING = "searching"
    FOUND = "found"
    ABSENT = "absent"


class _At(Enum):
    BODY = auto()  # inside a part that is not wanted, or before the first one
    BOUNDARY = auto()  # behind a boundary: the line's end, or the two dashes of the last one
    HEADERS = auto()
    VALUE = auto()


class ModelScan:
    """Feed it the body from its start. ABSENT with a `fault` is a form that can't be read on."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._end = re.compile(re.escape(self._delimiter) + rb"(?:--|[ \t]{0,%d}\r\n)" % _PADDING_LIMIT)
        self._end_limit = len(self._delimiter) + _PADDING_LIMIT + 2
        self._held = bytearray(b"\r\n")  # the first boundary needs no line before it
        self._offset = -2  # where in the body `_held` begins
        self._at = _At.BODY
        self.state = ScanState.SEARCHING
        self.model: str | None = None
        self.span: tuple[int, int] | None = None
        self.fault: RequestError | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Once the model is found or known to be absent they are overlooked."""
        if self.state is not ScanState.SEARCHING:
            return
        self._held += chunk
        while self.state is ScanState.SEARCHING and self._step():
            pass
        if self.state is not ScanState.SEARCHING:
            self._held.clear()

    def _step(self) -> bool:
        """Read one thing further; False when more bytes are needed."""
        if self._at is _At.BODY:
            return self._skip_body()
        if self._at is _At.BOUNDARY:
            return self._read_boundary()
        if self._at is _At.HEADERS:
            return self._read_headers()
        return self._read_value()

    def _skip_body(self) -> bool:
        at = self._held.find(self._delimiter)
        if at < 0:
            self._drop(max(0, len(self._held) - len(self._delimiter) + 1))
            return False
        self._drop(at + len(self._delimiter))
        self._at = _At.BOUNDARY
        return True

    def _read_boundary(self) -> bool:
        """A boundary is one only if its line ends behind it; else it was the front of a longer word."""
        if self._held.startswith(b"--"):
            self.state = ScanState.ABSENT
            return True
        blanks = _BLANKS.match(self._held).end()  # type: ignore[union-attr]  # matches nothing, too
        if blanks <= _PADDING_LIMIT and len(self._held) < blanks + 2:
            return False
        if blanks <= _PADDING_LIMIT and self._held.startswith(b"\r\n", blanks):
            self._drop(blanks)  # the line's end stays: a part without headers has its blank line at once
            self._at = _At.HEADERS
        else:
            self._at = _At.BODY
        return True

    def _read_headers(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end > _HEADERS_LIMIT or (end < 0 and len(self._held) > _HEADERS_LIMIT + 3):
            self._fail("a part of the form has more than 16 KiB of headers")
            return True
        if end < 0:
            return False
        wanted = _is_model_field(bytes(self._held[:end]))
        self._drop(end + 2)  # the blank line's end stays: it may be the boundary's if nothing stands between
        self._at = _At.VALUE if wanted else _At.BODY
        return True

    def _read_value(self) -> bool:
        end = self._end.search(self._held)
        size = (end.start() if end is not None else len(self._held) - self._end_limit) - 2
        if size > _VALUE_LIMIT:
            self._fail("the form's model is longer than 1 KiB")
            return True
        if end is None:
            return False
        try:
            self.model = self._held[2 : end.start()].decode()
        except UnicodeDecodeError:
            self._fail("the form's model is not UTF-8")
            return True
        start = self._offset + 2
        self.span = (start, start + max(0, size))
        self.state = ScanState.FOUND
        return True

    def _drop(self, size: int) -> None:
        del self._held[:size]
        self._offset += size

    def _fail(self, message: str) -> None:
        self.fault = _bad(message)
        self.state = ScanState.ABSENT


def _is_model_field(headers: bytes) -> bool:
    disposition = _DISPOSITION.search(headers)
    if disposition is None:
        return False
    fields = {key.lower(): value.strip().strip(b'"') for key, value in _PARAMETER.findall(disposition[1])}
    return fields.get(b"name") == b"model" and b"filename" not in fields


def _bad(message: str) -> RequestError:
    return RequestError(message, code="invalid_multipart")
