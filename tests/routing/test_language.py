"""What is said of all names at once must hold for each of them."""

from __future__ import annotations

import fnmatch
from itertools import product

import pytest
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import language
from gateway.routing.language import example, impossible, includes
from gateway.routing.name import LETTERS, is_name
from gateway.routing.pattern import read_pattern

PATTERNS = st.text("ab*?[]!-", min_size=1, max_size=6)
SOME_NAMES = ["".join(letters) for size in range(6) for letters in product("abc", repeat=size)]


@given(PATTERNS, PATTERNS)
@also("a*", "ab*")
@also("*", "?")
@also("?*", "*?")
@also("*a*", "?a?")
def test_what_is_included_is_matched_without_exception(wide: str, narrow: str) -> None:
    names = [name for name in SOME_NAMES if fnmatch.fnmatchcase(name, narrow)]
    if includes(read_pattern(wide), read_pattern(narrow)):
        assert all(fnmatch.fnmatchcase(name, wide) for name in names)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("*", "gpt-*", True),
        ("gpt-*", "gpt-4*", True),
        ("gpt-*", "gpt-4", True),
        ("gpt-4*", "gpt-*", False),
        ("*4*", "gpt-4*", True),
        ("?*", "*", False),
        ("*?", "?*", True),
        ("[ab]*", "a*", True),
        ("a*", "[ab]*", False),
        ("[!a]*", "b*", True),
        ("[a-z]", "[bcd]", True),
        ("a*b", "a*b*b", True),
        ("a*b*b", "a*b", False),
        ("*-chat", "gpt-*", False),
        ("x*", "y*", False),
        ("[a-zA-Z0-9._:/@+~[-]*", "[!]]*", True),  # every letter but one, written in two ways
        ("[*]", "a", False),
    ],
)
def test_inclusion_is_decided_exactly(wide: str, narrow: str, expected: bool) -> None:
    assert includes(read_pattern(wide), read_pattern(narrow)) is expected


def test_a_question_that_takes_too_long_is_answered_no(monkeypatch: pytest.MonkeyPatch) -> None:
    # "the 12th letter from the end is an a" needs 2^12 sets of positions
    hard = "*a" + "?" * 12
    assert not includes(read_pattern(hard), read_pattern("*[ab]a" + "?" * 12))
    monkeypatch.setattr(language, "MOST_PAIRS", 1 << 20)
    assert includes(read_pattern("*a" + "?" * 8), read_pattern("*[ab]a" + "?" * 8))


@given(PATTERNS)
def test_an_example_is_a_name_that_matches(pattern: str) -> None:
    name = example(read_pattern(pattern))
    assert name is None or (is_name(name) and fnmatch.fnmatchcase(name, pattern))


@pytest.mark.parametrize(
    ("pattern", "name"), [("*", "x"), ("gpt-*", "gpt-"), ("?[0-9]", "x0"), ("[*]", None), ("/*", None)]
)
def test_examples(pattern: str, name: str | None) -> None:
    assert example(read_pattern(pattern)) == name


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("gpt 4", "' '"),
        ("gpt-4\n", "'\\n'"),
        ("[*]x", "'[*]'"),
        ("[z-a]", "'[z-a]'"),
        ("/models/*", "begins with '/'"),
        ("[/]x", "begins with '/'"),
        ("a..b", "'..'"),
        ("a.[.]b", "'..'"),
        ("x" * 257 + "*", "needs 257"),
    ],
)
def test_patterns_that_no_name_can_match(pattern: str, why: str) -> None:
    said = impossible(read_pattern(pattern))
    assert said is not None
    assert why in said


@given(st.text([*sorted(LETTERS)[:12], "*", "?", "."], min_size=1, max_size=8))
def test_only_truly_impossible_patterns_are_called_so(pattern: str) -> None:
    name = example(read_pattern(pattern))
    assert name is None or impossible(read_pattern(pattern)) is None
