"""Calls that are read while they are written."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.local.calls import CallReader, Heard


def heard(*parts: str, streams: bool = True) -> tuple[str | None, str, CallReader]:
    """The name and the joined arguments that came of these pieces."""
    reader = CallReader(streams=streams)
    name, arguments = None, ""
    for part in parts:
        found = reader.feed(part)
        if found is None:
            continue
        assert found.name or found.arguments, "nothing is told for nothing"
        assert found.name is None or name is None, "the name is told once"
        name, arguments = name or found.name, arguments + found.arguments
    assert reader.named == (name is not None)
    assert reader.text == "".join(parts)
    return name, arguments, reader


def test_a_call_is_told_as_it_comes() -> None:
    reader = CallReader(streams=True)
    found = [reader.feed(part) for part in ('\n{"name": "f', '", "arguments"', ': {"a', '": 1', "}", "}\n")]
    assert found == [None, None, Heard("f", '{"a'), Heard(None, '": 1'), Heard(None, "}"), None]
    assert reader.complete
    waiting = CallReader(streams=True)
    assert waiting.feed('{"name": "f", "arguments": ') is None, "it may still be no object"
    assert waiting.feed("{") == Heard("f", "{")
    assert waiting.feed("") is None
    assert not waiting.complete


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        '{"a": "}"}',
        '{"a": "\\"}"}',
        '{"a": "\\\\"}',
        '{"a": {"b": [1, {"c": "]"}]}}',
        '{ "a" : [[], {}] }',
        '{"ä": "🙂"}',
    ],
)
def test_the_arguments_are_exactly_the_object(arguments: str) -> None:
    name, found, reader = heard(f'{{"name": "f", "arguments": {arguments}}} and more }}')
    assert (name, found, reader.complete) == ("f", arguments, True)


def test_a_name_is_json_too() -> None:
    assert heard('{"name": "a\\"\\u00fc", "arguments": {}}')[0] == 'a"ü'


@pytest.mark.parametrize(
    "text",
    [
        '{"arguments": {}, "name": "f"}',
        '{"name": 5, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": "\\x", "arguments": {}}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f"}',
        "<function=f><parameter=a>1</parameter></function>",
        "",
    ],
)
def test_what_can_not_be_streamed_is_kept_whole(text: str) -> None:
    assert heard(text)[:2] == (None, "")
    assert heard(*text)[:2] == (None, "")


def test_a_family_that_writes_no_json_is_never_streamed() -> None:
    assert heard('{"name": "f", "arguments": {}}', streams=False)[:2] == (None, "")


def test_a_name_that_does_not_end_is_not_waited_for() -> None:
    long = '{"name": "' + "x" * 2000
    name, arguments, reader = heard(*long, '", "arguments": {}}')
    assert (name, arguments, reader.complete) == (None, "", False)


def test_a_call_that_is_cut_is_incomplete() -> None:
    name, arguments, reader = heard('{"name": "f", "arguments": {"a": [1')
    assert (name, arguments, reader.complete) == ("f", '{"a": [1', False)


json_objects = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(
    st.text(min_size=1, max_size=8),
    json_objects,
    st.sampled_from([None, 1]),
    st.booleans(),
    st.text(max_size=5),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_any_cut_of_a_call_tells_the_same(
    name: str, arguments: object, indent: int | None, ascii_: bool, behind: str, cuts: list[int]
) -> None:
    """Pieces come from tokens: their borders mean nothing."""
    written = json.dumps(arguments, indent=indent, ensure_ascii=ascii_)
    text = f'{{"name": {json.dumps(name)}, "arguments": {written}}}{behind}'
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert heard(*pieces)[:2] == heard(*text)[:2] == (name, written)


@given(st.lists(st.text(alphabet='{}[]",:\\ nameargumts1', max_size=9), max_size=9))
def test_any_text_at_all_tells_the_same_however_it_is_cut(parts: list[str]) -> None:
    text = "".join(parts)
    assert heard(*parts)[:2] == heard(text)[:2] == heard(*text)[:2]
