"""PURE: what the relay must know of a stream on its way through, without changing it.

Complete events are handed on as they came, up to and including the one that ends the stream, and up
to but not including the first that is an error or that no client could parse. Left out is only what
means nothing by the standard while OpenAI's own client stumbles over it: a byte order mark, which costs
it the first event, and on OpenAI's calls events without data, which it tries to parse. Once an event
had an id, it takes every blank line for such an event, those behind comments too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire import syntax
from gateway.wire.anthropic import MessagesEvents
from gateway.wire.api import Api
from gateway.wire.events import Events, Mark, OtherEvents
from gateway.wire.failure import WireError, malformed
from gateway.wire.openai import ChatEvents, ResponsesEvents
from gateway.wire.sse import BOM, LIMIT_BYTES, SseSplitter, end_in_block, parse_event
from gateway.wire.usage import Usage

_EVENTS: dict[Api, type[Events[Any]]] = {
    Api.CHAT: ChatEvents,
    Api.COMPLETIONS: ChatEvents,
    Api.RESPONSES: ResponsesEvents,
    Api.MESSAGES: MessagesEvents,
    Api.OTHER: OtherEvents,
}
_DATA = b"data: {"
_EVENT = b"event: "
_BETWEEN = b"\n\ndata: "
_DONE = b"data: [DONE]\n\n"
_MANY_BYTES = 800
_LAST_EVENTS = 3  # a reason for the end, the usage and [DONE] are judged one by one


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What a chunk came to. `relay` may be handed on now; `ended` and `error` stay once they are set."""

    relay: bytes
    content: bool
    ended: bool
    error: WireError | None


_NOTHING = Seen(b"", False, False, None)


