"""The pattern reader against the only judge there is: fnmatch.fnmatchcase."""

from __future__ import annotations

import fnmatch
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.routing.pattern import Kind, escape, read_pattern, taken

# Few letters, so that patterns and names meet often; all that mean something are among them.
PATTERNS = st.text("ab*?[]!-^&", max_size=10)
NAMES = st.text("ab*?[]!-^&", max_size=10)


@given(PATTERNS, NAMES)
@example("m[1]", "m1")
@example("m[1]", "m[1]")
@example("[", "[")
@example("[!]", "[!]")
@example("[]a]", "]")
@example("[!]a]", "b")
@example("[b-a]", "b")
def test_it_matches_what_fnmatch_matches(pattern: str, name: str) -> None:
    assert bool(read_pattern(pattern).matches(name)) == fnmatch.fnmatchcase(name, pattern)


@given(PATTERNS, NAMES)
def test_what_the_wildcards_took_makes_the_name_again(pattern: str, name: str) -> None:
    read = read_pattern(pattern)
    if not read.matches(name):
        return
    took = list(taken(read, name))
    assert len(took) == read.wildcards
    at = 0
    for piece in read.pieces:
        if piece.kind is Kind.ANY:
            part = took.pop(0)
        elif piece.kind is Kind.ONE:
            part = took.pop(0)
            assert len(part) == 1
        else:
            part = name[at]
            assert piece.takes(part)
        assert name.startswith(part, at)
        at += len(part)
    assert at == len(name)


@given(st.text("ab*", max_size=7), st.text("ab", max_size=7))
def test_each_star_takes_as_little_as_it_can(pattern: str, name: str) -> None:
    read = read_pattern(pattern)
    if not read.matches(name) or "**" in pattern:
        return
    parts = pattern.split("*")
    splits = [
        cut
        for cut in product(range(len(name) + 1), repeat=read.wildcards)
        if sum(cut) + sum(map(len, parts)) == len(name) and _joined(name, parts, cut) == name
    ]
    assert tuple(map(len, taken(read, name))) == min(splits, default=())


def _joined(name: str, parts: list[str], cut: tuple[int, ...]) -> str:
    built = parts[0]
    for size, part in zip(cut, parts[1:], strict=True):
        built += name[len(built) : len(built) + size] + part
    return built


@pytest.mark.parametrize(
    ("pattern", "name", "took"),
    [
        ("*", "gpt-4o", ("gpt-4o",)),
        ("gpt-*", "gpt-4o", ("4o",)),
        ("*/*", "openai/gpt-4o/x", ("openai", "gpt-4o/x")),  # the vendor and the model
        ("gpt-?o-*", "gpt-4o-mini", ("4", "mini")),
        ("*-?", "a-b-c", ("a-b", "c")),
        ("?*", "abc", ("a", "bc")),
        ("*?", "abc", ("ab", "c")),
        ("a**b", "axyb", ("xy", "")),  # a run of stars: the first takes all
        ("[ab]*-[cd]?", "a1-c2", ("1", "2")),  # classes have no number
        ("gpt-4o", "gpt-4o", ()),
        ("m[1]*", "m[1]*", ("*",)),  # equal, though fnmatch says no: each took itself
        ("a?*", "a?*", ("?", "*")),
    ],
)
def test_what_the_wildcards_took(pattern: str, name: str, took: tuple[str, ...]) -> None:
    assert taken(read_pattern(pattern), name) == took


@pytest.mark.parametrize(
    ("pattern", "literals", "wildcards", "prefix", "plain"),
    [
        ("", 0, 0, "", True),
        ("gpt-4", 5, 0, "gpt-4", True),
        ("gpt-*", 4, 1, "gpt-", False),
        ("*-chat", 5, 1, "", False),
        ("m[1]", 2, 0, "m1", False),  # a class of one letter is a literal in other clothes
        ("m[[]1]", 4, 0, "m[1]", False),
        ("m[12]x", 2, 0, "m", False),
        ("m[!1]", 1, 0, "m", False),
        ("m[1", 3, 0, "m[1", True),  # never closed: a bracket like any letter
        ("a?b*", 2, 2, "a", False),
    ],
)
def test_what_is_worked_out(pattern: str, literals: int, wildcards: int, prefix: str, plain: bool) -> None:
    read = read_pattern(pattern)
    assert (read.literals, read.wildcards, read.prefix, read.is_plain) == (literals, wildcards, prefix, plain)


@given(st.text(max_size=12), st.text(max_size=12))
def test_an_escaped_name_matches_itself_and_nothing_else(name: str, other: str) -> None:
    read = read_pattern(escape(name))
    assert read.matches(name)
    assert taken(read, name) == ()
    assert bool(read.matches(other)) == (other == name)


@given(PATTERNS, NAMES)
def test_whatever_matches_begins_with_the_prefix(pattern: str, name: str) -> None:
    read = read_pattern(pattern)
    assert not read.matches(name) or name.startswith(read.prefix)


def test_many_stars_do_not_take_exponential_time() -> None:
    # A regular expression with groups would try every way to cut the name: more than there are atoms.
    read = read_pattern("*a" * 40 + "*")
    assert not read.matches("a" * 39 + "b" * 200)
    assert taken(read, "ba" * 40 + "c")[-1] == "c"
