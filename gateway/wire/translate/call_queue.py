"""PURE: the calls of tools in a chat's stream, put one behind the other."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.translate.chat_reply import text_of
from gateway.wire.translate.fields import encode
from gateway.wire.translate.names import ToolNames


class _Call:
    __slots__ = ("call_id", "name", "said", "tested")

    def __init__(self) -> None:
        self.call_id = self.name = ""
        self.said: list[str] = []
        self.tested = 0  # so many pieces of the arguments were found to be no whole object

    def is_whole(self) -> bool:
        """Are the arguments complete? Asked when the next call has begun."""
        if self.tested == len(self.said):
            return False
        self.tested = len(self.said)
        try:
            msgspec.json.decode("".join(self.said))
        except (ValueError, RecursionError):
            return False
        return True


class CallQueue:
    """Takes the deltas of calls; tells which call is to be begun, and what may be said of the open one."""

    def __init__(self, names: ToolNames) -> None:
        self.any = False
        self.prefix = ""  # of ids that had to be made up
        self._names = names
        self._made = 0
        self._known: dict[object, _Call] = {}  # by the index in the chat's stream
        self._last: _Call | None = None
        self._open: _Call | None = None
        self._waiting: list[_Call] = []

    def take(self, delta: dict[str, Any]) -> str:
        """A delta of a call; comes back what of its arguments can be handed on now."""
        found = delta.get("function")
        function: dict[str, Any] = found if isinstance(found, dict) else {}
        call = self._of(delta)
        call.call_id = call.call_id or text_of(delta.get("id"))
        call.name = call.name or text_of(function.get("name"))
        given = function.get("arguments")
        piece = encode(given).decode() if isinstance(given, dict) else text_of(given)
        if piece:
            call.said.append(piece)
        return piece if call is self._open else ""

    def next(self, *, forced: bool) -> dict[str, Any] | None:
        """The block of the call that is to be begun now, if one is. `forced` begins it in any case."""
        if not self._waiting:
            return None
        call = self._waiting[0]
        if not forced and (not call.name or (self._open is not None and not self._open.is_whole())):
            return None
        self._open = self._waiting.pop(0)
        call_id = call.call_id or f"toolu_{self.prefix}_{self._made}"
        self._made += 1
        return {"type": "tool_use", "id": call_id, "name": self._names.back(call.name), "input": {}}

    def held(self) -> str:
        """The arguments that came while the call that is open now was waiting."""
        return "".join(self._open.said) if self._open is not None else ""

    def close(self) -> None:
        """What is open is at its end; what still comes for it is too late."""
        self._open = None

    def _of(self, delta: dict[str, Any]) -> _Call:
        """The call that a delta belongs to. Most servers number them; some number all alike, or none."""
        index, call_id = delta.get("index"), text_of(delta.get("id"))
        numbered = isinstance(index, int)
        call = self._known.get(index) if numbered else self._last
        if call is not None and call_id and call.call_id and call_id != call.call_id:
            call = None
        if call is None:
            call = _Call()
            self.any = True
            self._waiting.append(call)
            if numbered:
                self._known[index] = call
        self._last = call
        return call
