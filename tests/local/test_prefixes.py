"""The index of prefixes: what it gives is always an equal prefix, and never the whole prompt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.local.prefixes import (
    LEAST_KEPT,
    TOKEN_BYTES,
    Entry,
    Hit,
    PrefixIndex,
    common_length,
    pack,
    worth_keeping,
)

SEQUENCES = st.lists(st.integers(0, 2), min_size=1, max_size=12)
LONG = st.lists(st.integers(0, 1), max_size=300)


def entry(name: str, tokens: list[int], *, model: str = "m", size: int = 1, trimmable: bool = True) -> Entry:
    return Entry(name, model, pack(tokens), size, trimmable)


def index_of(*entries: Entry) -> PrefixIndex:
    index = PrefixIndex()
    for each in entries:
        index.add(each)
    return index


def best(index: PrefixIndex, tokens: list[int], model: str = "m") -> tuple[str, int] | None:
    hit = index.best(model, pack(tokens), least=2)
    return None if hit is None else (hit.entry.id, hit.length)


def by_hand(one: list[int], other: list[int]) -> int:
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same


@given(LONG, LONG, LONG, st.data())
def test_common_length_is_what_a_loop_would_count(
    head: list[int], one: list[int], other: list[int], data: st.DataObject
) -> None:
    one, other = head + one, head + other
    right = by_hand(one, other)
    known = data.draw(st.integers(0, right))
    assert common_length(pack(one), pack(other), known=known) == right


def test_a_repeated_prompt_leaves_its_last_token_to_be_computed() -> None:
    """mlx-lm's server died of this: an exact hit left an empty prompt, which its generator refuses."""
    index = index_of(entry("a", [1, 2, 3, 4]))
    assert best(index, [1, 2, 3, 4]) == ("a", 3)


def test_what_can_not_be_cut_is_used_whole_or_not_at_all() -> None:
    index = index_of(entry("a", [1, 2, 3, 4], trimmable=False))
    assert best(index, [1, 2, 3, 4, 5]) == ("a", 4)
    assert best(index, [1, 2, 3, 4]) is None
    assert best(index, [1, 2, 3, 5, 6]) is None


def test_what_can_be_cut_serves_up_to_where_the_prompts_part() -> None:
    index = index_of(entry("a", [1, 2, 3, 4, 5, 6]))
    assert best(index, [1, 2, 3, 9, 9]) == ("a", 3)
    assert best(index, [1, 2, 3]) == ("a", 2)
    assert best(index, [1, 9]) is None


def test_the_longest_wins_and_of_equals_the_last_used() -> None:
    index = index_of(entry("a", [1, 2, 3, 7]), entry("b", [1, 2, 3, 8]), entry("c", [1, 2, 9]))
    assert best(index, [1, 2, 3, 5]) == ("b", 3)
    index.touch("a")
    assert best(index, [1, 2, 3, 5]) == ("a", 3)


def test_models_never_share() -> None:
    index = index_of(entry("a", [1, 2, 3, 4], model="other"))
    assert best(index, [1, 2, 3, 4, 5]) is None
    assert index.covering("m", pack([1, 2]), trimmable=True) is None
    assert index.add(entry("b", [1, 2, 3, 4])) == []
    assert [e.id for e in index.of("other")] == ["a"] and len(index.of()) == 2


def test_a_hit_that_is_too_short_is_none() -> None:
    index = index_of(entry("a", list(range(40))))
    assert index.best("m", pack(list(range(16)))) is None
    assert index.best("m", pack(list(range(17)))) == Hit(entry("a", list(range(40))), 16)
    assert index.best("m", b"") is None


def test_a_longer_entry_replaces_its_beginnings_if_it_can_be_cut() -> None:
    index = index_of(entry("a", [1, 2]), entry("b", [1, 3]))
    assert [e.id for e in index.add(entry("c", [1, 2, 3], trimmable=False)) or []] == []
    assert [e.id for e in index.add(entry("d", [1, 2, 3])) or []] == ["c", "a"]
    assert [e.id for e in index.of()] == ["b", "d"]


def test_what_is_covered_is_only_touched() -> None:
    index = index_of(entry("a", [1, 2, 3]), entry("b", [7, 7, 7], trimmable=False))
    assert index.add(entry("c", [1, 2])) is None
    assert [e.id for e in index.of()] == ["b", "a"]
    assert index.add(entry("d", [7, 7, 7], trimmable=False)) is None
    assert [e.id for e in index.add(entry("e", [7, 7, 7])) or []] == ["b"]


