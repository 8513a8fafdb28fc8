"""PURE: lists of models as clients read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gateway.wire.dialect import Dialect

_EPOCH = "1970-01-01T00:00:00Z"  # Anthropic's word for a date that is not known


class ModelEntry(msgspec.Struct, frozen=True, gc=False):
    """A model as a list names it; `owned_by` says where it would be served."""

    id: str
    owned_by: str


def model_list(dialect: Dialect, entries: Iterable[ModelEntry]) -> bytes:
    """The body of GET /v1/models, all on one page."""
    data = [_entry(dialect, entry) for entry in entries]
    if dialect is Dialect.OPENAI:
        return msgspec.json.encode({"object": "list", "data": data})
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return msgspec.json.encode({"data": data, "has_more": False, "first_id": first, "last_id": last})


def model_one(dialect: Dialect, entry: ModelEntry) -> bytes:
    """The body of GET /v1/models/ID."""
    return msgspec.json.encode(_entry(dialect, entry))


def _entry(dialect: Dialect, entry: ModelEntry) -> Mapping[str, object]:
    if dialect is Dialect.OPENAI:
        return {"id": entry.id, "object": "model", "created": 0, "owned_by": entry.owned_by}
    return {"type": "model", "id": entry.id, "display_name": entry.id, "created_at": _EPOCH}
