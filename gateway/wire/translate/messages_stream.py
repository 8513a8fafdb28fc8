"""PURE: the events of one of Anthropic's messages as the chunks of a chat completion."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.translate.fields import decode, encode
from gateway.wire.translate.messages_reply import annotation
from gateway.wire.translate.names import ToolNames, chat_id
from gateway.wire.translate.reasons import explanation, finish_reason
from gateway.wire.translate.tokens import chat_tier, chat_usage

_DONE = b"data: [DONE]\n\n"


class _Part(msgspec.Struct, gc=False):
    kind: object = msgspec.field(default=None, name="type")
    text: object = None
    thinking: object = None
    partial_json: object = None
    signature: object = None
    citation: object = None


class _Event(msgspec.Struct, gc=False):
    """What most events are; the rare ones are read as what they are."""

    kind: object = msgspec.field(default=None, name="type")
    index: object = None
    delta: _Part | None = None


_decode = msgspec.json.Decoder(_Event).decode
_PIECES = ("text", "thinking", "partial_json", "signature", "citation")


class _Block:
    """A content block that has begun."""

    __slots__ = ("call", "citations", "given", "kind", "said", "signature", "start", "told")

    def __init__(self, kind: object, start: int) -> None:
        self.kind = kind
        self.start = start  # where its text begins in the whole text
        self.citations: list[object] = []
        self.call: int | None = None  # its place among the calls
        self.given: object = None  # the input that it began with
        self.told = False  # have arguments come since?
        self.said: list[str] = []  # of thinking
        self.signature = ""


class ChatStream:
    """Takes Anthropic's events, gives framed chunks. The reason for the end goes out when it comes, the
    usage and [DONE] at the very end.
    """

    def __init__(self, created: int, names: ToolNames, *, include_usage: bool) -> None:
        self.include_usage = include_usage
        self._created = created
        self._names = names
        self._head: bytes = b""
        self._tail: bytes = b""
        self._values: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[object, _Block] = {}
        self._calls = self._thoughts = self._notes = self._length = 0
        self._finished = False

    def event(self, data: bytes, name: str | None) -> bytes:
        """One event as no, one or several chunks."""
        try:
            shape = _decode(data)
        except (ValueError, RecursionError):
            return self._read_odd(data, name)
        kind = shape.kind if isinstance(shape.kind, str) else name
        if kind == "content_block_delta":
            return self._delta(shape)
        return self._other(kind, data)

    def end(self) -> bytes:
        """What comes last: the reason if there was none, the usage where it was asked for, [DONE]."""
        made = b"" if self._finished else self._finish(None)
        if self.include_usage:
            usage = encode({**self._values, "choices": [], "usage": chat_usage(self._usage)})
            made += b"data: " + usage + b"\n\n"
        return made + _DONE

    def _delta(self, shape: _Event) -> bytes:
        delta = shape.delta
        if delta is None:
            return b""
        if isinstance(delta.text, str):
            return self._text(delta.text)
        block = self._blocks.get(shape.index) if isinstance(shape.index, int) else None
        if isinstance(delta.thinking, str):
            if block is not None:
                block.said.append(delta.thinking)
            return self._chunk(b'"reasoning_content":', delta.thinking) if delta.thinking else b""
        if block is None:
            return b""
        if isinstance(delta.partial_json, str):
            return self._arguments(block, delta.partial_json)
        if isinstance(delta.signature, str):
            block.signature += delta.signature
        elif delta.citation is not None:
            block.citations.append(delta.citation)
        return b""

    def _text(self, text: str) -> bytes:
        self._length += len(text)
        return self._chunk(b'"content":', text) if text else b""

    def _arguments(self, block: _Block, text: str) -> bytes:
        if not text or block.call is None:
            return b""
        block.told = True
        call = {"index": block.call, "function": {"arguments": text}}
        return self._chunk(b'"tool_calls":', [call])

    def _other(self, kind: str | None, data: bytes) -> bytes:
        if kind not in ("message_start", "content_block_start", "content_block_stop", "message_delta"):
            return b""  # pings, the stop, what is not known yet
        event: dict[str, Any] = decode(data)  # an object, as the caller has seen
        match kind:
            case "message_start":
                return self._start(_inside(event, "message"))
            case "content_block_start":
                return self._begin(event.get("index"), _inside(event, "content_block"))
            case "content_block_stop":
                return self._stop(event.get("index"))
        self._count(event)
        delta = _inside(event, "delta")
        if not delta.get("stop_reason") or self._finished:
            return b""
        return self._finish(delta)

    def _start(self, message: dict[str, Any]) -> bytes:
        self._count(message)
        model = message.get("model")
        self._values = {
            "id": chat_id(message.get("id")),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": model if isinstance(model, str) else "",
        }
        tier = chat_tier(self._usage)
        if tier is not None:
            self._values["service_tier"] = tier
        self._head = b"data: " + encode(self._values)[:-1] + b',"choices":[{"index":0,"delta":{'
        closing = b',"usage":null}\n\n' if self.include_usage else b"}\n\n"
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + closing
        return b"".join((self._head, b'"role":"assistant","content":"","refusal":null', self._tail))

    def _begin(self, index: object, said: dict[str, Any]) -> bytes:
        block = _Block(said.get("type"), self._length)
        self._blocks[index if isinstance(index, int) else None] = block
        match block.kind:
            case "text" if isinstance(said.get("text"), str):
                return self._text(said["text"])
            case "thinking" if isinstance(said.get("thinking"), str) and said["thinking"]:
                block.said.append(said["thinking"])
                return self._chunk(b'"reasoning_content":', said["thinking"])
            case "redacted_thinking" if isinstance(said.get("data"), str):
                return self._thought({"type": "redacted_thinking", "data": said["data"]})
            case "tool_use":
                block.call, block.given = self._calls, said.get("input")
                self._calls += 1
                name = said.get("name")
                function = {"name": self._names.back(name) if isinstance(name, str) else "", "arguments": ""}
                call = {"index": block.call, "id": str(said.get("id") or ""), "type": "function"}
                return self._chunk(b'"tool_calls":', [{**call, "function": function}])
        return b""

    def _stop(self, index: object) -> bytes:
        block = self._blocks.pop(index if isinstance(index, int) else None, None)
        if block is None:
            return b""
        if block.kind == "thinking" and block.signature:
            thinking = "".join(block.said)
            return self._thought({"type": "thinking", "thinking": thinking, "signature": block.signature})
        if block.call is not None and not block.told:  # a call without arguments, or with all of them at once
            given = block.given if isinstance(block.given, dict) else {}
            return self._arguments(block, encode(given).decode())
        return self._cited(block) if block.citations else b""

    def _cited(self, block: _Block) -> bytes:
        found = [annotation(citation, block.start, self._length) for citation in block.citations]
        notes = [{"index": self._notes + i, **note} for i, note in enumerate(filter(None, found))]
        self._notes += len(notes)
        return self._chunk(b'"annotations":', notes) if notes else b""

    def _thought(self, block: dict[str, Any]) -> bytes:
        """A whole block at once. OpenAI's client adds up lists by the index of what is in them."""
        entry = {"index": self._thoughts, **block}
        self._thoughts += 1
        return self._chunk(b'"thinking_blocks":', [entry])

    def _finish(self, delta: dict[str, Any] | None) -> bytes:
        self._finished = True
        reason = delta.get("stop_reason") if delta is not None else None
        made = b"" if self._head else self._start({})
        refusal = explanation(delta.get("stop_details")) if delta is not None else None
        if reason == "refusal" and refusal:
            made += self._chunk(b'"refusal":', refusal)
        closing = self._tail.partition(b"null}]")[2]
        end = b'},"logprobs":null,"finish_reason":"' + finish_reason(reason).encode() + b'"}]' + closing
        return made + self._head + end

    def _chunk(self, key: bytes, value: object) -> bytes:
        if not self._head:
            return self._start({}) + self._chunk(key, value)
        return b"".join((self._head, key, encode(value), self._tail))

    def _count(self, said: dict[str, Any]) -> None:
        usage = _inside(said, "usage")
        self._usage.update((key, value) for key, value in usage.items() if value is not None)

    def _read_odd(self, data: bytes, name: str | None) -> bytes:
        """An event in which something has an unusual type."""
        event = decode(data)
        if not isinstance(event, dict):
            return b""
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else name
        if kind != "content_block_delta":
            return self._other(kind, data)
        delta = _inside(event, "delta")
        part = _Part(**{key: delta.get(key) for key in _PIECES})
        return self._delta(_Event(index=event.get("index"), delta=part))


def _inside(said: dict[str, Any], name: str) -> dict[str, Any]:
    value = said.get(name)
    return value if isinstance(value, dict) else {}
