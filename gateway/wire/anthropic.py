"""PURE: Anthropic's streams: what in an event is content, and which event ends them."""

from __future__ import annotations

import msgspec

from gateway.wire.events import Events, Mark, loose
from gateway.wire.failure import read_error


class _Part(msgspec.Struct, gc=False):
    """A delta, or the block that is being begun; a message_delta bears its stop_reason here."""

    kind: object = msgspec.field(default=None, name="type")
    text: object = None
    thinking: object = None
    partial_json: object = None
    stop_reason: object = None


class _Message(msgspec.Struct, gc=False):
    usage: object = None


class _Event(msgspec.Struct, gc=False):
    kind: object = msgspec.field(default=None, name="type")
    delta: _Part | None = None
    content_block: _Part | None = None
    message: _Message | None = None
    usage: object = None
    error: object = None


class MessagesEvents(Events[_Event]):
    """The events of /v1/messages: a stop_reason in a message_delta, then message_stop."""

    _decode = msgspec.json.Decoder(_Event).decode

    def _judge(self, shape: _Event, data: bytes, event: str | None) -> Mark:
        kind = shape.kind if isinstance(shape.kind, str) else event
        match kind:
            case "content_block_delta":
                return Mark.CONTENT if _delta_is_piece(shape.delta) else Mark.NOTHING
            case "content_block_start":
                return Mark.CONTENT if _block_is_piece(shape.content_block) else Mark.NOTHING
            case "message_delta":
                self.finished = self.finished or (shape.delta is not None and bool(shape.delta.stop_reason))
                self._count(shape.usage)
            case "message_start":
                self._count(shape.message.usage if shape.message is not None else None)
            case "message_stop" if self.finished:
                return Mark.END
            case "message_stop":
                return self._break("the message stopped without a stop_reason", code="unfinished_stream")
            case "error":
                return self._fail(read_error(data))
            case _ if shape.error:
                return self._fail(read_error(data))
        return Mark.NOTHING

    def _loosely(self, value: object) -> _Event | None:
        if not isinstance(value, dict):
            return None
        delta, block = loose(_Part, value.get("delta")), loose(_Part, value.get("content_block"))
        message = loose(_Message, value.get("message"))
        return loose(_Event, value, delta=delta, content_block=block, message=message)

    def _done(self) -> Mark:
        return self._break("the stream said [DONE] without message_stop", code="unfinished_stream")


def _delta_is_piece(delta: _Part | None) -> bool:
    if delta is None:
        return False
    match delta.kind:
        case "text_delta" | "thinking_delta" | "input_json_delta" | None:
            return bool(delta.text or delta.thinking or delta.partial_json)
        case "signature_delta":  # closes a block of thinking; alone it says nothing
            return False
        case _:  # a citation, or something new
            return True


def _block_is_piece(block: _Part | None) -> bool:
    if block is None:
        return False
    match block.kind:
        case "text" | "thinking" | None:  # their pieces follow
            return bool(block.text or block.thinking)
        case _:  # a tool has been called, a result has come
            return True
