"""What is found in a set of rules, and what is not claimed."""

from __future__ import annotations

import fnmatch
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.policy import BUILT_IN
from gateway.routing.check import Finding, check_rules
from gateway.routing.rule import Rule, Target
from gateway.routing.table import RuleTable


def rule(
    number: int,
    pattern: str,
    to: str = "local",
    *,
    policy: str = "default",
    priority: int = 0,
    enabled: bool = True,
) -> Rule:
    targets = tuple(Target.parse(each) for each in to.split())
    return Rule(
        id=number, pattern=pattern, targets=targets, policy=policy, priority=priority, enabled=enabled
    )


def found(*rules: Rule, backends: tuple[str, ...] = ("openai", "anthropic")) -> list[Finding]:
    return check_rules(rules, backends=backends, policies=BUILT_IN)


def messages(level: str, *rules: Rule) -> list[str]:
    return [each.message for each in found(*rules) if each.level == level]


def test_nothing_is_said_of_rules_that_are_in_order() -> None:
    assert not found(
        rule(1, "gpt-4o*", "local:qwen3-8b openai:{model}", priority=10),
        rule(2, "gpt-*", "openai"),
        rule(3, "*/*", "openai:{2}"),
        rule(4, "qwen*", "local", policy="local-only"),
        rule(5, "vllm", "openai:/models/llama"),  # an upstream may call a model by its path
        rule(6, "m[[]1]", "local"),
        rule(7, "*"),
    )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (rule(1, ""), "the pattern is empty"),
        (rule(1, "gpt 4"), "can never match: no model name can hold ' '"),
        (rule(1, "a..b"), "can never match"),
        (rule(1, "x", ""), "has no target"),
        (rule(1, "x", "opnai"), "names no known upstream; did you mean 'openai'?"),
        (rule(1, "x", "zzz"), "known: anthropic, local, openai"),
        (rule(1, "x", policy="defalt"), "no policy 'defalt'; did you mean 'default'?"),
        (rule(1, "x", policy="zzz"), "known: default, local-only"),
        (rule(1, "x", "openai:y", policy="local-only"), "no target can ever be tried"),
        (rule(1, "x*", "local:y local:y"), "target local:y can never be tried: it is the same as local:y"),
        (rule(1, "x*", "openai openai:{model}"), "target openai:{model} can never be tried"),
        (rule(1, "x", "openai openai:x"), "target openai:x can never be tried: it is the same as openai"),
        (rule(1, "x*", "openai:{2}"), "uses {2}, but the pattern 'x*' has 1 wildcard"),
        (rule(1, "x", "openai:{1}"), "has 0 wildcards"),
        (rule(1, "x*", "openai:{0}"), "uses {0}"),
        (rule(1, "x*", "openai:{name}"), "unknown placeholder {name}"),
        (rule(1, "x*", "openai:{}"), "unknown placeholder {}"),
        (rule(1, "x*", "openai:{1234}"), "unknown placeholder {1234}"),
        (rule(1, "x", "local:/models/llama"), "model name that can't be used"),
        (rule(1, "x", "openai:a%b"), "model name that can't be used"),
        (rule(1, "x", "openai:" + "y" * 257), "model name that can't be used"),
    ],
)
def test_what_can_never_work_is_an_error(bad: Rule, says: str) -> None:
    errors = messages("error", bad)
    assert len(errors) == 1
    assert says in errors[0]
    # a rule that is switched off is checked as well, or switching it on would fail later
    assert messages("error", Rule(**{**_fields(bad), "enabled": False})) == errors


def test_targets_that_the_policy_keeps_out_are_warned_of() -> None:
    kept = rule(1, "x", "local openai:y", policy="local-only")
    assert messages("warning", kept) == [
        "target openai:y is never tried: the policy 'local-only' keeps requests on this machine"
    ]
    assert not messages("error", kept)


def _fields(each: Rule) -> dict[str, object]:
    return {name: getattr(each, name) for name in Rule.__slots__}


