"""Where a request would go now, told without sending it: the plan of the relay itself, in plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.failover.plan import Candidate, Skipped
from gateway.local.forecast import Forecast
from gateway.relay.inbound import Inbound
from gateway.relay.planner import Planner, Way
from gateway.snapshot import Snapshot
from gateway.wire.api import api_of
from gateway.wire.body import read_json
from gateway.wire.dialect import dialect_of

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
# It stands for a small request where nobody showed a real one.
_SMALL = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64, "stream": True}
_BY_FIELD = {"input": ("/v1/responses", "/v1/embeddings"), "prompt": ("/v1/completions",)}


async def outlook(
    planner: Planner, snapshot: Snapshot, model: str, body: Mapping[str, Any] | None, path: str
) -> dict[str, Any]:
    """For each path that such a request may come on: what would be tried, and what not, and why."""
    shown = dict(_SMALL if body is None else body)
    plans = {}
    for each in [path] if path else _paths(shown):
        way = await planner.way(as_if(model, each, shown), snapshot)
        plans[each] = described(way)
    return plans


def as_if(model: str, path: str, body: Mapping[str, Any]) -> Inbound:
    """A request that nobody sent. Raises RequestError where the body is nothing that could be sent."""
    return Inbound(
        request_id="explain",
        method="POST",
        path=path,
        query="",
        dialect=dialect_of(path),
        api=api_of(path),
        headers=(),
        body=read_json(msgspec.json.encode({**body, "model": model})),
    )


def described(way: Way) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "policy": way.policy.name,
        "locality": "local-only" if way.plan.local_only else "any",
        "try": [_candidate(each, way.forecasts.get(each.model)) for each in way.plan.candidates],
        "skip": [_skipped(each) for each in way.plan.skipped],
    }


def _paths(body: Mapping[str, Any]) -> tuple[str, ...]:
    for field, paths in _BY_FIELD.items():
        if field in body and "messages" not in body:
            return paths
    return CHAT, MESSAGES


def _candidate(candidate: Candidate, forecast: Forecast | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "target": candidate.label,
        "credential": candidate.credential,
        "late": None if candidate.late is None else candidate.late.message,
    }
    if candidate.is_local and forecast is not None:
        told["prediction"] = prediction(forecast)
    return told


def prediction(forecast: Forecast) -> dict[str, Any]:
    """What the pool expects of a call; seconds and tokens."""
    return {
        "ttft_s": round(forecast.ttft_s, 3),
        "load_s": round(forecast.load_s, 3),
        "queue_s": round(forecast.queue_s, 3),
        "prefill_s": round(forecast.prefill_s, 3),
        "queued": forecast.queued,
        "prompt_tokens": forecast.prompt_tokens,
        "exact": forecast.exact,
        "context": forecast.context,
    }


def _skipped(skipped: Skipped) -> dict[str, Any]:
    return {
        "target": skipped.label,
        "reason": skipped.reason,
        "outcome": None if skipped.outcome is None else str(skipped.outcome),
    }
