"""PURE: the items of an answer as they grow: each says what its events are and what it is in the end."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from gateway.wire.translate.responses_events import EventWriter
from gateway.wire.translate.responses_fields import Json


class OutputItem(Protocol):
    """One item. What the methods give is the events to be sent."""

    @property
    def value(self) -> Json:
        """The item as far as it has come."""

    def begin(self) -> bytes: ...

    def end(self, status: str) -> bytes:
        """The last events; `status` is completed or incomplete."""


class Part(msgspec.Struct, frozen=True):
    """A kind of part: the names of its events, and of the key that holds its text."""

    kind: str
    events: str
    key: str


TEXT = Part("output_text", "output_text", "text")
REFUSAL = Part("refusal", "refusal", "refusal")
THOUGHT = Part("reasoning_text", "reasoning_text", "text")


class SpokenItem:
    """A message or a reasoning item: parts of text, one after the other."""

    def __init__(self, writer: EventWriter, value: Json, index: int) -> None:
        self._writer = writer
        self._value = value
        self._index = index
        self._parts: list[Json] = []
        self._part: Part | None = None
        self._texts: list[str] = []
        self._probs: list[Json] = []
        self._place: Json = {}
        self._head = b""

    @classmethod
    def message(cls, writer: EventWriter, name: str, index: int) -> SpokenItem:
        return cls(writer, {"id": name, "type": "message", "role": "assistant"}, index)

    @classmethod
    def reasoning(cls, writer: EventWriter, name: str, index: int) -> SpokenItem:
        return cls(writer, {"id": name, "type": "reasoning", "summary": []}, index)

    @property
    def value(self) -> Json:
        return self._value

    def begin(self) -> bytes:
        self._value |= {"status": "in_progress", "content": []}
        return self._writer.event("output_item.added", output_index=self._index, item=self._value)

    def say(self, part: Part, delta: str, probs: list[Json]) -> bytes:
        """Add to the part of that kind, which a part of another kind has ended."""
        if part is self._part and not probs:
            self._texts.append(delta)
            return self._writer.piece(self._head, delta)
        opened = b"" if part is self._part else self.open(part)
        self._texts.append(delta)
        if not probs:
            return opened + self._writer.piece(self._head, delta)
        self._probs += probs
        return opened + self._writer.piece(self._delta_head(part, probs), delta)

    def open(self, part: Part) -> bytes:
        """Begin a part, empty still."""
        closed = self._close_part()
        self._part, self._texts, self._probs = part, [], []
        self._place = {"item_id": self._value["id"], "output_index": self._index}
        self._place["content_index"] = len(self._parts)
        self._head = self._delta_head(part, [])
        empty = self._shown(part, "")
        return closed + self._writer.event("content_part.added", **self._place, part=empty)

    def end(self, status: str) -> bytes:
        closed = self._close_part()
        self._value |= {"status": status, "content": self._parts}
        return closed + self._writer.event("output_item.done", output_index=self._index, item=self._value)

    def _delta_head(self, part: Part, probs: list[Json]) -> bytes:
        more = {"logprobs": probs} if part is TEXT else {}
        return self._writer.head(f"{part.events}.delta", **self._place, **more)

    def _close_part(self) -> bytes:
        part, self._part = self._part, None
        if part is None:
            return b""
        whole = "".join(self._texts)
        shown = self._shown(part, whole)
        self._parts.append(shown)
        more = {"logprobs": self._probs} if part is TEXT else {}
        return self._writer.event(
            f"{part.events}.done", **self._place, **{part.key: whole}, **more
        ) + self._writer.event("content_part.done", **self._place, part=shown)

    def _shown(self, part: Part, whole: str) -> Json:
        shown: Json = {"type": part.kind, part.key: whole}
        return {**shown, "annotations": [], "logprobs": self._probs} if part is TEXT else shown


class CalledItem:
    """A call of a function, or of a custom tool that a function stands for.

    A custom tool's input is known when its arguments are complete: it comes as a single piece.
    """

    def __init__(self, writer: EventWriter, value: Json, index: int, *, custom: bool) -> None:
        self._writer = writer
        self._value = value
        self._index = index
        self._custom = custom
        self._arguments: list[str] = []
        self._place: Json = {"item_id": value["id"], "output_index": index}
        self._head = writer.head("function_call_arguments.delta", **self._place)

    @property
    def value(self) -> Json:
        return self._value

    @property
    def is_complete(self) -> bool:
        """Are the arguments a whole object?"""
        try:
            return isinstance(msgspec.json.decode("".join(self._arguments)), dict)
        except (ValueError, RecursionError):
            return False

    def begin(self) -> bytes:
        self._value |= {"status": "in_progress", "input" if self._custom else "arguments": ""}
        return self._writer.event("output_item.added", output_index=self._index, item=self._value)

    def more(self, arguments: str) -> bytes:
        self._arguments.append(arguments)
        return b"" if self._custom else self._writer.piece(self._head, arguments)

    def end(self, status: str) -> bytes:
        arguments = "".join(self._arguments)
        done = self._custom_done(arguments) if self._custom else self._done(arguments)
        self._value["status"] = status
        return done + self._writer.event("output_item.done", output_index=self._index, item=self._value)

    def _done(self, arguments: str) -> bytes:
        self._value["arguments"] = arguments
        return self._writer.event(
            "function_call_arguments.done", **self._place, name=self._value["name"], arguments=arguments
        )

    def _custom_done(self, arguments: str) -> bytes:
        written = custom_input(arguments)
        self._value["input"] = written
        delta = b""
        if written:
            delta = self._writer.piece(
                self._writer.head("custom_tool_call_input.delta", **self._place), written
            )
        return delta + self._writer.event("custom_tool_call_input.done", **self._place, input=written)


def custom_input(arguments: str) -> str:
    """What a custom tool is given: the string `input`; all that came if the model did not write one."""
    try:
        found: Any = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    written = found.get("input") if isinstance(found, dict) else None
    return written if isinstance(written, str) else arguments
