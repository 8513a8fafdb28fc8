"""The responses that were made here, for `previous_response_id` and for those who ask for them again.

They are in memory only: prompts and answers are never written to the disk unless that is switched on,
and a conversation that matters is the client's to keep. The oldest go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from gateway.wire.translate.responses_history import Turn

Json = dict[str, Any]


class _Entry(NamedTuple):
    client: str
    turn: bytes  # as JSON, which takes a fraction of the memory
    response: bytes
    item_ids: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.turn) + len(self.response)


_decode_turn = msgspec.json.Decoder(Turn).decode


class Kept:
    """Responses by their id; each is seen only by the client key that it was made for. Nothing is kept
    within a limit of 0.
    """

    def __init__(self, *, limit_bytes: int = 64 << 20, limit: int = 2000) -> None:
        self._limit_bytes = limit_bytes
        self._limit = limit
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._items: dict[str, str] = {}  # the response that an item is of
        self._bytes = 0

    def keep(self, client: str, turn: Turn, response: Json) -> None:
        """Remember a response; one that is larger than all there is room for is not."""
        if not self._limit_bytes:
            return
        entry = _Entry(client, msgspec.json.encode(turn), msgspec.json.encode(response), _ids(turn))
        if entry.size > self._limit_bytes:
            return
        self._forget(turn.response_id)
        self._entries[turn.response_id] = entry
        self._bytes += entry.size
        self._items.update(dict.fromkeys(entry.item_ids, turn.response_id))
        while self._bytes > self._limit_bytes or len(self._entries) > self._limit:
            self._forget(next(iter(self._entries)))

    def turn(self, response_id: str, client: str) -> Turn | None:
        """What went into a response and came out of it; asking for it makes it the newest."""
        entry = self._of(response_id, client)
        if entry is None:
            return None
        self._entries.move_to_end(response_id)
        return _decode_turn(entry.turn)

    def knows(self, response_id: str, client: str) -> bool:
        return self._of(response_id, client) is not None

    def conversation(self, response_id: str, client: str) -> list[Json] | None:
        """The items that a response was made of: those of its own request, behind all of the turns before
        as far as they are still known.
        """
        turn = self.turn(response_id, client)
        if turn is None:
            return None
        items, seen = [*turn.input_items], {response_id}
        while turn.previous is not None and turn.previous not in seen:
            seen.add(turn.previous)
            turn = self.turn(turn.previous, client)
            if turn is None:
                break
            items = [*turn.input_items, *turn.output_items, *items]
        return items

    def response(self, response_id: str, client: str) -> bytes | None:
        """The response object as JSON."""
        entry = self._of(response_id, client)
        return None if entry is None else entry.response

    def items(self, ids: Iterable[str], client: str) -> dict[str, Json]:
        """Those of these items that are known."""
        found, ids = dict[str, Json](), frozenset(ids)
        for item_id in ids:
            turn = self.turn(self._items.get(item_id, ""), client) if item_id not in found else None
            for item in (*turn.input_items, *turn.output_items) if turn is not None else ():
                if item.get("id") in ids:
                    found[item["id"]] = item
        return found

    def delete(self, response_id: str, client: str) -> bool:
        """Forget a response; False when there is none."""
        if self._of(response_id, client) is None:
            return False
        self._forget(response_id)
        return True

    def _of(self, response_id: str, client: str) -> _Entry | None:
        entry = self._entries.get(response_id)
        return entry if entry is not None and entry.client == client else None

    def _forget(self, response_id: str) -> None:
        entry = self._entries.pop(response_id, None)
        if entry is None:
            return
        self._bytes -= entry.size
        for item_id in entry.item_ids:
            if self._items.get(item_id) == response_id:
                del self._items[item_id]


def _ids(turn: Turn) -> tuple[str, ...]:
    items = (*turn.input_items, *turn.output_items)
    return tuple(item["id"] for item in items if isinstance(item.get("id"), str))
