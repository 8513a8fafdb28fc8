"""PURE: the names in an upstream's list of models, whichever of the usual shapes it has."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import msgspec


@dataclass(frozen=True, slots=True)
class Page:
    """One page: the names, and after which one the next page begins (quoted for a query)."""

    names: tuple[str, ...]
    after: str | None = None


def read_models(body: bytes) -> Page | None:
    """Read `{"data": [{"id": ...}]}`, or a bare list as some providers send; None for anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        return None
    names = tuple(row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str))
    more = isinstance(value, dict) and value.get("has_more") is True
    last = value.get("last_id") if more else None
    return Page(names, quote(last, safe="") if isinstance(last, str) and last else None)
