"""PURE: the rest of a broken answer, rewritten so that the client goes on reading the one it had begun.

The beginning of the second stream is left out, and so is what it thought: the client is past that. What
remains bears the first stream's names and the number of the block that is open. Usage stays as it comes,
so that it counts what the target that went on has done: the first one died before it told its own.
"""

from __future__ import annotations

import json

from gateway.wire.api import Api
from gateway.wire.events import DONE
from gateway.wire.spans import Edits, Value, encode, read
from gateway.wire.spoken import REASONING, Spoken, tail_of
from gateway.wire.sse import SseSplitter, parse_event
from gateway.wire.sse import encode as frame

_THINKING = ("thinking", "redacted_thinking")
_PAST = frozenset({"role", *REASONING})  # what a delta tells of before its text
_NOTHING = (b"null", b'""', b"[]", b"{}")


class Mismatch(ValueError):  # noqa: N818 - nothing is wrong with either text
    """A replay did not repeat what the client has been told already."""


class Splicer:
    """Rewrites the events of one continuation, which must be of the same API as the broken answer.

    `drop` is for an answer that is computed again from an earlier point: so many characters at its
    beginning are the end of the text that was sent. Otherwise it goes on where that ended; blanks that
    `continued_body` could not send may come once more and are left out then.
    """

    def __init__(self, api: Api, spoken: Spoken, *, drop: int = 0) -> None:
        if not 0 <= drop <= len(spoken.text):
            raise ValueError(f"{drop} characters can't be dropped, {len(spoken.text)} were sent")
        self._rewrite = self._of_messages if api is Api.MESSAGES else self._of_chunk
        self._is_messages = api is Api.MESSAGES
        self._identity = spoken.identity
        self._expected = spoken.text[len(spoken.text) - drop :]
        self._tail = "" if drop else tail_of(api, spoken)
        self._open = spoken.index if spoken.is_open else None
        self._next = spoken.index + 1
        self._joined = False  # has their first text found its block?
        self._waits = False  # that block is a new one, and not begun yet
        self._blocks: dict[int, int | None] = {}  # theirs to ours; None is left out
        self._splitter = SseSplitter()

    def feed(self, event_data: bytes) -> list[bytes]:
        """The data of one event in, the data of those that the client is to have out: none or one, or two
        where a block must be ended first. Raises Mismatch.
        """
        if event_data.strip() == DONE:
            self._end()
            return [event_data]
        value = read(event_data)
        return [event_data] if value is None else self._rewrite(value)

    def feed_raw(self, chunk: bytes) -> bytes:
        """The same for bytes of the stream, cut anywhere; what comes out are whole events. Comments pass."""
        out = []
        for raw in self._splitter.feed(chunk):
            event = parse_event(raw)
            if event.data:
                out += [frame(data, self._name_of(data)) for data in self.feed(event.data)]
            elif event.is_comment_only:
                out.append(raw)
        return b"".join(out)

    def _name_of(self, data: bytes) -> str | None:
        value = read(data) if self._is_messages else None
        return None if value is None else value.said("type")

    def _fresh(self, piece: str) -> str:
        """What of a piece of the text the client does not have yet."""
        if self._expected:
            size = min(len(piece), len(self._expected))
            if piece[:size] != self._expected[:size]:
                raise Mismatch("the answer that was computed again is another one")
            self._expected = self._expected[size:]
            return piece[size:]
        if self._tail and piece:
            size = 0
            while size < min(len(piece), len(self._tail)) and piece[size] == self._tail[size]:
                size += 1
            self._tail = self._tail[size:] if size == len(piece) else ""
            return piece[size:]
        return piece

    def _end(self) -> None:
        """The text is over. It must have come as far as the client is."""
        if self._expected:
            raise Mismatch("the answer that was computed again is shorter than what was sent")

    # --- OpenAI's chat and completions

    def _of_chunk(self, chunk: Value) -> list[bytes]:
        members = chunk.members()
        choices = members.get("choices")
        if choices is None:
            return [chunk.data]  # an error, or nothing that is known
        edits = Edits(chunk.data)
        kept = _is_something(members.get("usage"))
        for choice in choices.children():
            kept = self._choice(choice, edits) or kept
        if not kept:
            return []
        if "system_fingerprint" in members and "system_fingerprint" not in self._identity:
            edits.drop_members(chunk, ("system_fingerprint",))
        for key, raw in self._identity.items():
            if key in members:
                edits.replace(members[key], raw)
        return [edits.made()]

    def _choice(self, choice: Value, edits: Edits) -> bool:
        """Is there something in it for the client?"""
        members = choice.members()
        over = _is_something(members.get("finish_reason"))
        kept = self._text(members.get("text"), edits)
        inner = members["delta"].members() if "delta" in members else {}
        for key, member in inner.items():
            if key == "content":
                kept = self._text(member, edits) or kept
            elif key not in _PAST and _is_something(member):
                kept = True
        if not _PAST.isdisjoint(inner):
            edits.drop_members(members["delta"], _PAST)
        if over:
            self._end()
        return kept or over

    def _text(self, value: Value | None, edits: Edits) -> bool:
        said = None if value is None else value.text()
        if value is None or said is None:
            return _is_something(value)
        fresh = self._fresh(said)
        if fresh != said:
            edits.replace(value, encode(fresh))
        return bool(fresh)

    # --- Anthropic's messages

    def _of_messages(self, event: Value) -> list[bytes]:
        match event.said("type"):
            case "message_start":
                return []
            case "content_block_start":
                return self._start(event)
            case "content_block_delta":
                return self._delta(event)
            case "content_block_stop":
                ours = self._ours(event)
                if ours is None or self._waits:
                    self._waits = False
                    return []
                self._open = None if ours == self._open else self._open
                return [_numbered(event, ours)]
            case "message_delta":
                self._end()
                return [*self._close(), event.data]
        return [event.data]

    def _start(self, event: Value) -> list[bytes]:
        theirs, block = _index(event), event.get("content_block")
        kind = None if block is None else block.said("type")
        if kind in _THINKING:
            self._blocks[theirs] = None
            return []
        if kind == "text" and not self._joined:
            self._joined = True
            self._waits = self._open is None
            self._blocks[theirs] = ours = self._next if self._open is None else self._open
            fresh = self._fresh(block.said("text") or "") if block is not None else ""
            return [*self._begin(), _delta_of(ours, fresh)] if fresh else []
        self._end()
        closed, self._waits = self._close(), False
        ours, self._next = self._next, self._next + 1
        self._blocks[theirs] = ours
        return [*closed, _numbered(event, ours)]

    def _delta(self, event: Value) -> list[bytes]:
        ours, delta = self._ours(event), event.get("delta")
        if ours is None:
            return []
        edits = Edits(event.data)
        text = delta.get("text") if delta is not None and delta.said("type") == "text_delta" else None
        if text is not None and not self._text(text, edits):
            return []
        return [*self._begin(), _numbered(event, ours, edits)]

    def _begin(self) -> list[bytes]:
        """Begin the block that waits for its text: all that has come of it may have been sent before."""
        if not self._waits:
            return []
        self._waits, ours, self._next = False, self._next, self._next + 1
        start = b'{"type":"content_block_start","index":%d,"content_block":{"type":"text","text":""}}'
        return [start % ours]

    def _ours(self, event: Value) -> int | None:
        theirs = _index(event)
        return self._blocks.get(theirs, theirs)

    def _close(self) -> list[bytes]:
        """End the block that the broken stream has left open, if nothing else did."""
        ours, self._open = self._open, None
        return [] if ours is None else [b'{"type":"content_block_stop","index":%d}' % ours]


def _is_something(value: Value | None) -> bool:
    return value is not None and value.raw not in _NOTHING


def _index(event: Value) -> int:
    member = event.get("index")
    return int(member.raw) if member is not None and member.raw.isdigit() else 0


def _numbered(event: Value, index: int, edits: Edits | None = None) -> bytes:
    edits = Edits(event.data) if edits is None else edits
    member = event.get("index")
    if member is not None:
        edits.replace(member, str(index).encode())
    return edits.made()


def _delta_of(index: int, text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return json.dumps({"type": "content_block_delta", "index": index, "delta": delta}).encode()
