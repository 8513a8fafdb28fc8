"""PURE: the chunks of a chat completion as the events of one of Anthropic's messages.

Anthropic's blocks come one after the other, a chat's calls may come interleaved: one call is open, and a
later one waits until the arguments of the open one are whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.events import DONE
from gateway.wire.translate.call_queue import CallQueue
from gateway.wire.translate.chat_reply import ending, signed_thoughts, text_of
from gateway.wire.translate.fields import decode, encode
from gateway.wire.translate.names import ToolNames, message_id
from gateway.wire.translate.reasons import stop_reason
from gateway.wire.translate.tokens import messages_usage


class _Delta(msgspec.Struct, gc=False):
    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    refusal: object = None
    tool_calls: object = None
    thinking_blocks: object = None


class _Choice(msgspec.Struct, gc=False):
    index: object = None
    delta: _Delta | None = None
    finish_reason: object = None
    stop_reason: object = None


class _Chunk(msgspec.Struct, gc=False):
    name: object = msgspec.field(default=None, name="id")
    model: object = None
    choices: list[_Choice] | None = None
    usage: object = None


_decode = msgspec.json.Decoder(_Chunk).decode
_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":'
)
_END = b"}}\n\n"


class MessageStream:
    """Takes a chat's chunks, gives framed events. The reason for the end is told at the very end, together
    with the usage, which a chat tells last.
    """

    def __init__(self, names: ToolNames) -> None:
        self.stops: list[str] = []
        self._calls = CallQueue(names)
        self._started = False
        self._open: str | None = None  # the kind of the block that is open
        self._blocks = 0  # that have begun
        self._prefix = b""  # what a delta of the open block begins with
        self._usage: dict[str, Any] = {}
        self._reason: object = None
        self._stopped_by: object = None
        self._refusal = ""

    def event(self, data: bytes, name: str | None) -> bytes:
        """One chunk as no, one or several events."""
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            return self._read_odd(data)
        if isinstance(chunk.usage, dict):
            self._usage = chunk.usage
        made = b""
        if not self._started and (chunk.choices or chunk.name):
            made = self._start(chunk)
        for choice in chunk.choices or ():
            if choice.index in (0, None):
                made += self._choice(choice)
        return made

    def end(self) -> bytes:
        """The reason for the end, the usage, and the stop."""
        made = b"" if self._started else self._start(_Chunk())
        made += self._close()
        reason = stop_reason(self._reason, called=self._calls.any, refused=bool(self._refusal))
        ends = ending(reason, self._stopped_by, self.stops, self._refusal)
        return (
            made
            + _event("message_delta", {"delta": ends, "usage": messages_usage(self._usage)})
            + _event("message_stop", {})
        )

    def _start(self, chunk: _Chunk) -> bytes:
        self._started = True
        self._calls.prefix = message_id(chunk.name).removeprefix("msg_")
        message: dict[str, Any] = {
            "id": message_id(chunk.name),
            "type": "message",
            "role": "assistant",
            "model": chunk.model if isinstance(chunk.model, str) else "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": messages_usage(self._usage),
        }
        return _event("message_start", {"message": message})

    def _choice(self, choice: _Choice) -> bytes:
        delta = choice.delta
        made = b"" if delta is None else self._pieces(delta)
        if choice.finish_reason:
            self._reason = choice.finish_reason
            self._stopped_by = choice.stop_reason
            made += self._close()
        return made

    def _pieces(self, delta: _Delta) -> bytes:
        made = b""
        if delta.reasoning_content or delta.reasoning:
            thought = text_of(delta.reasoning_content) or text_of(delta.reasoning)
            made += self._piece("thinking", thought)
        if delta.thinking_blocks:
            made += self._sign(delta.thinking_blocks)
        if delta.content:
            made += self._piece("text", text_of(delta.content))
        if delta.refusal:
            refusal = text_of(delta.refusal)
            self._refusal += refusal
            made += self._piece("text", refusal)
        if delta.tool_calls and isinstance(delta.tool_calls, list):
            made += self._call(delta.tool_calls)
        return made

    def _piece(self, kind: str, text: str) -> bytes:
        """A piece of text or thinking, in a block of its kind."""
        if not text:
            return b""
        made = b""
        if self._open != kind:
            signature = {"signature": ""} if kind == "thinking" else {}
            made = self._close() + self._begin(kind, {"type": kind, kind: "", **signature})
        return b"".join((made, self._prefix, encode(text), _END))

    def _sign(self, blocks: object) -> bytes:
        """Signatures close the thinking that they belong to, whose words have come before."""
        made = b""
        for block in signed_thoughts({"thinking_blocks": blocks}):
            if block["type"] == "redacted_thinking":
                made += self._close() + self._begin("redacted_thinking", block) + self._close()
            elif block["signature"]:
                if self._open != "thinking":
                    begun = {"type": "thinking", "thinking": "", "signature": ""}
                    made += self._close() + self._begin("thinking", begun)
                delta = {"type": "signature_delta", "signature": block["signature"]}
                made += _event("content_block_delta", {"index": self._blocks - 1, "delta": delta})
                made += self._close()
        return made

    def _call(self, deltas: list[Any]) -> bytes:
        made = b""
        if self._open not in (None, "tool_use"):
            made = self._close()
        for delta in deltas:
            if isinstance(delta, dict):
                arguments = self._calls.take(delta)
                if arguments:
                    made += b"".join((self._prefix, encode(arguments), _END))
        return made + self._advance(all_of_them=False)

    def _advance(self, *, all_of_them: bool) -> bytes:
        """Begin the calls that are due."""
        made = b""
        while (block := self._calls.next(forced=all_of_them)) is not None:
            made += self._close_block() + self._begin("tool_use", block)
            arguments = self._calls.held()
            if arguments:
                made += b"".join((self._prefix, encode(arguments), _END))
        return made

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        index = self._blocks
        self._blocks += 1
        self._open = kind
        delta, key = _DELTAS.get(kind, ("", ""))
        self._prefix = _DELTA % (index, delta.encode(), key.encode())
        return _event("content_block_start", {"index": index, "content_block": block})

    def _close(self) -> bytes:
        """End what is open, and before it all calls that still wait."""
        waiting = self._advance(all_of_them=True)
        self._calls.close()
        return waiting + self._close_block()

    def _close_block(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", {"index": self._blocks - 1})

    def _read_odd(self, data: bytes) -> bytes:
        """The end, or a chunk in which something has an unusual type."""
        if data.lstrip().startswith(DONE):
            return b""
        value = decode(data)
        if not isinstance(value, dict):
            return b""
        choices = value.get("choices")
        items = choices if isinstance(choices, list) else ()
        found = [_loose_choice(item) for item in items if isinstance(item, dict)]
        head = {"id": value.get("id"), "model": value.get("model"), "usage": value.get("usage")}
        return self.event(encode({**head, "choices": found}), None)


_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


def _loose_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {**choice, "delta": choice["delta"] if isinstance(choice.get("delta"), dict) else None}


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode({"type": kind, **fields}))
