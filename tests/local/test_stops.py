"""Stop strings: cut exactly, hold back as little as possible, whatever the pieces are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.local.stops import StopCutter


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    cutter = StopCutter(stops)
    text = "".join([cutter.feed(piece) for piece in pieces])
    return (text, True) if cutter.stopped else (text + cutter.flush(), False)


def test_cuts_before_a_stop_that_comes_in_pieces() -> None:
    assert run(["4 5"], ["1 2 3 ", "4", " ", "5 6"]) == ("1 2 3 ", True)


def test_gives_out_what_was_no_stop_after_all() -> None:
    assert run(["abc"], ["xa", "b", "d"]) == ("xabd", False)
    assert run(["abc"], ["xab"]) == ("xab", False)
    assert run(["aab"], ["a", "a", "a", "b"]) == ("a", True)


def test_holds_back_no_more_than_may_become_a_stop() -> None:
    cutter = StopCutter(["\n\nUser:"])
    assert cutter.feed("hello\n") == "hello"
    assert cutter.feed("x") == "\nx"


def test_nothing_comes_after_a_stop() -> None:
    cutter = StopCutter(["s"])
    assert cutter.feed("as b") == "a"
    assert (cutter.feed("more"), cutter.flush()) == ("", "")
    assert cutter.found == "s"


def test_the_stop_that_is_complete_first_wins_and_of_two_the_longer_one() -> None:
    assert run(["abcdef", "cd"], ["abcdef"]) == ("ab", True)
    assert run(["cd", "abcd"], ["xabcd"]) == ("x", True)


small = st.text("ab\n", max_size=12)


@given(st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3), st.lists(small, max_size=8))
def test_any_split_gives_the_same(stops: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = run(stops, [text])
    assert run(stops, pieces) == whole == run(stops, list(text))
    assert whole[1] == any(stop in text for stop in stops)
    assert text.startswith(whole[0])
    assert not any(stop in whole[0] for stop in stops)
