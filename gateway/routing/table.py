"""PURE: the compiled rules: which rule a name resolves to, and why.

The order (design 4.2) is total and the same for the router, `explain` and `rules check`:
a pattern that equals the name; then higher priority; then more literal characters; then the
older rule. It is written down once, in `rank`.

Theory: between two rules that match by wildcard the order does not depend on the name, so it is
sorted once. Equality does depend on it, so those are looked up in a dictionary of patterns,
which holds every enabled rule: a pattern with brackets in it still equals its own text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.routing.pattern import Pattern, read_pattern, taken
from gateway.routing.rule import LOCAL, Rule, Target

# Names come from strangers, so what is remembered of them is bounded; a full cache is dropped
# whole, which is cheaper than keeping an order of use on every hit.
CACHE_SIZE = 1024
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LOCAL = Target(LOCAL)


@dataclass(frozen=True, slots=True)
class Aim:
    """A target with its names filled in."""

    backend: str
    model: str

    @property
    def label(self) -> str:
        """How headers and logs call it; a request that names no model aims at a backend alone."""
        return f"{self.backend}/{self.model}" if self.model else self.backend


@dataclass(frozen=True, slots=True)
class Route:
    """What a model name resolved to."""

    name: str
    rule: Rule | None
    aims: tuple[Aim, ...]

    @property
    def policy_name(self) -> str:
        return self.rule.policy if self.rule else "default"


class Standing(StrEnum):
    """How a rule fared for a name."""

    WON = "won"
    BEATEN = "beaten"
    NO_MATCH = "no match"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A rule, how it fared for one name and the sentence that says why."""

    rule: Rule
    standing: Standing
    exact: bool  # its pattern equals the name
    literals: int
    reason: str


def rank(rule: Rule, pattern: Pattern, *, exact: bool) -> tuple[bool, int, int, int]:
    """The place of a matching rule in the total order; the smallest wins."""
    return (not exact, -rule.priority, -pattern.literals, rule.id)


def wildcard_number(word: str) -> int | None:
    """The n of a placeholder {n}, None for any other word."""
    return int(word) if word.isascii() and word.isdecimal() and len(word) <= 3 else None


class RuleTable:
    """An immutable, compiled set of rules; safe to share between threads."""

    __slots__ = ("_cache", "_exact", "_patterns", "_wild", "default_target", "rules")

    def __init__(self, rules: Iterable[Rule] = (), default_target: Target = _LOCAL) -> None:
        self.rules = tuple(rules)
        self.default_target = default_target
        self._patterns = tuple((rule, read_pattern(rule.pattern)) for rule in self.rules)
        live = [(rule, pattern) for rule, pattern in self._patterns if rule.enabled]
        live.sort(key=lambda pair: rank(*pair, exact=False))
        self._exact: dict[str, tuple[Rule, Pattern]] = {}
        for rule, pattern in live:  # best first, and rules of one pattern have equal literals
            self._exact.setdefault(rule.pattern, (rule, pattern))
        self._wild: list[tuple[str, Callable[[str], object], tuple[Rule, Pattern]]] = [
            (pattern.prefix, pattern.matches, (rule, pattern))
            for rule, pattern in live
            if not pattern.is_plain
        ]
        self._cache: dict[str, Route] = {}

    def resolve(self, name: str) -> Route:
        """Where a model name goes; a name that no rule matches goes to the default target."""
        route = self._cache.get(name)
        if route is None:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            route = self._cache[name] = self._route(name)
        return route

    def ranked(self, name: str) -> list[Judged]:
        """Every rule with how it fared for `name`: first those that match, in order, then the rest."""
        winner = self._winner(name)
        judged = []
        for rule, pattern in self._patterns:
            exact = rule.pattern == name
            matches = exact or bool(pattern.matches(name))
            order = (not matches, not rule.enabled, rank(rule, pattern, exact=exact))
            standing, reason = _judge(rule, pattern, name, matches=matches, winner=winner)
            judged.append(
                (
                    order,
                    Judged(
                        rule=rule, standing=standing, exact=exact, literals=pattern.literals, reason=reason
                    ),
                )
            )
        judged.sort(key=lambda pair: pair[0])
        return [each for _, each in judged]

    def _winner(self, name: str) -> tuple[Rule, Pattern] | None:
        found = self._exact.get(name)
        if found is not None:
            return found
        for prefix, matches, found in self._wild:
            if name.startswith(prefix) and matches(name):
                return found
        return None

    def _route(self, name: str) -> Route:
        winner = self._winner(name)
        if winner is None:
            return Route(name, None, (_aim(self.default_target, name, ()),))
        rule, pattern = winner
        took = taken(pattern, name)
        # Two targets that come to the same are tried once: the second could only fail again.
        aims = dict.fromkeys(_aim(target, name, took) for target in rule.targets)
        return Route(name, rule, tuple(aims))


def _judge(
    rule: Rule, pattern: Pattern, name: str, *, matches: bool, winner: tuple[Rule, Pattern] | None
) -> tuple[Standing, str]:
    if not matches:
        return Standing.NO_MATCH, "its pattern does not match the name"
    if not rule.enabled:
        return Standing.DISABLED, "it matches, but is disabled"
    assert winner is not None  # at least this one
    best, best_pattern = winner
    if rule is best and rule.pattern == name:
        return Standing.WON, "its pattern equals the name"
    if rule is best:
        letters = f"{pattern.literals} literal characters"
        return Standing.WON, f"it comes first of those that match: priority {rule.priority}, {letters}"
    by = f"rule {best.id} ({best.pattern})"
    if best.pattern == name != rule.pattern:
        return Standing.BEATEN, f"{by} equals the name"
    if best.priority != rule.priority:
        return Standing.BEATEN, f"{by} has priority {best.priority}, this one {rule.priority}"
    if best_pattern.literals != pattern.literals:
        letters = f"{best_pattern.literals} literal characters"
        return Standing.BEATEN, f"{by} has {letters}, this one {pattern.literals}"
    return Standing.BEATEN, f"{by} is older"


def _aim(target: Target, name: str, took: tuple[str, ...]) -> Aim:
    if target.model is None:
        return Aim(target.backend, name)
    if "{" not in target.model:
        return Aim(target.backend, target.model)

    def fill(found: re.Match[str]) -> str:
        number = wildcard_number(found[1])
        if found[1] == "model":
            return name
        if number is not None and 1 <= number <= len(took):
            return took[number - 1]
        return found[0]  # `rules check` refuses it; left as it is, it can be seen

    return Aim(target.backend, PLACEHOLDER.sub(fill, target.model))
