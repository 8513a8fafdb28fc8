"""PURE: why a model name goes where it goes, as a value for people and programs."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.routing.table import Judged, Route, RuleTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The route that a request would take, and every rule that was considered for it."""

    route: Route
    judged: tuple[Judged, ...]  # those that match first, in their order
    summary: str


def explain(table: RuleTable, name: str) -> Explanation:
    """Explain `name` by the same code that routes it; nothing is asked of any backend."""
    route = table.resolve(name)
    judged = tuple(table.ranked(name))
    aims = ", then ".join(aim.label for aim in route.aims) or "nowhere"
    if route.rule is None:
        summary = f"{name}: no rule matches, so the default target: {aims}"
    else:
        summary = f"{name}: rule {route.rule.id} ({route.rule.pattern}), as {judged[0].reason}: {aims}"
    return Explanation(route=route, judged=judged, summary=summary)