def test_names_of_policies_alone_are_enough_to_check_them() -> None:
    rules = [rule(1, "x", "openai", policy="kept")]
    assert not check_rules(rules, backends=["openai"], policies=["kept"])
    said = check_rules(rules, backends=[], policies=[])
    assert [each.message for each in said] == [
        "there is no policy 'kept'; none is defined yet",
        "target openai names no known upstream; known: local",
    ]
    assert {(each.rule_id, each.pattern, each.level) for each in said} == {(1, "x", "error")}


def test_brackets_are_pointed_out_with_the_way_to_write_them() -> None:
    (said,) = messages("warning", rule(1, "m[1]-[ab]"))
    assert "[1] stands for one character" in said
    assert said.endswith("write [[]1]")
    assert not messages("warning", rule(1, "m[[]1]"), rule(2, "n[]]"))
    assert not messages("warning", rule(3, "m[1"))  # never closed, so no class


def test_a_shadowed_rule_is_told_by_whom_and_why() -> None:
    assert messages("warning", rule(1, "gpt-*", priority=10), rule(2, "gpt-4*")) == [
        "the rule never wins: rule 1 (gpt-*) matches every name that it matches, e.g. gpt-4, "
        "and has priority 10 over 0"
    ]
    assert messages("warning", rule(1, "a*"), rule(2, "a**")) == [
        "the rule never wins: rule 1 (a*) matches every name that it matches, e.g. a, and is older"
    ]
    assert messages("warning", rule(1, "x"), rule(2, "x")) == [
        "the rule never wins: rule 1 has the same pattern and is older"
    ]


def test_more_letters_can_shadow_as_well() -> None:
    # [a-a] is an a, but not counted as a letter: whoever writes that gets the place of a class
    said = [each for each in messages("warning", rule(1, "a*"), rule(2, "[a-a]*")) if "never wins" in each]
    assert said == [
        "the rule never wins: rule 1 (a*) matches every name that it matches, e.g. a, "
        "and has 1 literal characters over 0"
    ]


@pytest.mark.parametrize(
    "rules",
    [
        [rule(1, "gpt-*", priority=10), rule(2, "gpt-4")],  # an exact rule always wins on its name
        [rule(1, "gpt-4*"), rule(2, "gpt-*")],  # the narrower one has more letters
        [rule(1, "gpt-*", priority=10, enabled=False), rule(2, "gpt-4*")],
        [rule(1, "gpt-*", priority=10), rule(2, "gpt-4*", enabled=False)],
        [rule(1, "gpt-*", priority=10), rule(2, "claude-*"), rule(3, "*")],
        [rule(1, "*[!b]", priority=10), rule(2, "a*")],  # a and ax are taken away from it, ab is not
        [rule(1, "m*", priority=10), rule(2, "m[1]")],  # still wins on the name m[1] itself
    ],
)
def test_no_shadow_is_seen_where_there_is_none(rules: list[Rule]) -> None:
    assert not [m for m in messages("warning", *rules) if "never wins" in m]


def test_a_broken_rule_is_not_also_called_shadowed() -> None:
    assert not messages("warning", rule(1, "*", priority=1), rule(2, "a b*"))


NAMES = ["".join(letters) for size in range(1, 5) for letters in product("ab[]", repeat=size)]


@given(
    st.lists(
        st.builds(
            rule,
            st.integers(1, 20),
            st.text("ab*?[]", min_size=1, max_size=5),
            priority=st.integers(0, 1),
            enabled=st.booleans(),
        ),
        min_size=2,
        max_size=5,
        unique_by=lambda each: each.id,
    )
)
def test_a_rule_that_is_called_shadowed_never_wins(rules: list[Rule]) -> None:
    shadowed = {each.rule_id for each in found(*rules) if "never wins" in each.message}
    if shadowed:
        table = RuleTable(rules)
        winners = {won.id for name in NAMES if (won := table.resolve(name).rule) is not None}
        assert not shadowed & winners


def test_an_example_of_a_shadow_matches_both() -> None:
    (said,) = messages("warning", rule(1, "*-chat*", priority=3), rule(2, "gpt-?-chat"))
    name = said.split("e.g. ")[1].split(",")[0]
    assert fnmatch.fnmatchcase(name, "*-chat*")
    assert fnmatch.fnmatchcase(name, "gpt-?-chat")
