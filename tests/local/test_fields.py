"""Single values, and the words that say what was wrong with one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.local.fields import Unsupported, array, flag, integer, number, table, text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": 1}, "an object"),
        ([1], "a list"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ("x", "'x'"),
        ("x" * 99, "xxx...'"),
        (1.5, "1.5"),
    ],
)
def test_values_are_shown_shortly(value: Any, shown: str) -> None:
    with pytest.raises(RequestError, match="size must be a whole number, not ") as caught:
        integer("size", value, low=0)
    assert str(caught.value).endswith(shown)
    assert len(str(caught.value)) < 100
    assert (caught.value.code, caught.value.param, caught.value.status) == ("invalid_type", "size", 400)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: flag("x", 1), "true or false"),
        (lambda: number("x", "1", low=0, high=1), "a number"),
        (lambda: number("x", True, low=0, high=1), "a number"),
        (lambda: integer("x", True, low=0), "a whole number"),
        (lambda: array("x", {}), "a list"),
        (lambda: table("x", []), "an object"),
        (lambda: text("x", 5), "a string"),
    ],
)
def test_a_wrong_type_is_named(call: Any, words: str) -> None:
    with pytest.raises(RequestError, match=f"x must be {words}, not "):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: integer("x", -1, low=0), "at least 0, not -1"),
        (lambda: integer("x", 2**31, low=1), "at least 1, not 2147483648"),
        (lambda: integer("x", 10**99, low=1, high=5), "between 1 and 5, not 10000"),
        (lambda: number("x", 1.1, low=0, high=1), "between 0 and 1, not 1.1"),
        (lambda: number("x", math.nan, low=0, high=1), "between 0 and 1, not nan"),
        (lambda: number("x", math.inf, low=0, high=1), "between 0 and 1, not inf"),
    ],
)
def test_a_value_out_of_range_is_told_the_range(call: Any, words: str) -> None:
    with pytest.raises(RequestError, match=f"x must be {words}") as caught:
        call()
    assert caught.value.code == "invalid_value"
    assert len(str(caught.value)) < 100


def test_what_is_right_is_given_back() -> None:
    assert flag("x", False) is False
    assert integer("x", 5, low=5, high=5) == 5
    assert isinstance(number("x", 1, low=0, high=1), float)
    assert (array("x", [1]), table("x", {"a": 1}), text("x", "")) == ([1], {"a": 1}, "")


def test_what_is_right_but_can_not_be_honoured_is_told_apart() -> None:
    found = Unsupported("suffix", "not here")
    assert (found.param, found.code, str(found)) == ("suffix", "unsupported_parameter", "not here")
    assert isinstance(found, RequestError)
