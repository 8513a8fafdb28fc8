from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import syntax

texts = st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from('[]{}"\\/nu'), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=25,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@given(values, st.booleans())
def test_depth_is_counted_outside_of_strings(value: object, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    depth = depth_of(value)
    assert not syntax.is_deeper(data, depth)
    if depth:
        assert syntax.is_deeper(data, depth - 1)


def test_a_string_that_ends_with_a_backslash_ends() -> None:
    assert not syntax.is_deeper(rb'["\\","[[[","\"[[["]', 1)
    assert syntax.is_deeper(rb'["\\",[[]],"\"]]"]', 2)


def test_depth_counts_arrays_and_objects_alike() -> None:
    assert not syntax.is_deeper(nested(128), 128)
    assert syntax.is_deeper(nested(129), 128)
    mixed = b'{"a":[' * 65 + b"]}" * 65
    assert syntax.is_deeper(mixed, 129)
    assert not syntax.is_deeper(mixed, 130)


def test_many_brackets_are_not_depth() -> None:
    assert not syntax.is_deeper(b"[" + b"[],{}," * 1000 + b"0]", 128)


@pytest.mark.parametrize("filler", [b"", b"{" * 100])
def test_depth_is_seen_in_a_large_body_too(filler: bytes) -> None:
    pad = b'"' + b"x" * 70_000 + filler + b'"'
    assert syntax.is_deeper(b"[" + pad + b"," + nested(128) + b"]", 128)
    assert not syntax.is_deeper(b"[" + pad + b"," + nested(20) + b"]", 128)


@given(st.binary(max_size=60))
def test_utf8_is_what_python_decodes(data: bytes) -> None:
    try:
        data.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    assert syntax.is_utf8(data) is expected


def test_utf8_is_read_across_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "_WINDOW", 3)
    assert syntax.is_utf8(("aé日😀" * 9).encode())
    assert not syntax.is_utf8("aé日😀".encode()[:-1])
    assert not syntax.is_utf8(b"abcd\xffefgh")


@pytest.mark.parametrize("size", [4299, 4300, 4301, 6450, 10_000])
@pytest.mark.parametrize("before", [0, 1, 2149, 2150, 5000])
def test_no_long_number_is_overlooked(size: int, before: int) -> None:
    data = b"x" * before + b"7" * size + b"y" * 9
    if size >= 4300:
        assert syntax.may_have_long_int(data)


def test_short_numbers_are_not_long() -> None:
    assert not syntax.may_have_long_int(b"1" * 100)
    assert not syntax.may_have_long_int(b"12345678 " * 5000)


@pytest.mark.parametrize(
    ("data", "sound"),
    [
        (b"[1]", True),
        (nested(128), True),
        (nested(129), False),
        (b"[" + b"7" * 5000 + b"]", False),
        (b'["' + b"7" * 5000 + b'"]', True),
    ],
)
def test_soundness_is_what_python_can_read(data: bytes, sound: bool) -> None:
    assert syntax.is_sound(data) is sound


@given(
    st.text(alphabet='"mode\\u06l', max_size=60),
    st.sampled_from([b'"model"', b"\\u006"]),
    st.integers(0, 70),
    st.sampled_from([1, 1 << 16]),
)
def test_find_is_find_however_large(text: str, needle: bytes, start: int, large: int) -> None:
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syntax, "_LARGE", large)
        assert syntax.find(data, needle, start) == data.find(needle, start)


def test_find_gives_up_on_hopping_where_the_first_byte_is_everywhere() -> None:
    data = b'"' * 100_000 + b'"model"'
    assert syntax.find(data, b'"model"') == 100_000
    assert syntax.find(b"x" * 100_000, b'"model"') == -1


@pytest.mark.parametrize(
    "data",
    [b"NaN", b"[Infinity]", b"[-Infinity]", b'"\xff"', b"\xef\xbb\xbf1", b"[1", b"[" * 100_000, b"9" * 5000],
)
def test_parse_refuses_what_some_client_cannot_read(data: bytes) -> None:
    with pytest.raises(ValueError):
        syntax.parse(data)


def test_parse_takes_what_msgspec_does_not() -> None:
    assert syntax.parse(rb'"\ud83d"') == "\ud83d"
    assert syntax.parse(b"1e999") == float("inf")


# What the modules on top rely on: while msgspec skips, it proves all of these...
@pytest.mark.parametrize(
    "value",
    [
        rb'"\q"',
        rb'"\u12"',
        rb'"\ud800"',
        b'"\x01"',
        b'"\n"',
        b"NaN",
        b"-Infinity",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"1e",
        b"0x1",
        b"tru",
        b"1 2",
        b"[1,]",
        b"1/**/",
    ],
)
def test_msgspec_proves_the_grammar_of_what_it_skips(value: bytes) -> None:
    class Nothing(msgspec.Struct):
        pass

    for data in (b'{"a":' + value + b"}", b'{"a":1}' + value, b'{"a":1,' + value):
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(data, type=Nothing)


# ... and not these, which is why this module exists. When one fails, something here may go.
@pytest.mark.parametrize("value", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc3"', b"9" * 5000, nested(500)])
def test_msgspec_lets_these_pass_while_it_skips(value: bytes) -> None:
    class Nothing(msgspec.Struct):
        pass

    msgspec.json.decode(b'{"a":' + value + b"}", type=Nothing)
