"""PURE: server-sent events cut out of bytes as they were read, and written.

An event ends at its first blank line; a line ends at LF, CR or CRLF, mixed as anyone likes. Where a
chunk ends decides nothing: the same bytes give the same events however they are cut. Two rules see to
that. A CR that closes a blank line after CRLF waits for the next byte, which is nearly always its LF.
Any other CR closes the blank line at once, for a stream that speaks CR must not lag one event behind;
an LF that then follows is an empty event of its own, as is every blank line between events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

LIMIT_BYTES = 16 << 20
BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"\r\n\r(?:\n|(?=[^\n]))|\r?\n\n|(?<!\r)\n\r|\r\r")
_COMPLETE = (b"\n\n", b"\r\n\r\n", b"\r\r")  # whatever stands before, an event ends behind these
_REACH = 3  # so many bytes of a blank line may have been there without completing it
_EVENT, _DATA = b"event: ", b"data: "
_LINE_END = re.compile(rb"\r\n|\r|\n")


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event's fields. `data` is None where no data line stood; a client is then told nothing."""

    event: str | None
    data: bytes | None
    id: str | None
    is_comment_only: bool


class SseSplitter:
    """Collects bytes until events are complete. Bytes are never changed.

    An event above `limit` sets `oversize`; from then on nothing more comes out.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._held = bytearray()
        self._has_cr = False
        self.oversize = False

    @property
    def pending(self) -> int:
        """Bytes of an event that is not complete yet."""
        return len(self._held)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes, give back the events that are now complete, each with its blank line."""
        return split_events(self.cut(chunk))

    def cut(self, chunk: bytes) -> bytes:
        """The same in one piece: all complete events that stand in what was fed so far."""
        if self.oversize:
            return b""
        if not self._held and chunk.endswith(_COMPLETE) and len(chunk) <= self._limit:
            return chunk
        scanned = max(0, len(self._held) - _REACH)
        self._held += chunk
        self._has_cr = self._has_cr or b"\r" in chunk
        end = self._complete(scanned)
        block = bytes(memoryview(self._held)[:end])
        if end:
            del self._held[:end]
            self._has_cr = self._has_cr and b"\r" in self._held
        if len(block) > self._limit:
            block = self._within_limit(block)
        if self.oversize or len(self._held) > self._limit:
            self.oversize = True
            self._held.clear()
        return block

    def rest(self) -> bytes:
        """Whatever is still pending, given up by the splitter: the stream has ended."""
        rest = bytes(self._held)
        self._held.clear()
        self._has_cr = False
        return rest

    def _complete(self, scanned: int) -> int:
        """Where the last complete event ends."""
        held = self._held
        if self._has_cr:
            end = 0
            while (after := end_of_event(held, end, scanned)) >= 0:
                end = after
            return end
        end = held.rfind(b"\n\n", scanned) + 2
        if end < 2:
            end = 0
        while held.startswith(b"\n", end):
            end += 1
        return end

    def _within_limit(self, block: bytes) -> bytes:
        end = 0
        for raw in split_events(block):
            if len(raw) > self._limit:
                self.oversize = True
                return block[:end]
            end += len(raw)
        return block


def split_events(block: bytes) -> list[bytes]:
    """The events of a block that ends with a complete one."""
    events = []
    start = 0
    while start < len(block):
        end = end_in_block(block, start)
        events.append(block[start:end])
        start = end
    return events


def end_in_block(block: bytes, start: int) -> int:
    """Where the event that begins at `start` ends in a block that ends with a complete one. A blank line
    of a CR after a CRLF is one at the block's very end too: what followed has shown that no LF does.
    """
    end = end_of_event(block, start)
    return end if end >= 0 else len(block)


def end_of_event(data: bytes | bytearray, start: int, scanned: int = 0) -> int:
    """Where the event that begins at `start` ends, -1 while it is not complete. Nothing ends before
    `scanned`, as an earlier look has shown.
    """
    if data.startswith((b"\n", b"\r"), start):
        return start + 1
    blank = _BLANK.search(data, max(start, scanned))
    return -1 if blank is None else blank.end()


def parse_event(raw: bytes) -> SseEvent:
    """The fields of one raw event; unknown ones are overlooked, as the standard says."""
    event: str | None = None
    name: str | None = None
    data: list[bytes] = []
    known = False
    for line in raw.removeprefix(BOM).splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                data.append(value)
            case b"event":
                event = value.decode("utf-8", "replace")
            case b"id":
                name = value.decode("utf-8", "replace")
            case b"retry":
                pass
            case _:
                continue
        known = True
    return SseEvent(event, b"\n".join(data) if data else None, name, not known)


def heard(block: bytes) -> Iterator[tuple[bytes, str | None]]:
    """What the events of a block say: their data and their names, without those that carry none. The block
    ends with a complete event.
    """
    raws = split_events(block) if b"\r" in block or block.startswith(BOM) else block.split(b"\n\n")
    for raw in raws:
        name = None
        data = raw
        if raw.startswith(_EVENT):
            head, _, data = raw.partition(b"\n")
            name = head[7:].decode("utf-8", "replace")
        if data.startswith(_DATA) and b"\n" not in data and b"\r" not in data:  # nearly every one
            said: bytes | None = data[6:]
        else:
            event = parse_event(raw)
            said, name = event.data, event.event
        if said:
            yield said, name


def encode(data: bytes, event: str | None = None) -> bytes:
    """One event that carries `data`, however many lines that has."""
    head = b"" if event is None else b"event: " + _one_line(event) + b"\n"
    if b"\n" not in data and b"\r" not in data:
        return head + b"data: " + data + b"\n\n"
    return head + b"data: " + b"\ndata: ".join(_LINE_END.split(data)) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that every client overlooks: it only shows that the connection lives."""
    return b": " + _one_line(text) + b"\n\n"


def _one_line(text: str) -> bytes:
    return _LINE_END.sub(b" ", text.encode("utf-8", "replace"))
