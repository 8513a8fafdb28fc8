"""How targets and credentials stand: of a running daemon what it knows now, else what was saved."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TypedDict

from gateway.admin.context import Context
from gateway.failover.breaker import Breakers, Standing
from gateway.failover.outcome import Outcome
from gateway.snapshot import Credential, Snapshot
from gateway.store import standings


class CoolingShown(TypedDict):
    """One that is left alone. Without a model it is a credential, for all its models; without
    `until_s`, seconds from now, it is for good.
    """

    backend: str
    model: str | None
    credential: str | None
    state: str
    outcome: str
    until_s: float | None
    reason: str


class StandingShown(TypedDict):
    """How a credential stands: ok, dead, unpaid, or cooling where some of its models are left alone."""

    standing: str
    until_s: float | None


async def known(context: Context) -> list[Standing]:
    """All that is left alone now."""
    if context.live is not None:
        return context.live.standings()
    snapshot, now_wall = context.store.snapshot, time.time()
    breakers = Breakers()
    breakers.load(await context.store.read(lambda: standings.read(snapshot, now_wall)), 0.0)
    return breakers.standings(0.0)


def cooling(
    found: Iterable[Standing], snapshot: Snapshot, *, backend: str | None = None
) -> list[CoolingShown]:
    """Those of one backend or of all, as JSON. What was remembered of an earlier secret counts no more."""
    versions = {(c.upstream, c.id): c for held in snapshot.credentials.values() for c in held}
    shown = []
    for standing in found:
        credential = None
        if standing.credential_id is not None:
            credential = versions.get((standing.backend, standing.credential_id))
            if credential is None or credential.version != standing.version:
                continue
        if backend in (None, standing.backend):
            shown.append(_shown(standing, credential))
    return shown


def of_credential(found: Iterable[Standing], credential: Credential) -> StandingShown:
    """How a credential stands."""
    its = [
        standing
        for standing in found
        if (standing.backend, standing.credential_id, standing.version)
        == (credential.upstream, credential.id, credential.version)
    ]
    for standing in its:
        if standing.model is None:
            return {"standing": _word(standing), "until_s": _until(standing)}
    if not its:
        return {"standing": "ok", "until_s": None}
    return {"standing": "cooling", "until_s": max(_until(standing) or 0.0 for standing in its)}


def _shown(standing: Standing, credential: Credential | None) -> CoolingShown:
    return {
        "backend": standing.backend,
        "model": standing.model,
        "credential": None if credential is None else credential.name,
        "state": _word(standing),
        "outcome": str(standing.judgement.outcome),
        "until_s": _until(standing),
        "reason": standing.judgement.reason,
    }


def _word(standing: Standing) -> str:
    if standing.model is not None:
        return str(standing.judgement.state)
    return "unpaid" if standing.judgement.outcome is Outcome.BILLING else "dead"


def _until(standing: Standing) -> float | None:
    wait_s = standing.judgement.wait_s
    return None if wait_s == float("inf") else round(wait_s, 1)
