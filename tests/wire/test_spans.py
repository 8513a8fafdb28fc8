"""Values are found where a reader finds them, and changed there alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.spans import Edits, Value, encode, read

KEYS = st.sampled_from(["a", "b", "é", 'q"', "\\", "x,y", "{", "]:"])
texts = KEYS | st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)
objects = st.dictionaries(texts, values, max_size=5)
looks = st.sampled_from([{"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}, {}])


def dump(value: Any, look: dict[str, Any]) -> bytes:
    return json.dumps(value, **look).encode("utf-8", "surrogatepass")


def root(data: bytes) -> Value:
    value = read(data)
    assert value is not None
    return value


def same(value: Value, wanted: Any) -> None:
    assert json.loads(value.raw) == wanted
    assert (value.is_object, value.is_array) == (isinstance(wanted, dict), isinstance(wanted, list))
    assert value.text() == (wanted if isinstance(wanted, str) else None)
    children = value.children()
    if isinstance(wanted, dict):
        assert [child.key for child in children] == list(wanted)
        for child, inner in zip(children, wanted.values(), strict=True):
            same(child, inner)
    else:
        for child, inner in zip(children, wanted if isinstance(wanted, list) else [], strict=True):
            same(child, inner)


@given(objects, looks)
def test_every_value_is_where_it_stands(value: dict[str, Any], look: dict[str, Any]) -> None:
    same(root(b" \n" + dump(value, look) + b"\t"), value)


@given(objects, looks, st.data())
def test_what_is_dropped_leaves_no_trace(
    value: dict[str, Any], look: dict[str, Any], data: st.DataObject
) -> None:
    gone = set(data.draw(st.lists(st.sampled_from([*value, "none"]))))
    body = dump(value, look)
    edits = Edits(body)
    assert edits.drop_members(root(body), gone) == len(gone & set(value))
    kept = {key: inner for key, inner in value.items() if key not in gone}
    assert json.loads(edits.made()) == kept
    if kept == value:
        assert edits.made() == body
        assert not edits


@given(st.lists(values, max_size=6), st.sets(st.integers(0, 5)), looks)
def test_elements_too(items: list[Any], gone: set[int], look: dict[str, Any]) -> None:
    body = dump({"x": items, "y": 1.0}, look)
    edits = Edits(body)
    places = root(body).elements("x")
    unwanted = {place.start for i, place in enumerate(places) if i in gone}
    edits.drop(places, lambda place: place.start in unwanted)
    assert json.loads(edits.made()) == {"x": [x for i, x in enumerate(items) if i not in gone], "y": 1.0}


def test_the_last_of_a_name_counts() -> None:
    value = root(b'{"a":1,"\\u0061":"two","b":3}')
    assert value.said("a") == "two"
    assert value.said("b") is None
    assert value.get("c") is None
    assert value.elements("a") == []
    edits = Edits(value.data)
    assert edits.drop_members(value, ("a",)) == 2
    assert edits.made() == b'{"b":3}'


def test_changes_are_made_in_order() -> None:
    data = b'{"a": 1, "b": 2.50, "c": [ ]}'
    value = root(data)
    edits = Edits(data)
    edits.insert(data.index(b"]"), b"9")
    second = value.get("b")
    assert second is not None
    edits.replace(second, encode("x"))
    assert edits.made() == b'{"a": 1, "b": "x", "c": [ 9]}'
    assert edits.drop_members(second, ("a",)) == 0
    assert second.children() == []
    assert second.get("a") is None


@pytest.mark.parametrize("data", [b"", b"[1]", b'"x"', b"{", b"\xff", b"null", b'{"a":NaN}', b"[" * 9999])
def test_only_an_object_is_read(data: bytes) -> None:
    assert read(data) is None


def test_halves_of_a_pair_are_written_as_escapes() -> None:
    assert encode("é") == '"é"'.encode()
    assert json.loads(encode("\ud83d" + "\ude00")) == "😀"
