"""PURE: the compiled rules: which rule a name resolves to, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.routing.rule import LOCAL, Rule, Target


@dataclass(frozen=True, slots=True)
class Aim:
    """A target with its names filled in."""

    backend: str
    model: str


@dataclass(frozen=True, slots=True)
class Route:
    """What a model name resolved to."""

    name: str
    rule: Rule | None
    aims: tuple[Aim, ...]

    @property
    def policy_name(self) -> str:
        return self.rule.policy if self.rule else "default"


class RuleTable:
    """An immutable, compiled set of rules."""

    def __init__(self, rules: Iterable[Rule] = (), default_target: Target = Target(LOCAL)) -> None:
        self.rules = tuple(rules)
        self.default_target = default_target
