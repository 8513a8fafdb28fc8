"""Blank text between kinds is dropped, all other text is kept."""

from __future__ import annotations

import pytest

from gateway.local.pieces import Piece, Tidy


def run(*pieces: tuple[str, str]) -> list[tuple[str, str]]:
    tidy = Tidy()
    found = [kept for kind, text in pieces for kept in tidy.feed(Piece(kind, text))]  # type: ignore[arg-type]
    found += tidy.end()
    merged: list[tuple[str, str]] = []
    for kind, text in found:
        if merged and merged[-1][0] == kind != "tool":
            merged[-1] = (kind, merged[-1][1] + text)
        else:
            merged.append((kind, text))
    return merged


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([("content", "  a "), ("content", " b \n")], [("content", "  a  b \n")]),
        (
            [("reasoning", "\n"), ("reasoning", "\nhm \n"), ("content", "\n\na")],
            [("reasoning", "hm"), ("content", "a")],
        ),
        (
            [("content", "a\n"), ("tool", "x"), ("content", "\n"), ("tool", "y")],
            [("content", "a"), ("tool", "x"), ("tool", "y")],
        ),
        ([("tool", "x"), ("content", "\n")], [("tool", "x")]),
        ([("content", " \n")], [("content", " \n")]),
        ([("reasoning", "a \n")], [("reasoning", "a")]),
        ([("content", "a "), ("broken tool", "{")], [("content", "a"), ("broken tool", "{")]),
        ([], []),
    ],
)
def test_blanks(pieces: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    assert run(*pieces) == expected
