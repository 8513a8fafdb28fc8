"""PURE: OpenAI's streams: what in an event is content, and which event ends them.

The structs name only what is looked at; everything else is proven to be JSON and skipped. Their leaves
take any type, and what does not fit them even so is read loosely: odd shapes are never an error, for
what OpenAI's clients make of them is between them and the upstream.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.wire import syntax
from gateway.wire.events import Events, Mark, loose
from gateway.wire.failure import WireError, error_of, read_error


class _Delta(msgspec.Struct, gc=False):
    content: object = None
    reasoning: object = None  # Groq, OpenRouter, vLLM
    reasoning_content: object = None  # DeepSeek and those who followed
    tool_calls: object = None
    function_call: object = None
    refusal: object = None
    audio: object = None
    images: object = None  # OpenRouter


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    text: object = None  # completions
    finish_reason: object = None
    error: object = None  # OpenRouter


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    error: object = None
    usage: object = None
    noun: object = msgspec.field(default=None, name="object")
    kind: object = msgspec.field(default=None, name="type")


class ChatEvents(Events[_Chunk]):
    """`chat.completion.chunk` and `text_completion`: a finish_reason, maybe the usage, then [DONE]."""

    _decode = msgspec.json.Decoder(_Chunk).decode
    _decode_lines = staticmethod(msgspec.json.Decoder(_Chunk).decode_lines)

    def skim(self, lines: list[bytes]) -> bool | None:
        try:
            shapes = self._decode_lines(b"\n".join(lines))
        except (ValueError, RecursionError):
            return None
        if len(shapes) != len(lines):
            return None
        if max(map(len, lines)) >= syntax.SMALL and not all(map(syntax.is_sound, lines)):
            return None
        content = False
        for shape in shapes:
            if shape.error or shape.usage or shape.noun == "error" or shape.kind == "error":
                return None
            for choice in shape.choices or ():
                if choice.finish_reason or choice.error:
                    return None
                if not content:
                    delta = choice.delta
                    content = bool(choice.text or (delta is not None and (delta.content or _has_more(delta))))
        return content

    def _judge(self, shape: _Chunk, data: bytes, event: str | None) -> Mark:
        if shape.error or shape.noun == "error" or shape.kind == "error":  # vLLM once said so in `object`
            return self._fail(read_error(data))
        if shape.usage:
            self._count(shape.usage)
        content = False
        for choice in shape.choices or ():
            if choice.finish_reason or choice.error:
                if choice.finish_reason == "error" or choice.error:
                    return self._fail(_error_of_choice(choice))
                self.finished = True
            delta = choice.delta
            if choice.text or (delta is not None and (delta.content or _has_more(delta))):
                content = True
        return Mark.CONTENT if content else Mark.NOTHING

    def _loosely(self, value: object) -> _Chunk | None:
        choices = value.get("choices") if isinstance(value, dict) else None
        found = (
            [_loose_choice(c) for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
        )
        return loose(_Chunk, value, choices=found)


def _has_more(delta: _Delta) -> bool:
    if (
        delta.reasoning
        or delta.reasoning_content
        or delta.tool_calls
        or delta.function_call
        or delta.refusal
        or delta.images
    ):
        return True
    audio = delta.audio
    if isinstance(audio, dict):  # the first of them bears only a name and a date
        return any(value for key, value in audio.items() if key not in ("id", "expires_at"))
    return bool(audio)


def _loose_choice(fields: dict[str, object]) -> _Choice:
    choice = loose(_Choice, fields, delta=loose(_Delta, fields.get("delta")))
    assert choice is not None
    return choice


def _error_of_choice(choice: _Choice) -> WireError:
    if choice.error:
        return error_of({"error": choice.error})
    return WireError(message="the upstream ended its answer with an error", kind="server_error", status=500)


class _Item(msgspec.Struct, gc=False):
    kind: object = msgspec.field(default=None, name="type")


class _Response(msgspec.Struct, gc=False):
    error: object = None
    usage: object = None


class _ResponseEvent(msgspec.Struct, gc=False):
    kind: object = msgspec.field(default=None, name="type")
    delta: object = None
    item: _Item | None = None
    response: _Response | None = None
    error: object = None
    image: object = msgspec.field(default=None, name="partial_image_b64")


_ENDS: Final = ("response.completed", "response.incomplete")
# Items that hold nothing yet when they are added; any other is a call, which has begun then.
_EMPTY_WHEN_ADDED: Final = (None, "message", "reasoning")


class ResponsesEvents(Events[_ResponseEvent]):
    """The events of /v1/responses: everything is named by its type; one of two names is the last."""

    _decode = msgspec.json.Decoder(_ResponseEvent).decode

    def _judge(self, shape: _ResponseEvent, data: bytes, event: str | None) -> Mark:
        kind = shape.kind if isinstance(shape.kind, str) else event or ""
        if kind == "response.failed":
            return self._fail(_error_of_response(shape))
        if shape.error or kind == "error":
            return self._fail(read_error(data))
        if kind in _ENDS:
            if shape.response is not None:
                self._count(shape.response.usage)
            self.finished = True
            return Mark.END
        return Mark.CONTENT if _is_piece(shape, kind) else Mark.NOTHING

    def _loosely(self, value: object) -> _ResponseEvent | None:
        if not isinstance(value, dict):
            return None
        item, response = loose(_Item, value.get("item")), loose(_Response, value.get("response"))
        return loose(_ResponseEvent, value, item=item, response=response)

    def _done(self) -> Mark:
        return self._break("the stream said [DONE] without response.completed", code="unfinished_stream")


def _is_piece(shape: _ResponseEvent, kind: str) -> bool:
    if kind.endswith(".delta"):
        return bool(shape.delta)
    if kind == "response.output_item.added":
        return shape.item is not None and shape.item.kind not in _EMPTY_WHEN_ADDED
    if kind == "response.output_item.done":
        return shape.item is not None and shape.item.kind != "reasoning"
    return bool(shape.image)


def _error_of_response(shape: _ResponseEvent) -> WireError:
    if shape.response is not None and shape.response.error:
        return error_of({"error": shape.response.error})
    return WireError(message="the upstream's response failed", kind="server_error", status=500)
