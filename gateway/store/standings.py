"""Standings: how targets and credentials stood when the breakers were saved last.

Every save replaces them all. With each stands when it was saved, because the clock that breakers
count by does not outlive the process.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from gateway.failover.breaker import Dump
from gateway.failover.outcome import Outcome
from gateway.routing.rule import LOCAL
from gateway.snapshot import Snapshot
from gateway.store.models import StandingRow

_AT_ONCE = 50  # rows of one statement: SQLite takes 999 values in the older versions


def replace(dump: Dump, now_wall: float) -> None:
    """Write `dump` in place of what there is, in the caller's transaction."""
    StandingRow.delete().execute()
    rows = [_of_target(row, now_wall) for row in dump["targets"]]
    rows += [_of_credential(row, now_wall) for row in dump["credentials"]]
    for start in range(0, len(rows), _AT_ONCE):
        StandingRow.insert_many(rows[start : start + _AT_ONCE]).execute()


def read(snapshot: Snapshot, now_wall: float) -> Dump:
    """What still holds. What elapsed since the saving is over; a clock that went back since then makes
    nothing longer than it was. What is about an upstream, a credential or a secret that is no longer
    there is left out, and so is what a program can't understand.
    """
    dump: Dump = {"targets": [], "credentials": []}
    known = {(c.upstream, c.id, c.version) for held in snapshot.credentials.values() for c in held}
    for row in StandingRow.select().order_by(StandingRow.id):
        if not _is_known(row, snapshot, known):
            continue
        with suppress(ValueError, TypeError):  # written by hand
            elapsed = max(0.0, now_wall - row.at)
            left = None if row.left_s is None else float(row.left_s) - elapsed
            if left is not None and not left > 0:
                continue
            outcome, count = Outcome(row.outcome).value, int(row.count)
            if row.model is None:
                key = [row.backend, row.credential_id, row.version]
                dump["credentials"].append({"key": key, "left_s": left, "strikes": count, "outcome": outcome})
            elif left is not None:
                told = max(0.0, float(row.told_s) - elapsed)
                target = {"key": [row.backend, row.credential_id, row.model, row.version], "left_s": left}
                dump["targets"].append({**target, "told_s": told, "cooldowns": count, "outcome": outcome})
    return dump


def clear(backend: str, credential_id: int | None = None) -> None:
    """Forget what there is of a backend, or of one of its credentials, in the caller's transaction."""
    query = StandingRow.delete().where(StandingRow.backend == backend)
    if credential_id is not None:
        query = query.where(StandingRow.credential_id == credential_id)
    query.execute()


def _is_known(row: StandingRow, snapshot: Snapshot, known: set[tuple[str, int, int]]) -> bool:
    if row.credential_id is not None:
        return (row.backend, row.credential_id, row.version) in known
    return row.model is not None and (row.backend == LOCAL or row.backend in snapshot.upstreams)


def _of_target(row: dict[str, Any], now_wall: float) -> dict[str, object]:
    backend, credential_id, model, version = row["key"]
    return {
        "backend": _storable(backend),
        "model": _storable(model),
        "credential_id": credential_id,
        "version": version,
        "outcome": row["outcome"],
        "at": now_wall,
        "left_s": row["left_s"],
        "told_s": row["told_s"],
        "count": row["cooldowns"],
    }


def _of_credential(row: dict[str, Any], now_wall: float) -> dict[str, object]:
    backend, credential_id, version = row["key"]
    return {
        "backend": _storable(backend),
        "model": None,
        "credential_id": credential_id,
        "version": version,
        "outcome": row["outcome"],
        "at": now_wall,
        "left_s": row["left_s"],
        "told_s": 0.0,
        "count": row["strikes"],
    }


def _storable(text: str) -> str:
    """Clients choose the names of models: PostgreSQL refuses NUL, both refuse half a character."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
