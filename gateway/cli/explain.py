"""`explain`: which rule a model name meets, why, and what would be tried; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from gateway.cli.command import PatternVerb
from gateway.cli.output import line, show, table
from gateway.cli.session import ask, view


class RuleView(msgspec.Struct):
    id: int
    pattern: str


class PolicyView(msgspec.Struct):
    name: str


class TargetView(msgspec.Struct):
    target: str
    usable: bool = True
    reason: str | None = None


class CandidateView(msgspec.Struct):
    target: str
    credential: str | None = None


class SkippedView(msgspec.Struct):
    target: str
    reason: str = ""


class PlanView(msgspec.Struct):
    candidates: list[CandidateView] = msgspec.field(name="try", default_factory=list)
    skipped: list[SkippedView] = msgspec.field(name="skip", default_factory=list)


class JudgedView(msgspec.Struct):
    rule: int
    pattern: str
    priority: int = 0
    standing: str = ""
    reason: str = ""


class Explanation(msgspec.Struct):
    model: str
    rule: RuleView | None
    policy: PolicyView
    targets: list[TargetView]
    considered: list[JudgedView]
    locality: str = ""
    plans: dict[str, PlanView] = {}


@click.command("explain", cls=PatternVerb)
@click.argument("model")
def command(model: str) -> None:
    """Say which rule a request for MODEL meets, why, and what would be tried in which order.

    Nothing is sent. While the gateway runs, its plan counts what it knows of its targets now.
    """
    answer = ask("explain", {"model": model})
    show(answer, lambda: _explain(view(answer, Explanation)))


def _explain(found: Explanation) -> None:
    if found.rule is None:
        line(f"{found.model} meets no rule, and goes to the default target.")
    else:
        line(f"{found.model} meets rule {found.rule.id}: {found.rule.pattern}")
    local = ", and stays on this machine" if found.locality == "local-only" else ""
    line(f"Its policy is {found.policy.name}{local}.")
    for title, steps in _plans(found):
        line(f"\n{title}")
        for step in steps:
            line(step)
    if found.considered:
        line("\nThe rules, best first:")
        table(
            ("Rule", "Pattern", "Prio", "", "Why"),
            [(j.rule, j.pattern, j.priority, j.standing, _why(j)) for j in found.considered],
        )


def _plans(found: Explanation) -> Iterator[tuple[str, Iterator[str]]]:
    """What would be tried: by the configuration alone, or by the running gateway for each dialect."""
    if not found.plans:
        yield "What would be tried, in this order:", _targets(found.targets)
        return
    plans = list(found.plans.items())
    if all(plan == plans[0][1] for _, plan in plans):
        yield "What would be tried now, in this order:", _plan(plans[0][1])
        return
    for path, plan in plans:
        yield f"What would be tried now for {path}, in this order:", _plan(plan)


def _targets(targets: list[TargetView]) -> Iterator[str]:
    """Those that are skipped have no place in the order."""
    place = 0
    for target in targets:
        place += target.usable
        yield f"  {place if target.usable else '-'}  {target.target}"
        if target.reason:
            yield f"     {'' if target.usable else 'skipped: '}{target.reason}"


def _plan(plan: PlanView) -> Iterator[str]:
    for place, candidate in enumerate(plan.candidates, start=1):
        key = candidate.credential
        yield f"  {place}  {candidate.target}" + (f"  with credential {key}" if key else "")
    for skipped in plan.skipped:
        yield f"  -  {skipped.target}"
        yield f"     skipped: {skipped.reason}"


def _why(judged: JudgedView) -> str:
    return "" if judged.standing == "no match" else judged.reason
