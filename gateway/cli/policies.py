"""`policies`: when a target counts as failed, and what happens then."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from gateway.cli.command import Noun
from gateway.cli.knobs import KNOBS, differing, explained, given, knob_options
from gateway.cli.output import line, record, show, table, warn
from gateway.cli.session import ask, view


class PolicyView(msgspec.Struct):
    name: str
    built_in: bool = False
    warnings: list[str] = []


command = Noun(
    "policies",
    help="When a target counts as failed, and what happens then.\n\nA rule names a policy; `default` and "
    "`local-only` are built in. The word `default` takes a knob back to its default.",
)


@command.command("list")
def list_() -> None:
    """List the policies."""
    answer = ask("policies.list")
    policies = view(answer, list[PolicyView])
    rows = [
        (policy.name, "built in" if policy.built_in else "", differing(values))
        for policy, values in zip(policies, answer, strict=True)
    ]
    show(answer, lambda: table(("Policy", "", "Knobs"), rows))


@command.command("show")
@click.argument("name")
def show_(name: str) -> None:
    """Show all knobs of a policy."""
    answer = ask("policies.show", {"name": name})
    knobs = [(item.name, explained(item, answer[item.name])) for item in KNOBS if item.name in answer]
    show(answer, lambda: record([("policy", view(answer, PolicyView).name), *knobs]))


@command.command()
@click.argument("name")
@knob_options
def add(name: str, **knobs: Any) -> None:
    """Add a policy."""
    _tell("added", ask("policies.add", {"name": name, "knobs": given(knobs)}))


@command.command("set")
@click.argument("name")
@knob_options
def set_(name: str, **knobs: Any) -> None:
    """Set knobs of a policy; one that does not exist is made."""
    changes = given(knobs)
    if not changes:
        raise click.UsageError("nothing to change; give a knob, such as --first-token-s 4")
    _tell("set", ask("policies.set", {"name": name, "knobs": changes}))


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a policy that no rule uses; a built-in one goes back to its defaults."""
    answer = ask("policies.remove", {"name": name})
    show(answer, lambda: line(f"removed policy {name}"))
    warn(view(answer, PolicyView).warnings)


def _tell(done: str, answer: Any) -> None:
    policy = view(answer, PolicyView)
    show(answer, lambda: line(f"{done} policy {policy.name}: {differing(answer)}"))
    warn(policy.warnings)
