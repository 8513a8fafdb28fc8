"""One sentence and the whole list of rules for a name."""

from __future__ import annotations

from gateway.routing.explain import explain
from gateway.routing.rule import Rule, Target
from gateway.routing.table import RuleTable

TABLE = RuleTable(
    [
        Rule(id=1, pattern="gpt-*", targets=(Target("local", "demo"), Target("openai"))),
        Rule(id=2, pattern="gpt-4", targets=()),
    ]
)


def test_a_name_that_a_rule_matches() -> None:
    told = explain(TABLE, "gpt-5")
    assert told.route is TABLE.resolve("gpt-5")
    assert [each.rule.id for each in told.judged] == [1, 2]
    assert told.summary.startswith("gpt-5: rule 1 (gpt-*), as it comes first")
    assert told.summary.endswith(": local/demo, then openai/gpt-5")


def test_a_name_that_no_rule_matches() -> None:
    assert explain(TABLE, "qwen").summary == "qwen: no rule matches, so the default target: local/qwen"


def test_a_rule_that_leads_nowhere_says_so() -> None:
    assert explain(TABLE, "gpt-4").summary == "gpt-4: rule 2 (gpt-4), as its pattern equals the name: nowhere"
