"""Names and notes."""

from __future__ import annotations

import pytest

from gateway.errors import RefusedError
from gateway.store.names import check_name, check_new, check_note, check_upstream_name


@pytest.mark.parametrize("name", ["a", "openai", "open-ai.2_x", "9lives", "A" * 64])
def test_a_name_that_can_be_used(name: str) -> None:
    assert check_name(name, "policy") == name


@pytest.mark.parametrize(
    "name", ["", "A" * 65, "-a", ".a", "a b", "a/b", "a:b", "a..b", "a\n", "ä", "a,b", "a=b", "{model}"]
)
def test_a_name_that_would_break_a_label_a_path_or_a_header(name: str) -> None:
    with pytest.raises(RefusedError, match="a name is 1 to 64"):
        check_name(name, "policy")


@pytest.mark.parametrize("name", ["local", "Local", "LOCAL"])
def test_no_upstream_is_called_like_the_pool(name: str) -> None:
    with pytest.raises(RefusedError, match="the pool of this machine"):
        check_upstream_name(name)


def test_two_names_never_differ_by_case_alone() -> None:
    check_new("b", ["a"], "policy")
    with pytest.raises(RefusedError, match="exists already"):
        check_new("a", ["a"], "policy")
    with pytest.raises(RefusedError, match="by case alone"):
        check_new("A", ["a"], "policy")


@pytest.mark.parametrize("note", ["two\nlines", "\x1b[31mred", "x" * 501])
def test_a_note_is_one_line(note: str) -> None:
    with pytest.raises(RefusedError, match="note"):
        check_note(note)
    assert check_note("für später") == "für später"