class StreamWatch:
    """Watches one stream. Feed it raw chunks, or the data of single events; then `finish` it."""

    def __init__(self, api: Api, *, limit: int = LIMIT_BYTES) -> None:
        self._events = _EVENTS[api]()
        self._splitter = SseSplitter(limit)
        self._drops_empty = api in (Api.CHAT, Api.COMPLETIONS, Api.RESPONSES)
        self._begun = False
        self._has_ids = False
        self._over: Seen | None = None

    @property
    def eof_is_end(self) -> bool:
        """Would the end of the bytes be a clean end now?"""
        return self._events.eof_is_end or (self._over is not None and self._over.ended)

    @property
    def finished(self) -> bool:
        """Has a reason for the end been given? Then only the terminal event is missing, if any."""
        return self._events.finished

    @property
    def comments_are_safe(self) -> bool:
        """May a comment be put between the events of this stream? (The relay's heartbeat is one.)"""
        return not (self._drops_empty and self._has_ids)

    @property
    def usage(self) -> Usage | None:
        """What the upstream has counted so far."""
        return self._events.usage

    def feed(self, chunk: bytes) -> Seen:
        """Take bytes as they were read."""
        if self._over is not None:
            return self._over
        block = self._splitter.cut(chunk)
        seen = self._take(block) if block else _NOTHING
        if self._splitter.oversize and self._over is None:
            return self._end(
                seen.relay, seen.content, malformed("the stream holds an event that is too large")
            )
        return seen

    def feed_event(self, data: bytes) -> Seen:
        """Take the data of one event; `relay` is that data."""
        if self._over is not None:
            return self._over
        mark = self._events.read(data, None) if syntax.is_utf8(data) else self._events.unreadable()
        if mark is Mark.BROKEN:
            return self._end(b"", False, self._events.error)
        if mark is Mark.END:
            return self._end(data, False, None)
        return Seen(data, mark is Mark.CONTENT, False, None)

    def finish(self) -> Seen:
        """The bytes are at their end. An event that only lacks its blank line is given one; a stream
        that lacks its terminal event has an error.
        """
        if self._over is not None:
            return self._over
        rest = self._splitter.rest()
        if not self._events.eof_is_end and _says_nothing(rest):
            rest = b""  # a broken event: with its name and no data it would make a client stumble
        seen = self._take(rest + (b"\n" if rest.endswith(b"\n") else b"\n\n")) if rest else _NOTHING
        if self._over is not None:
            return seen
        missing = (
            None
            if self._events.eof_is_end
            else malformed("the stream ended before its terminal event", code="unfinished_stream")
        )
        return self._end(seen.relay, seen.content, missing)

    def _take(self, block: bytes) -> Seen:
        """Judge a block of complete events."""
        if not self._begun:
            self._begun = True
            block = block.removeprefix(BOM)
        eol = b"\n" if b"\r" not in block and block.isascii() else _line_end_of(block)
        start, content = self._skim(block) if len(block) > _MANY_BYTES else (0, False)
        size, kept = len(block), b""
        first = 0  # from here on nothing was left out
        read = self._events.read
        while start < size:
            at, name = start, None
            if eol and block.startswith(_EVENT, start):
                at = block.find(eol, start)
                name = block[start + len(_EVENT) : at].decode()
                at += len(eol)
            end = block.find(eol, at) if eol and block.startswith(_DATA, at) else -1
            if end >= 0 and block.startswith(eol, end + len(eol)):  # one line of data: nearly every event
                mark: Mark | None = read(block[at + 6 : end], name)
                end += 2 * len(eol)
            else:
                end = end_in_block(block, start)
                mark = self._read_any(block[start:end])
            if mark is Mark.CONTENT:
                content = True
            elif mark is Mark.END:
                return self._end(kept + block[first:end], content, None)
            elif mark is Mark.BROKEN:
                return self._end(kept + block[first:start], content, self._events.error)
            elif mark is None:
                kept, first = kept + block[first:start], end
            start = end
        return Seen(kept + block[first:], content, False, None)

    def _skim(self, block: bytes) -> tuple[int, bool]:
        """Judge what is plain at the start of a large block, all at once: how far it goes, and whether
        there is content in it. A burst costs a third of what its events would one by one.
        """
        if not block.startswith(_DATA) or not block.isascii():
            return 0, False
        lines = block[len(_DATA) - 1 :].split(_BETWEEN)
        # One line of data each, and nothing between them but the blank line.
        if block.count(b"\n") != 2 * len(lines) or b"\r" in block:
            return 0, False
        content = None
        if not block.endswith(_DONE):
            content = self._events.skim(lines)
        if content is None:  # the end may be among them
            del lines[-_LAST_EVENTS:]
            content = self._events.skim(lines) if lines else None
        if content is None:
            return 0, False
        return sum(map(len, lines)) + len(lines) * (len(_DATA) + 1), content

    def _read_any(self, raw: bytes) -> Mark | None:
        """Judge an event that is written in an unusual way; None leaves it out."""
        if not syntax.is_utf8(raw):
            return self._events.unreadable()
        event = parse_event(raw)
        self._has_ids = self._has_ids or bool(event.id)
        if event.data:
            return self._events.read(event.data, event.event)
        if event.event == "error":
            return self._events.fail_without_data()
        if event.is_comment_only and self.comments_are_safe:
            return Mark.NOTHING
        return None if self._drops_empty else Mark.NOTHING

    def _end(self, relay: bytes, content: bool, error: WireError | None) -> Seen:
        self._over = Seen(b"", False, error is None, error)
        self._splitter.rest()
        return Seen(relay, content, error is None, error)


def _says_nothing(raw: bytes) -> bool:
    event = parse_event(raw)
    return not event.data and event.event != "error"


def _line_end_of(block: bytes) -> bytes:
    """How all the lines of a block end; empty if they differ, or if the block is no UTF-8."""
    if not syntax.is_utf8(block):
        return b""
    if b"\r" not in block:
        return b"\n"
    pure = block.count(b"\r\n") == block.count(b"\r") == block.count(b"\n")
    return b"\r\n" if pure else b""
