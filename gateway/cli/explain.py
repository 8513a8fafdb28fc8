"""`explain`: which rule a model name meets, why, and what would be tried; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import click
import msgspec

from gateway.cli.command import PatternVerb
from gateway.cli.output import lasting, line, show, table
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


class Prediction(msgspec.Struct):
    ttft_s: float
    load_s: float = 0.0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    prompt_tokens: int = 0
    exact: bool = False


class CandidateView(msgspec.Struct):
    target: str
    credential: str | None = None
    late: str | None = None
    prediction: Prediction | None = None


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
@click.option("--body", type=click.File("rb"), help="A request's JSON; - reads it from standard input.")
@click.option("--path", default="", help="The path that it is sent to, as /v1/chat/completions.")
def command(model: str, body: BinaryIO | None, path: str) -> None:
    """Say which rule a request for MODEL meets, why, and what would be tried in which order.

    Nothing is sent. While the gateway runs, its plan counts what it knows of its targets now: who is
    well, how long a local model would take, and with --body whether this very request fits them.
    """
    args: dict[str, object] = {"model": model}
    if body is not None:
        args["body"] = _read(body.read())
    if path:
        args["path"] = path
    answer = ask("explain", args)
    show(answer, lambda: _explain(view(answer, Explanation)))


def _read(data: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise click.BadParameter(f"--body is no JSON object: {error}") from error


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
        if candidate.prediction is not None:
            yield f"     {_predicted(candidate.prediction)}"
        if candidate.late is not None:
            yield f"     after the others: {candidate.late}"
    for skipped in plan.skipped:
        yield f"  -  {skipped.target}"
        yield f"     skipped: {skipped.reason}"


def _predicted(seen: Prediction) -> str:
    parts = {"to load": seen.load_s, "in the queue": seen.queue_s, "for the prompt": seen.prefill_s}
    of = ", ".join(f"{_about(s)} {word}" for word, s in parts.items() if s >= 0.05)
    about = "" if seen.exact else "about "
    tokens = f" for {about}{seen.prompt_tokens} tokens" if seen.prompt_tokens else ""
    return f"first words expected in {_about(seen.ttft_s)}{tokens}" + (f": {of}" if of else "")


def _about(seconds: float) -> str:
    return lasting(round(seconds, 1 if seconds >= 1 else 2))


def _why(judged: JudgedView) -> str:
    return "" if judged.standing == "no match" else judged.reason
