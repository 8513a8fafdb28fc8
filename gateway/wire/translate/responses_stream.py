"""PURE: the answer of a chat, chunk by chunk, as the events of a response and as its items.

A whole reply is a single chunk here, so that both ways lead to the same response. Text and reasoning
end when something of another kind begins; calls stay open to the end, because their pieces may come
in any order.
"""

from __future__ import annotations

import msgspec

from gateway.wire.translate.responses_chunk import Call, Choice, Chunk
from gateway.wire.translate.responses_events import EventWriter
from gateway.wire.translate.responses_fields import Json
from gateway.wire.translate.responses_names import Names
from gateway.wire.translate.responses_output import REFUSAL, TEXT, THOUGHT, CalledItem, OutputItem, SpokenItem
from gateway.wire.translate.responses_probs import read_probs
from gateway.wire.translate.responses_reply import ReplyForm, incomplete_reason
from gateway.wire.translate.responses_tools import Tooling


class _Pending(msgspec.Struct, gc=False):
    """A call of which pieces have come; `item` is there once its name is known."""

    id: str = ""
    arguments: str = ""
    item: CalledItem | None = None


class AnswerStream:
    """Takes chunks in order; `end` gives what is missing and fills `response`."""

    def __init__(self, form: ReplyForm, names: Names, tooling: Tooling) -> None:
        self._form = form
        self._names = names
        self._tooling = tooling
        self._writer = EventWriter()
        self._begun = False
        self._items: list[OutputItem] = []
        self._spoken: SpokenItem | None = None  # the one that is open
        self._kind = ""
        self._calls: list[_Pending] = []
        self._called: dict[int | None, _Pending] = {}  # by the number that the chat last gave them
        self._call_ids: set[str] = set()
        self._usage: Json = {}
        self._finish: object = None
        self.response: Json | None = None

    def take(self, chunk: Chunk) -> bytes:
        """The events that a chunk comes to."""
        if self.response is not None:
            return b""
        out = b"" if self._begun else self._begin(chunk)
        if isinstance(chunk.usage, dict):
            self._usage.update((key, value) for key, value in chunk.usage.items() if value is not None)
        for choice in chunk.choices or ():
            if not choice.index:  # a second choice was never asked for
                out += self._choice(choice)
        return out

    def end(self) -> bytes:
        """The rest: what is open ends, then the response as a whole. A second time nothing."""
        if self.response is not None:
            return b""
        out = b"" if self._begun else self._begin(None)
        for call in self._calls:
            if call.item is None and (call.id or call.arguments):  # it never got a name
                out += self._begin_call(call, "")
        if not self._items:  # nothing was said, and a message says so
            out += self._switch("message") + self._message().open(TEXT)
        cut = incomplete_reason(self._finish) is not None
        still: list[OutputItem] = [call.item for call in self._calls if call.item is not None]
        if self._spoken is not None:
            still.append(self._spoken)
            still.sort(key=self._items.index)
        for item in still:
            out += item.end("incomplete" if cut and item is self._items[-1] else "completed")
        output = [item.value for item in self._items]
        self.response = self._form.ended(output, finish=self._finish, usage=self._usage)
        kind = "incomplete" if cut else "completed"
        return out + self._writer.event(kind, response=self.response)

    def _begin(self, chunk: Chunk | None) -> bytes:
        self._begun = True
        if chunk is not None and isinstance(chunk.model, str) and chunk.model:
            self._form.model = chunk.model
        begun = self._form.begun()
        return b"".join(self._writer.event(kind, response=begun) for kind in ("created", "in_progress"))

    def _choice(self, choice: Choice) -> bytes:
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
        delta = choice.delta if choice.delta is not None else choice.message
        if delta is None:
            return b""
        out = b""
        if thought := _text(delta.reasoning_content) or _text(delta.reasoning):
            out += self._switch("reasoning") + self._message().say(THOUGHT, thought, [])
        if said := _text(delta.content):
            probs = read_probs(choice.logprobs.content) if choice.logprobs is not None else []
            out += self._switch("message") + self._message().say(TEXT, said, probs)
        if refused := _text(delta.refusal):
            out += self._switch("message") + self._message().say(REFUSAL, refused, [])
        for place, call in enumerate(delta.tool_calls or ()):
            if delta is choice.message:  # whole calls bear no numbers
                call.index = place
            out += self._call(call)
        return out

    def _message(self) -> SpokenItem:
        assert self._spoken is not None  # `_switch` has seen to it
        return self._spoken

    def _switch(self, kind: str) -> bytes:
        """Make a spoken item of that kind the open one, or none of them (`call`)."""
        if kind == self._kind:
            return b""
        out = b"" if self._spoken is None else self._spoken.end("completed")
        self._kind, self._spoken = kind, None
        if kind == "call":
            return out
        make, prefix = (SpokenItem.message, "msg") if kind == "message" else (SpokenItem.reasoning, "rs")
        self._spoken = make(self._writer, self._names.give(prefix), len(self._items))
        self._items.append(self._spoken)
        return out + self._spoken.begin()

    def _call(self, piece: Call) -> bytes:
        function = piece.function
        name = _text(function.name) if function is not None else ""
        call = self._pending(piece, name)
        if isinstance(piece.id, str) and not call.id:
            call.id = piece.id
        arguments = _arguments(function.arguments) if function is not None else ""
        if call.item is not None:
            return call.item.more(arguments) if arguments else b""
        call.arguments += arguments
        return self._begin_call(call, name) if name else b""

    def _pending(self, piece: Call, name: str) -> _Pending:
        """The call that a piece belongs to."""
        number = piece.index if isinstance(piece.index, int) else None
        call = self._called.get(number)
        if call is not None and _is_another(call, piece, name):
            call = next((known for known in self._calls if known.id and known.id == piece.id), None)
        if call is None:
            call = _Pending()
            self._calls.append(call)
        self._called[number] = call
        return call

    def _begin_call(self, call: _Pending, name: str) -> bytes:
        out = self._switch("call")
        call_id = call.id
        if not call_id or call_id in self._call_ids:  # clients tell calls apart by it
            call_id = self._names.give("call")
        self._call_ids.add(call_id)
        custom = name in self._tooling.custom
        space, own = self._tooling.spaces.get(name, (None, name))
        value: Json = {
            "id": self._names.give("ctc" if custom else "fc"),
            "type": "custom_tool_call" if custom else "function_call",
            "call_id": call_id,
            "name": own,
        }
        if space is not None:
            value["namespace"] = space
        call.item = CalledItem(self._writer, value, len(self._items), custom=custom)
        self._items.append(call.item)
        out += call.item.begin()
        return out + call.item.more(call.arguments) if call.arguments else out


def _is_another(call: _Pending, piece: Call, name: str) -> bool:
    """Is a piece of the same number another call's? Some servers give all calls one number, or none, and
    then maybe no ids either (Gemini); others say the name again with each piece.
    """
    if not name or call.item is None:
        return False
    if isinstance(piece.id, str) and piece.id:
        return piece.id != call.id
    return piece.function is not None and bool(piece.function.arguments) and call.item.is_complete


def _text(value: object) -> str:
    """A text, as a string or as a list of parts (Mistral); empty if it is neither."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _arguments(value: object) -> str:
    """The arguments as text; some servers send the object itself."""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return value if isinstance(value, str) else ""
