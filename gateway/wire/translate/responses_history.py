"""PURE: the conversation that stands in front of a request, out of the responses that were kept."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.errors import RequestError
from gateway.wire.translate.responses_fields import Json


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One response that was kept: what was put in and what came out, as items."""

    response_id: str
    previous: str | None
    input_items: list[Json]
    output_items: list[Json]


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a request names of what was kept; `keeps` says that its own answer is to be kept too."""

    previous: str | None = None
    item_ids: tuple[str, ...] = ()
    keeps: bool = True


class _Item(msgspec.Struct, gc=False):
    kind: object = msgspec.field(default=None, name="type")
    id: object = None
    role: object = None


class _Head(msgspec.Struct, gc=False):
    input: msgspec.Raw = msgspec.Raw()
    previous_response_id: object = None
    store: object = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_items = msgspec.json.Decoder(list[_Item]).decode


def named_in(body: bytes) -> Named:
    """What must be looked up before a request can be translated. Nothing in it raises."""
    try:
        head = _decode_head(body)
    except (ValueError, RecursionError):
        return Named()
    previous = head.previous_response_id
    return Named(
        previous=previous if isinstance(previous, str) else None,
        item_ids=_references(head.input),
        keeps=head.store is not False,
    )


def items_before(previous: str, find: Callable[[str], Turn | None]) -> list[Json]:
    """The items of all turns up to and with `previous`, the oldest first; `instructions` are not among
    them, for they hold for one response only. Calls that were cut off are left out: nobody can answer
    them. Raises RequestError where a turn is not known (any more).
    """
    turns: list[Turn] = []
    seen: set[str] = set()
    name: str | None = previous
    while name is not None:
        turn = None if name in seen else find(name)
        if turn is None:
            raise RequestError(
                f"previous response with id {name[:64]!r} not found; send the whole conversation as input",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        seen.add(name)
        turns.append(turn)
        name = turn.previous
    return [item for turn in reversed(turns) for item in (*turn.input_items, *_answered(turn.output_items))]


def _answered(items: list[Json]) -> list[Json]:
    calls = ("function_call", "custom_tool_call")
    return [i for i in items if not (i.get("type") in calls and i.get("status") == "incomplete")]


def _references(raw: msgspec.Raw) -> tuple[str, ...]:
    try:
        items = _decode_items(raw)
    except (ValueError, RecursionError):
        return ()
    ids = (
        item.id
        for item in items
        if item.kind == "item_reference" or (item.kind is None and item.role is None)
    )
    return tuple(dict.fromkeys(found for found in ids if isinstance(found, str)))