def test_the_least_recently_used_go_first_but_what_never_fits_before_them() -> None:
    index = index_of(
        *[entry(name, [n, n], size=3) for n, name in enumerate("abc")], entry("big", [9], size=50)
    )
    index.touch("a")
    assert [e.id for e in index.evict(6)] == ["big", "b"]
    assert [e.id for e in index.evict(6, most=1)] == ["c"]
    assert (len(index), index.size_bytes) == (1, 3)


def test_short_prompts_are_not_worth_it() -> None:
    assert worth_keeping(LEAST_KEPT) and not worth_keeping(LEAST_KEPT - 1)


@pytest.mark.parametrize("same", [0, 50_000, 99_000])
def test_a_hundred_long_entries_are_searched_in_milliseconds(same: int) -> None:
    prompt = [n % 50_000 for n in range(100_000)]
    index = PrefixIndex()
    for n in range(100):
        index.add(entry(str(n), [*prompt[: same + n], 60_000 + n, *prompt[same + n + 1 :]]))
    packed = pack(prompt)
    begin = time.process_time()
    hit = index.best("m", packed, least=1)
    spent = time.process_time() - begin
    assert hit is not None and hit.length == same + 99
    assert spent < 0.1  # 3 to 6 ms on an idle machine; a loop over tokens would take half a second


class Machine(RuleBasedStateMachine):
    """Any order of calls, compared with a search by hand through a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.known: list[tuple[Entry, list[int]]] = []  # least recently used first
        self.number = 0

    def _touched(self, name: str) -> None:
        self.known.sort(key=lambda pair: pair[0].id == name)

    @rule(tokens=SEQUENCES, size=st.integers(0, 9), trimmable=st.booleans(), model=st.sampled_from("ab"))
    def add(self, tokens: list[int], size: int, trimmable: bool, model: str) -> None:
        self.number += 1
        new = entry(str(self.number), tokens, model=model, size=size, trimmable=trimmable)
        gone = self.index.add(new)
        if gone is None:
            cover = self.index.covering(model, new.tokens, trimmable=trimmable)
            assert cover is not None and cover.tokens.startswith(new.tokens)
            assert cover.trimmable or (cover.tokens == new.tokens and not trimmable)
            self._touched(cover.id)
            return
        for other in gone:
            assert trimmable and new.tokens.startswith(other.tokens) and other.model == model
        self.known = [pair for pair in self.known if pair[0] not in gone] + [(new, tokens)]

    @rule(prompt=SEQUENCES, model=st.sampled_from("ab"), least=st.integers(1, 4))
    def ask(self, prompt: list[int], model: str, least: int) -> None:
        hit = self.index.best(model, pack(prompt), least=least)
        right: tuple[int, str] | None = None
        for known, tokens in self.known:
            same = min(by_hand(tokens, prompt), len(prompt) - 1)
            length = same if known.trimmable or same == len(tokens) else 0
            if known.model == model and length >= max(least, right[0] if right else 0):
                right = (length, known.id)
        assert (hit and (hit.length, hit.entry.id)) == right
        if hit is not None:
            assert hit.length < len(prompt)
            assert hit.entry.tokens[: hit.length * TOKEN_BYTES] == pack(prompt[: hit.length])
            self.index.touch(hit.entry.id)
            self._touched(hit.entry.id)

    @rule(bound=st.integers(0, 30), most=st.integers(0, 8))
    def evict(self, bound: int, most: int) -> None:
        gone = self.index.evict(bound, most=most)
        assert self.index.size_bytes <= bound and len(self.index) <= most
        kept = [pair for pair in self.known if pair[0] not in gone]
        small = [known for known, _ in self.known if known.size_bytes <= bound]
        assert small[len(small) - len(kept) :] == [known for known, _ in kept]
        self.known = kept

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([known.id for known, _ in self.known] or ["none"]))
        self.index.remove(name)
        self.known = [pair for pair in self.known if pair[0].id != name]

    @invariant()
    def agrees(self) -> None:
        assert self.index.of() == [known for known, _ in self.known]
        assert self.index.size_bytes == sum(known.size_bytes for known, _ in self.known)
        assert len(self.index) == len(self.known)


test_any_order_of_calls = Machine.TestCase
