"""PURE: messages as bytes between a gateway and its worker: four bytes of length, then MessagePack.

    gateway -> worker    `EngineSettings` first, then one `Command` a frame
    worker -> gateway    a list of `Event`s, or a `Report`

Both ends are of the same release, so there are no versions, and bytes that are no message are a
fault of the peer after which there is no going on.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.local.mailbox import Command, Counters, EngineSettings, Event, Pulse

LARGEST = 256 * 1024 * 1024  # a few times the largest body; more is not a length but garbage
_HEAD = 4


class Report(msgspec.Struct, frozen=True, tag=True):
    """A sign of life: what the worker does and what it has counted."""

    pulse: Pulse
    counters: Counters


settings_of = msgspec.msgpack.Decoder(EngineSettings).decode
command_of = msgspec.msgpack.Decoder(Command).decode
said_of = msgspec.msgpack.Decoder(list[Event] | Report).decode
_encode_into = msgspec.msgpack.Encoder().encode_into


def frame(message: EngineSettings | Command | list[Event] | Report) -> bytearray:
    """The message on the wire.

    Raises `OverflowError`, `RecursionError` or `ValueError` for what a client's JSON may hold and
    MessagePack can't: integers beyond 64 bits, a nesting that is too deep, half a character.
    """
    buffer = bytearray(_HEAD)
    _encode_into(message, buffer, _HEAD)
    size = len(buffer) - _HEAD
    if size > LARGEST:
        raise ValueError(f"a message has {size} bytes, more than {LARGEST}")
    buffer[:_HEAD] = size.to_bytes(_HEAD, "big")
    return buffer


class Splitter:
    """Finds the frames in a stream of bytes, however it was cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The contents of all frames that are complete now; take them all before you feed again.

        Raises `ValueError` for a length that can't be, behind the frames that came before it.
        """
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= _HEAD:
            end = at + _HEAD + (size := int.from_bytes(buffer[at : at + _HEAD], "big"))
            if size > LARGEST:
                raise ValueError(f"a frame claims {size} bytes, more than {LARGEST}")
            if len(buffer) < end:
                break
            yield bytes(buffer[at + _HEAD : end])
            at = end
        del buffer[:at]
