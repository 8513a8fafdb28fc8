"""PURE: what one event of a stream means to whoever relays it; the rules of streams that are unknown.

A subclass per API knows its shapes. Here stands what they share: an event is decoded into a few
fields, and where that fails the standard library is asked, whose word is final, because clients use
it or its like. So odd types are never an error, and what no client could parse always is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Final, Generic, TypeVar

import msgspec

from gateway.wire import syntax
from gateway.wire.failure import WireError, error_of, malformed, read_error
from gateway.wire.usage import Usage, read_usage

DONE = b"[DONE]"


class Mark(Enum):
    """What an event is to the relay."""

    NOTHING = "nothing"  # a role, a ping, a lifecycle event, anything unknown
    CONTENT = "content"  # a piece of the answer
    END = "end"  # the terminal event
    BROKEN = "broken"  # an error, or bytes that no client can read: `error` says which


ShapeT = TypeVar("ShapeT", bound=msgspec.Struct)


class Events(ABC, Generic[ShapeT]):
    """Reads a stream's events in order and remembers what they said."""

    eof_is_end = False  # may the stream end without a terminal event?

    _decode: Callable[[bytes], ShapeT]  # a decoder costs more to make than a stream of events to read

    def __init__(self) -> None:
        self._counted: dict[str, object] = {}
        self.finished = False  # a reason for the end has been given; the terminal event may follow
        self.error: WireError | None = None

    @property
    def usage(self) -> Usage | None:
        return read_usage(self._counted)

    def read(self, data: bytes, event: str | None) -> Mark:
        """Judge one event by its data, which is UTF-8, and the name on its event line."""
        try:
            shape = self._decode(data)
        except (ValueError, RecursionError):
            return self._read_odd(data, event)
        if len(data) >= syntax.SMALL and not syntax.is_sound(data):
            return self.unreadable()
        if event == "error":
            return self._fail(read_error(data))
        return self._judge(shape, data, event)

    def skim(self, lines: list[bytes]) -> bool | None:
        """Judge many events at once, by the data of each: is there content? None where one of them
        may be more than a piece of an answer; nothing was remembered then, and `read` is to be asked.
        """
        return None

    def fail_without_data(self) -> Mark:
        """An event line says error, and nothing else stands there."""
        return self._fail(error_of(None))

    @abstractmethod
    def _judge(self, shape: ShapeT, data: bytes, event: str | None) -> Mark:
        """What a well-formed event means."""

    @abstractmethod
    def _loosely(self, value: object) -> ShapeT | None:
        """The shape out of JSON in which something has an unusual type; None if it is no object."""

    def _done(self) -> Mark:
        """The stream says [DONE]."""
        if self.finished:
            return Mark.END
        return self._break("the stream said [DONE] before its answer was finished", code="unfinished_stream")

    def _read_odd(self, data: bytes, event: str | None) -> Mark:
        if data.lstrip().startswith(DONE):
            return self._done()
        try:
            value = syntax.parse(data)
        except ValueError:
            return self._fail(read_error(data)) if event == "error" else self.unreadable()
        if event == "error":
            return self._fail(error_of(value))
        shape = self._loosely(value)
        return Mark.NOTHING if shape is None else self._judge(shape, data, event)

    def _count(self, usage: object) -> None:
        """Keep what an event says of usage; what a later one says goes above it."""
        if isinstance(usage, dict):
            self._counted.update((key, value) for key, value in usage.items() if value is not None)

    def _fail(self, error: WireError) -> Mark:
        self.error = error
        return Mark.BROKEN

    def _break(self, message: str, *, code: str = "malformed_reply") -> Mark:
        return self._fail(malformed(message, code=code))

    def unreadable(self) -> Mark:
        """An event is nothing that a client could parse."""
        return self._break("the stream holds an event that is not valid JSON")


def loose(shape: type[ShapeT], value: object, **nested: object) -> ShapeT | None:
    """`shape` out of a JSON object whose values have any types; None out of anything else."""
    if not isinstance(value, dict):
        return None
    names = zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True)
    return shape(**{**{name: value.get(key) for name, key in names}, **nested})


class _Unknown(msgspec.Struct, gc=False):
    error: object = None
    usage: object = None
    kind: object = msgspec.field(default=None, name="type")


# Types of which each ends its stream, once and for certain. Others that sound like it (as
# "response.output_text.done", "thread.message.completed") come in the middle.
_LAST: Final = ("speech.audio.done", "transcript.text.done", "response.completed", "response.incomplete")
_FAILED: Final = ("error", "response.failed")


class OtherEvents(Events[_Unknown]):
    """A stream nobody here has rules for: all that is no error is content, and its end is an end."""

    eof_is_end = True

    _decode = msgspec.json.Decoder(_Unknown).decode

    def _judge(self, shape: _Unknown, data: bytes, event: str | None) -> Mark:
        if shape.error or shape.kind in _FAILED:
            return self._fail(read_error(data))
        self._count(shape.usage)
        return Mark.END if shape.kind in _LAST else Mark.CONTENT

    def _loosely(self, value: object) -> _Unknown | None:
        return loose(_Unknown, value)

    def _done(self) -> Mark:
        return Mark.END

    def _read_odd(self, data: bytes, event: str | None) -> Mark:
        if event == "error" or data.lstrip().startswith((b"{", DONE)):
            return super()._read_odd(data, event)
        return Mark.CONTENT  # plain text is not ours to judge
