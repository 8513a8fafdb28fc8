"""The history of changes: who changed what, when, from what to what. No secret ever stands in it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gateway.store.models import HistoryRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. `at` is Unix time; `before` is None for what was added, `after` for what was removed."""

    id: int
    at: float
    actor: str
    noun: str
    name: str
    action: str
    before: dict[str, object] | None
    after: dict[str, object] | None


def latest(limit: int) -> list[Entry]:
    """The newest changes, newest first."""
    rows = HistoryRow.select().order_by(HistoryRow.id.desc()).limit(limit)
    return [
        Entry(
            id=row.id,
            at=row.at,
            actor=row.actor,
            noun=row.noun,
            name=row.name,
            action=row.action,
            before=_object(row.before),
            after=_object(row.after),
        )
        for row in rows
    ]


def _object(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None
