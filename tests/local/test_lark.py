"""How grammars are written down."""

from __future__ import annotations

import json
import re

from gateway.local.lark import GAP, Mark, Sheet, document, escaped


def test_a_mark_is_its_tokens_or_its_text() -> None:
    assert str(Mark("<a>", (7,))) == "<[7]>"
    assert str(Mark("<a>think", (7, "think", 8))) == '<[7]> "think" <[8]>'
    assert str(Mark('say "a"\n')) == '"say \\"a\\"\\n"'
    assert str(Mark("")) == ""


def test_only_a_mark_of_one_token_is_a_token() -> None:
    assert Mark("<a>", (7,)).token == 7
    assert Mark("<a>", (7, 8)).token is None
    assert Mark("<a>", ("a",)).token is None
    assert Mark("<a>").token is None


def test_rules_with_the_same_body_are_one_rule() -> None:
    sheet = Sheet()
    one, two, other = sheet.rule('"a"'), sheet.rule('"a"'), sheet.lexeme('"a"')
    assert one == two
    assert one != other
    assert sheet.text(f"{one} {other} {sheet.lazy(other)}").splitlines()[1:] == [
        "start: r0 T1 z2",
        'r0: "a"',
        'T1: "a"',
        "z2[lazy]: T1",
    ]


def test_a_rule_may_be_used_before_it_is_defined() -> None:
    sheet = Sheet()
    first, second = sheet.reserve(), sheet.reserve()
    assert first != second
    sheet.define(first, f'"a" {second}?')
    sheet.define(second, f'"b" {first}?')
    assert sheet.text(first).splitlines()[1:] == ["start: r0", 'r0: "a" r1?', 'r1: "b" r0?']


def test_a_schema_carries_its_blanks_and_not_those_of_the_client() -> None:
    """An endless pattern in the schema would let a confused model write blanks for ever."""
    found = json.loads(document({"type": "object", "x-guidance": {"whitespace_pattern": ".*"}}, strict=True))
    assert found["x-guidance"]["whitespace_pattern"] == GAP
    assert found["x-guidance"]["lenient"] is False
    assert json.loads(document({}, strict=False))["x-guidance"]["lenient"] is True


def test_gaps_are_what_pretty_printers_write() -> None:
    for gap in (" ", "\n", "\n    ", "\n\t\t"):
        assert re.fullmatch(GAP, gap)
    for gap in ("  ", "\n\n", "\n" + " " * 40, "\t", "\n \t"):
        assert not re.fullmatch(GAP, gap)


def test_any_text_is_itself_in_a_regular_expression() -> None:
    assert escaped("aZ9") == "aZ9"
    assert escaped("</a_b>é\n") == r"\x{3c}\x{2f}a\x{5f}b\x{3e}\x{e9}\x{a}"


def test_a_rule_for_json() -> None:
    sheet = Sheet()
    name = sheet.json({"type": "string"}, strict=True, escapes=False)
    assert sheet.json({"type": "string"}, strict=True) != name
    assert '"json_allow_general_unicode_escapes": false' in sheet.text(name)


def test_a_grammar_leaves_the_cutting_into_tokens_to_the_model() -> None:
    assert Sheet().text("x").splitlines() == ['%llguidance {"no_forcing": true}', "start: x"]
