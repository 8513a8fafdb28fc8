"""`rules`: from model names to targets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.command import Noun, PatternVerb
from gateway.cli.home import NAME
from gateway.cli.output import hint, line, record, show, table, warn
from gateway.cli.session import ask, view
from gateway.errors import RefusedError


class RuleView(msgspec.Struct):
    id: int
    pattern: str
    targets: list[str]
    policy: str = "default"
    priority: int = 0
    enabled: bool = True
    note: str = ""
    warnings: list[str] = []


class FindingView(msgspec.Struct):
    level: str
    message: str
    rule: int | None = None
    pattern: str | None = None


command = Noun(
    "rules",
    help="From model names to targets.\n\nA name meets the rule whose pattern equals it. Else, of those that "
    "match, the one with the higher priority wins, then with more literal characters, then the older.",
)

_rule = click.argument("rule", metavar="RULE")
_TO_HELP = (
    "local:MODEL, UPSTREAM:MODEL or UPSTREAM; repeat it for what is tried next. "
    "{model} is the name that came, {1} what the first * or ? took."
)
_PRIORITY_HELP = "Higher wins over lower where several patterns match."
_POLICY_HELP = f"When a target counts as failed; see {NAME} policies list."


@command.command("list")
def list_() -> None:
    """List the rules."""
    answer = ask("rules.list")
    show(answer, lambda: _table(view(answer, list[RuleView])))


@command.command("show", cls=PatternVerb)
@_rule
def show_(rule: str) -> None:
    """Show one rule, named by its id or its pattern."""
    answer = ask("rules.show", {"rule": rule})
    show(answer, lambda: _record(view(answer, RuleView)))


@command.command(cls=PatternVerb)
@click.argument("pattern")
@click.option("--to", metavar="TARGET", multiple=True, required=True, help=_TO_HELP)
@click.option("--priority", type=int, default=0, show_default=True, help=_PRIORITY_HELP)
@click.option("--policy", default="default", show_default=True, help=_POLICY_HELP)
@click.option("--disabled", is_flag=True, help="Write the rule down without using it.")
@click.option("--note", default="", help="What the rule is for.")
def add(pattern: str, to: tuple[str, ...], *, priority: int, policy: str, disabled: bool, note: str) -> None:
    """Add a rule: names like PATTERN go to the targets, in order.

    In PATTERN, * takes any characters, ? one and [ab] one of these. Put it in quotes.
    """
    args = {
        "pattern": pattern,
        "to": list(to),
        "priority": priority,
        "policy": policy,
        "enabled": not disabled,
        "note": note,
    }
    _tell("added", ask("rules.add", args))


@command.command("set", cls=PatternVerb)
@_rule
@click.option("--pattern", help="The new pattern.")
@click.option("--to", metavar="TARGET", multiple=True, help=f"The new targets, all of them. {_TO_HELP}")
@click.option("--priority", type=int, help=_PRIORITY_HELP)
@click.option("--policy", help=_POLICY_HELP)
@click.option("--note", help="What the rule is for.")
def set_(rule: str, to: tuple[str, ...], **given: Any) -> None:
    """Change what is given of a rule, named by its id or its pattern."""
    changes = {name: value for name, value in given.items() if value is not None}
    if to:
        changes["to"] = list(to)
    if not changes:
        raise click.UsageError("nothing to change; give --pattern, --to, --priority, --policy or --note")
    _tell("changed", ask("rules.set", {"rule": rule, **changes}))


@command.command(cls=PatternVerb)
@_rule
def remove(rule: str) -> None:
    """Remove a rule, named by its id or its pattern."""
    _tell("removed", ask("rules.remove", {"rule": rule}))


@command.command(cls=PatternVerb)
@_rule
def enable(rule: str) -> None:
    """Use a rule again."""
    _tell("enabled", ask("rules.enable", {"rule": rule}))


@command.command(cls=PatternVerb)
@_rule
def disable(rule: str) -> None:
    """Keep a rule, but don't use it."""
    _tell("disabled", ask("rules.disable", {"rule": rule}))


@command.command()
def check() -> None:
    """Look for rules that can't work or that another one always beats.

    Exit code 1 when there is an error; a warning alone is none.
    """
    answer = ask("rules.check")
    findings = view(answer.get("findings", []), list[FindingView])
    show(answer, lambda: _findings(findings))
    if any(finding.level == "error" for finding in findings):
        click.get_current_context().exit(1)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--replace", is_flag=True, help="Remove all rules that are there first.")
def import_(file: Path, replace: bool) -> None:
    """Take the rules, policies and upstreams of a TOML file; all of them or, when one is bad, none.

    FILE is - for standard input. What is there already is changed to what the file says.
    """
    answer = ask("rules.import", {"toml": _read(file), "replace": replace})
    show(answer, lambda: line(_imported(answer)))
    warn(answer.get("warnings", []))


@command.command()
def export() -> None:
    """Print rules, policies and upstreams as TOML that `rules import` takes; no secrets."""
    answer = ask("rules.export")
    show(answer, lambda: click.echo(answer["toml"], nl=False))


def _table(rules: list[RuleView]) -> None:
    if not rules:
        hint(f"no rules yet: every model name goes to the default target. Add one:\n"
             f"  {NAME} rules add 'gpt-4o*' --to local:demo --to openai")  # fmt: skip
        return
    table(
        ("ID", "Pattern", "Targets", "Policy", "Prio", "", "Note"),
        [
            (r.id, r.pattern, tuple(r.targets), r.policy, r.priority, "" if r.enabled else "off", r.note)
            for r in rules
        ],
        spare=("Note",),
    )


def _record(rule: RuleView) -> None:
    record(
        [
            ("rule", rule.id),
            ("pattern", rule.pattern),
            *((f"target {n}", target) for n, target in enumerate(rule.targets, start=1)),
            ("policy", rule.policy),
            ("priority", rule.priority),
            ("enabled", rule.enabled),
            ("note", rule.note),
        ]
    )


def _tell(done: str, answer: Any) -> None:
    rule = view(answer, RuleView)
    show(answer, lambda: line(f"{done} rule {rule.id}: {rule.pattern} to {', then '.join(rule.targets)}"))
    warn(rule.warnings)


def _findings(findings: list[FindingView]) -> None:
    if not findings:
        line("the rules are fine")
        return
    table(
        ("", "Rule", "Pattern", "Finding"),
        [(f.level, f.rule, f.pattern, f.message) for f in findings],
    )


def _imported(answer: dict[str, Any]) -> str:
    counts = [f"{count} {name}" for name, count in answer.items() if isinstance(count, int) and count]
    return f"imported: {', '.join(counts) or 'nothing'}"


def _read(file: Path) -> str:
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RefusedError(f"{file}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{file}: expected UTF-8 text, but byte {error.start} is not") from error
