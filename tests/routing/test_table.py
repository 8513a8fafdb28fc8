"""Which rule wins, and why: the documented order against a plain reading of it."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.pattern import read_pattern
from gateway.routing.rule import Rule, Target
from gateway.routing.table import CACHE_SIZE, Aim, RuleTable, Standing

LOCAL = (Target("local"),)


def rule(number: int, pattern: str, *, priority: int = 0, enabled: bool = True, to: str = "local") -> Rule:
    targets = tuple(Target.parse(each) for each in to.split())
    return Rule(id=number, pattern=pattern, targets=targets, priority=priority, enabled=enabled)


def winner(name: str, *rules: Rule) -> int | None:
    found = RuleTable(rules).resolve(name).rule
    return found.id if found else None


def test_an_exact_rule_beats_a_wildcard_of_any_priority() -> None:
    # The system we start from promised this and ordered by priority alone: gpt-*@10 beat gpt-4@0.
    assert winner("gpt-4", rule(1, "gpt-*", priority=10), rule(2, "gpt-4")) == 2


def test_higher_priority_comes_before_more_letters() -> None:
    assert winner("gpt-4", rule(1, "gpt-*"), rule(2, "*", priority=1)) == 2


def test_more_literal_characters_win_at_equal_priority() -> None:
    assert winner("claude-sonnet-4", rule(1, "*claude*sonnet*"), rule(2, "claude-sonnet-*")) == 2
    assert winner("gpt-4o-mini", rule(1, "gpt-*"), rule(2, "gpt-4o-*"), rule(3, "*")) == 2


def test_ties_go_to_the_older_rule_however_they_are_listed() -> None:
    first, second = rule(1, "a*c"), rule(2, "ab*")
    assert winner("abc", first, second) == winner("abc", second, first) == 1


def test_equal_patterns_go_by_priority_then_age() -> None:
    assert winner("x", rule(1, "x"), rule(2, "x", priority=5)) == 2
    assert winner("x", rule(2, "x"), rule(1, "x")) == 1


def test_only_enabled_rules_count() -> None:
    assert winner("gpt-4", rule(1, "gpt-4", enabled=False), rule(2, "gpt-*")) == 2


def test_a_pattern_is_anchored_at_both_ends() -> None:
    chat = rule(1, "gateway/*-chat")
    assert winner("gateway/demo-chat", chat) == 1
    assert winner("gateway/demo-chat-extra", chat) is None
    assert winner("x/gateway/demo-chat", chat) is None


def test_letters_keep_their_case_and_a_star_crosses_slashes() -> None:
    assert winner("GPT-4", rule(1, "gpt-*")) is None
    assert winner("a/b/c", rule(1, "a*c")) == 1


def test_brackets_are_a_class_but_equality_comes_first() -> None:
    # m[1] as a pattern also means m1; the name m[1] itself must still find the rule of its own name.
    table = RuleTable([rule(1, "m[1]"), rule(2, "m*", priority=9)])
    assert table.resolve("m[1]").rule == table.rules[0]
    assert table.resolve("m1").rule == table.rules[1]
    assert winner("m1", rule(1, "m[1]")) == 1
    assert winner("m[1]*", rule(1, "m[1]*")) == 1


def test_no_rule_means_the_default_target_with_the_name_that_came() -> None:
    route = RuleTable().resolve("anything")
    assert (route.rule, route.policy_name, route.aims) == (None, "default", (Aim("local", "anything"),))
    route = RuleTable((), Target("openai", "x-{model}")).resolve("a")
    assert route.aims == (Aim("openai", "x-a"),)


def test_the_names_of_a_target_are_filled_in() -> None:
    table = RuleTable([rule(3, "*/gpt-?o", to="local:qwen openai:{model} x:{2}-{1} y:v{1}{1} z")])
    assert table.resolve("openai/gpt-4o").aims == (
        Aim("local", "qwen"),
        Aim("openai", "openai/gpt-4o"),
        Aim("x", "4-openai"),
        Aim("y", "vopenaiopenai"),
        Aim("z", "openai/gpt-4o"),
    )


def test_a_placeholder_that_means_nothing_stays_to_be_seen() -> None:
    table = RuleTable([rule(1, "a*", to="x:{2}{0}{name}{}{9999999999}{٣}")])
    assert table.resolve("ab").aims[0].model == "{2}{0}{name}{}{9999999999}{٣}"


def test_a_name_in_braces_is_not_filled_in_twice() -> None:
    assert RuleTable([rule(1, "*", to="x:{1}")]).resolve("{model}").aims == (Aim("x", "{model}"),)


def test_targets_that_come_to_the_same_are_tried_once() -> None:
    assert RuleTable([rule(1, "a*", to="x:{model} y x")]).resolve("ab").aims == (
        Aim("x", "ab"),
        Aim("y", "ab"),
    )


def test_a_route_carries_the_policy_of_its_rule() -> None:
    table = RuleTable([Rule(id=1, pattern="*", targets=LOCAL, policy="fast")])
    assert table.resolve("x").policy_name == "fast"


def test_the_label_of_an_aim_without_a_model_is_its_backend() -> None:
    assert (Aim("openai", "gpt-4o").label, Aim("openai", "").label) == ("openai/gpt-4o", "openai")


def test_what_is_remembered_is_bounded_and_the_same() -> None:
    table = RuleTable([rule(1, "n*", to="x:{1}")])
    first = table.resolve("n0")
    assert table.resolve("n0") is first
    for number in range(2 * CACHE_SIZE):
        table.resolve(f"n{number}")
        assert len(table._cache) <= CACHE_SIZE
    assert table.resolve("n0") == first


RULES = st.lists(
    st.builds(
        rule,
        st.integers(1, 30),
        st.text("ab*?[]", min_size=1, max_size=4),
        priority=st.integers(-1, 1),
        enabled=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)
NAMES = st.text("ab*?[]", min_size=1, max_size=4)


@given(RULES, NAMES)
def test_the_order_is_the_documented_one(rules: list[Rule], name: str) -> None:
    def place(each: Rule) -> tuple[bool, int, int, int]:
        return (each.pattern != name, -each.priority, -read_pattern(each.pattern).literals, each.id)

    matching = [
        each
        for each in rules
        if each.enabled and (each.pattern == name or fnmatch.fnmatchcase(name, each.pattern))
    ]
    assert RuleTable(rules).resolve(name).rule == min(matching, key=place, default=None)


@given(RULES, NAMES)
def test_what_explain_is_told_equals_the_live_route(rules: list[Rule], name: str) -> None:
    table = RuleTable(rules)
    judged = table.ranked(name)
    assert sorted(each.rule.id for each in judged) == sorted(each.id for each in rules)
    won = [each.rule for each in judged if each.standing is Standing.WON]
    assert won == [table.resolve(name).rule] or (won == [] and table.resolve(name).rule is None)
    if won:
        assert judged[0].rule is won[0]
    order = list(Standing)
    places = [order.index(each.standing) for each in judged]
    matching = [place for place in places if place != order.index(Standing.NO_MATCH)]
    assert sorted(matching) == matching
    assert places[: len(matching)] == matching
    assert all(each.reason for each in judged)


@pytest.mark.parametrize(
    ("rules", "name", "reasons"),
    [
        (
            [rule(1, "gpt-4"), rule(2, "gpt-*", priority=5)],
            "gpt-4",
            ["its pattern equals the name", "rule 1 (gpt-4) equals the name"],
        ),
        (
            [rule(1, "a*", priority=2), rule(2, "ab*")],
            "abc",
            [
                "it comes first of those that match: priority 2, 1 literal characters",
                "rule 1 (a*) has priority 2, this one 0",
            ],
        ),
        (
            [rule(1, "a*"), rule(2, "ab*")],
            "abc",
            [
                "it comes first of those that match: priority 0, 2 literal characters",
                "rule 2 (ab*) has 2 literal characters, this one 1",
            ],
        ),
        ([rule(1, "x"), rule(2, "x")], "x", ["its pattern equals the name", "rule 1 (x) is older"]),
        (
            [rule(1, "b"), rule(2, "a", enabled=False)],
            "a",
            ["it matches, but is disabled", "its pattern does not match the name"],
        ),
    ],
)
def test_every_rule_is_told_why(rules: list[Rule], name: str, reasons: list[str]) -> None:
    assert [each.reason for each in RuleTable(rules).ranked(name)] == reasons
