"""Which model names are let in."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.routing.name import LETTERS, check_name, is_name


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o",
        "demo",
        "mlx-community/Qwen3-8B-4bit",
        "qwen3:8b",
        "ft:gpt-4o-2024-08-06:org::id",
        "@cf/meta/llama-3-8b-instruct",
        "claude-3-5-sonnet@20240620",
        "anthropic.claude-3-sonnet-20240229-v1:0",
        "~anthropic/claude-latest",
        "claude-opus-4[1m]",
        "a+b",
        "x" * 256,
        ".",
    ],
)
def test_real_names_are_let_in(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("x" * 257, "257 characters"),
        ("x" * 1_000_000, "1000000 characters"),
        ("/etc/passwd", "begins with '/'"),
        ("a/../b", "'..'"),
        ("..", "'..'"),
        ("a b", "' '"),
        ("a\nb", r"'\n'"),
        ("a\x00", r"'\x00'"),
        ("gpt-4\n", r"'\n'"),
        ("gpt-*", "'*'"),
        ("gpt-?", "'?'"),
        ("a'; drop table rules", '"\'"'),
        ("é", r"'\xe9'"),
        ("a,b", "','"),
        ("a=b", "'='"),
        ("a\\b", r"'\\'"),
        ("\ud800", r"'\ud800'"),
        ("٣", r"'\u0663'"),
    ],
)
def test_other_names_get_one_clear_error(name: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_name(name)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_model", "model")
    assert says in error.message
    assert len(error.message) < 400
    assert error.message.isascii()
    assert error.message.isprintable()


@given(st.text(max_size=300))
def test_nothing_but_the_alphabet_gets_through(name: str) -> None:
    if is_name(name):
        assert LETTERS.issuperset(name)
        assert 1 <= len(name) <= 256
        assert not name.startswith("/")
        assert ".." not in name


def test_no_name_is_a_pattern_by_stars() -> None:
    assert not any(fnmatch.fnmatchcase(letter, "[*?]") for letter in LETTERS)
