"""PURE: what is wrong with a whole set of rules (design 4.6). Errors are refused, warnings told."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol

from gateway.routing.language import example, impossible, includes, samples
from gateway.routing.name import LETTERS, LONGEST, is_name
from gateway.routing.pattern import WILDCARDS, Kind, Pattern, read_pattern
from gateway.routing.rule import LOCAL, Rule, Target
from gateway.routing.table import PLACEHOLDER, rank, wildcard_number

Compiled = tuple[Rule, Pattern]


class KeepsLocal(Protocol):
    """As much of a policy as this check looks at."""

    @property
    def stay_local(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one rule that its owner should know."""

    level: Literal["error", "warning"]
    rule_id: int
    pattern: str
    message: str


def check_rules(
    rules: Iterable[Rule],
    *,
    backends: Collection[str],
    policies: Collection[str] | Mapping[str, KeepsLocal],
) -> list[Finding]:
    """Everything there is to say about `rules`, in their order, errors of a rule before its warnings.

    `backends` are the names of the upstreams; `local` is always known. Disabled rules are checked
    too, so that enabling one never fails; only shadows are looked for among the enabled.
    """
    compiled = [(rule, read_pattern(rule.pattern)) for rule in rules]
    enabled = sorted(
        (pair for pair in compiled if pair[0].enabled), key=lambda pair: rank(*pair, exact=False)
    )
    found: list[Finding] = []
    for rule, pattern in compiled:
        errors = [
            *_pattern_errors(pattern),
            *_policy_errors(rule, policies),
            *_target_errors(rule, pattern, backends),
        ]
        found += [_finding("error", rule, message) for message in errors]
        warnings = [*_class_warnings(pattern), *_kept_out_warnings(rule, policies)]
        if rule.enabled and not errors:
            warnings += _shadow_warnings(rule, pattern, enabled)
        found += [_finding("warning", rule, message) for message in warnings]
    return found


def _finding(level: Literal["error", "warning"], rule: Rule, message: str) -> Finding:
    return Finding(level=level, rule_id=rule.id, pattern=rule.pattern, message=message)


def _pattern_errors(pattern: Pattern) -> Iterator[str]:
    if not pattern.text:
        yield "the pattern is empty; write a model name, or * for every name"
    elif why := impossible(pattern):
        yield f"the pattern can never match: {why}"


def _class_warnings(pattern: Pattern) -> Iterator[str]:
    for piece in pattern.pieces:
        escapes = piece.letter is not None and piece.letter in WILDCARDS | {"]"}
        if piece.kind is Kind.CLASS and not escapes:
            yield (
                f"{piece.text} stands for one character of a class, not for brackets; "
                f"for the brackets themselves write {piece.text.replace('[', '[[]', 1)}"
            )
            return


def _policy_errors(rule: Rule, policies: Collection[str] | Mapping[str, KeepsLocal]) -> Iterator[str]:
    if rule.policy not in policies:
        yield f"there is no policy {rule.policy!r}; {_nearest(rule.policy, policies)}"
    elif _is_kept_local(rule, policies) and not any(target.is_local for target in rule.targets):
        yield (
            f"no target can ever be tried: the policy {rule.policy!r} keeps requests on this machine; "
            "add a local target or choose another policy"
        )


def _is_kept_local(rule: Rule, policies: Collection[str] | Mapping[str, KeepsLocal]) -> bool:
    return isinstance(policies, Mapping) and rule.policy in policies and policies[rule.policy].stay_local


def _kept_out_warnings(rule: Rule, policies: Collection[str] | Mapping[str, KeepsLocal]) -> Iterator[str]:
    """A warning, not an error: a policy may be switched to local-only for a while, rules as they are."""
    if _is_kept_local(rule, policies):
        for target in rule.targets:
            if not target.is_local:
                yield (
                    f"target {target} is never tried: the policy {rule.policy!r} keeps requests on "
                    "this machine"
                )


def _target_errors(rule: Rule, pattern: Pattern, backends: Collection[str]) -> Iterator[str]:
    if not rule.targets:
        yield "the rule has no target; give it one, e.g. local:NAME or UPSTREAM:NAME"
    seen: dict[tuple[str, str], Target] = {}
    for target in rule.targets:
        if not target.is_local and target.backend not in backends:
            yield f"target {target} names no known upstream; {_nearest(target.backend, [LOCAL, *backends])}"
        yield from _model_errors(target, pattern)
        first = seen.setdefault((target.backend, _spelled_out(target, pattern)), target)
        if first is not target:
            yield f"target {target} can never be tried: it is the same as {first} before it"


def _model_errors(target: Target, pattern: Pattern) -> Iterator[str]:
    if target.model is None:
        return
    for word in PLACEHOLDER.findall(target.model):
        if word == "model":
            continue
        number = wildcard_number(word)
        if number is None:
            yield f"target {target} has an unknown placeholder {{{word}}}; known are {{model}}, {{1}}, {{2}}"
        elif not 1 <= number <= pattern.wildcards:
            count = f"{pattern.wildcards} wildcard{'' if pattern.wildcards == 1 else 's'}"
            yield f"target {target} uses {{{word}}}, but the pattern {pattern.text!r} has {count}"
    # A local name becomes the name of a folder, so it keeps to the rules of incoming names; an upstream
    # may well call a model by its path (vLLM does).
    plain = PLACEHOLDER.sub("x", target.model)
    fits = is_name(plain) if target.is_local else LETTERS.issuperset(plain) and len(plain) <= LONGEST
    if not fits:
        yield (
            f"target {target} has a model name that can't be used; it may have up to {LONGEST} "
            "characters of A-Z a-z 0-9 . _ : / @ + ~ [ ] - and the placeholders {model}, {1}, {2}, ..."
        )


def _spelled_out(target: Target, pattern: Pattern) -> str:
    """The target's model as it differs from others of the rule: no model means the name that came."""
    model = "{model}" if target.model is None else target.model
    return model.replace("{model}", pattern.text) if pattern.is_plain else model


def _shadow_warnings(rule: Rule, pattern: Pattern, enabled: list[Compiled]) -> Iterator[str]:
    """Is there a rule that always wins over this one? Nothing is said that is not sure."""
    own = (rule.priority, pattern.literals)
    # A rule always wins on the name that equals its pattern, if there can be such a name.
    equal_only = is_name(rule.pattern)
    texts = samples(pattern)
    for other, wide in takewhile(lambda pair: pair[0] is not rule, enabled):  # what follows is weaker
        if other.pattern == rule.pattern:
            stronger = _stronger(other, wide, own)
            yield f"the rule never wins: rule {other.id} has the same pattern and {stronger}"
            return
        if equal_only or wide.is_plain or not texts[0].startswith(wide.prefix):
            continue  # most pairs end here
        if all(map(wide.matches, texts)) and includes(wide, pattern):
            name = example(pattern)
            told = f", e.g. {name}" if name else ""
            yield (
                f"the rule never wins: rule {other.id} ({other.pattern}) matches every name that it matches"
                f"{told}, and {_stronger(other, wide, own)}"
            )
            return


def _stronger(other: Rule, wide: Pattern, own: tuple[int, int]) -> str:
    priority, literals = own
    if other.priority != priority:
        return f"has priority {other.priority} over {priority}"
    if wide.literals != literals:
        return f"has {wide.literals} literal characters over {literals}"
    return "is older"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is defined yet"
