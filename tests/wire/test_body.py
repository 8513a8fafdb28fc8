"""A body is refused with a 400 or understood exactly as whoever reads it will; nothing in between."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.wire.body import read_json

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
words = st.sampled_from(["model", "stream", '"model"', "mode", 'a"model":"x"', "\\", "é"]) | NAMES
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)


def refused(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read_json(data)
    assert caught.value.status == 400
    assert len(caught.value.message) < 400
    return caught.value


def test_model_and_stream_are_found_wherever_they_stand() -> None:
    data = b'{ "messages": [{"model": "no"}], "stream" : true , "model"\n:\t"gpt-4o" }'
    body = read_json(data)
    assert (body.model, body.stream) == ("gpt-4o", True)
    assert body.span is not None
    assert data[slice(*body.span)] == b'"gpt-4o"'


def test_a_body_without_model_is_sound() -> None:
    for data in (b"{}", b' {"input":"model"} ', b'{"model":null,"stream":null}'):
        body = read_json(data)
        assert (body.model, body.span, body.stream) == (None, None, False)
        assert body.renamed("x") is data


def test_renaming_changes_only_the_bytes_of_the_value() -> None:
    data = '{"n":1.0000000000000000001,"model" : "a\\u0062\\"c","ü":"\\ud83d\\ude00é","z":-0}'.encode()
    body = read_json(data)
    assert body.model == 'ab"c'
    assert body.renamed('x"y/é') == data.replace(rb'"a\u0062\"c"', '"x\\"y/é"'.encode())


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (b'{"model":"m","tools":[{"parameters":{"properties":{"model":{"type":"string"}}}}]}', "m"),
        (b'{"tools":[{"model":{}}],"model":"m"}', "m"),
        (b'{"a":"model","model":"m","b":"model"}', "m"),
        (b'{"model":"model"}', "model"),
        (b'{"a":"\\"model\\":\\"x\\"","model":"m"}', "m"),
        (b'{"a":"say \\"model","model":"m"}', "m"),
        (b'{"mod\\u0065l":"m"}', "m"),
        (b'{"a":{"mod\\u0065l":"x"},"model":"m"}', "m"),
        (b'{"a":"\\u006dodel","model":"m"}', "m"),
        (b'{"x":[' + b'{"model":1},' * 9 + b'0],"model":"m","y":[' + b'{"model":1},' * 9 + b"0]}", "m"),
    ],
)
def test_the_word_model_elsewhere_does_not_fool_it(data: bytes, model: str) -> None:
    body = read_json(data)
    assert body.model == model
    assert json.loads(body.renamed("other")) == {**json.loads(data), "model": "other"}


@pytest.mark.parametrize(
    "data",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model":"a","mod\\u0065l":"a"}',
        b'{"\\u006dodel":"a","model":"b"}',
        b'{"model":1,"model":"a"}',
        b'{"model":"a","model":null}',
        b'{"model":"a","x":{"model":"b"},"model":"a"}',
    ],
)
def test_a_model_that_stands_twice_is_refused(data: bytes) -> None:
    error = refused(data)
    assert (error.code, error.param) == ("duplicate_key", "model")


@pytest.mark.parametrize(
    ("data", "param", "word"),
    [
        (b'{"model":1}', "model", "a number"),
        (b'{"model":true}', "model", "a boolean"),
        (b'{"model":["a"]}', "model", "an array"),
        (b'{"model":{"a":1}}', "model", "an object"),
        (b'{"stream":"true"}', "stream", "a string"),
        (b'{"stream":1.5}', "stream", "a number"),
        (b'{"model":"x","stream":0}', "stream", "a number"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(data: bytes, param: str, word: str) -> None:
    error = refused(data)
    assert (error.code, error.param) == ("invalid_type", param)
    assert word in error.message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "invalid_json"),
        (b" \r\n", "invalid_json"),
        (b"{", "invalid_json"),
        (b"{}x", "invalid_json"),
        (b"{}{}", "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":-Infinity}', "invalid_json"),
        (b'{"a":"\\ud800"}', "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"\xff":1}', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"a":' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"model":' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"model":1e999}', "invalid_type"),
        (b"[]", "invalid_type"),
        (b'"model"', "invalid_type"),
        (b"null", "invalid_type"),
        (b"7", "invalid_type"),
        (b"true", "invalid_type"),
        (b"[1", "invalid_json"),
        (b"'model'", "invalid_json"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "json_too_deep"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json_too_deep"),
        (b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json_too_deep"),
        (b'{"a":' + b'{"a":' * 100_000, "json_too_deep"),
    ],
)
def test_what_is_no_sound_object_is_refused(data: bytes, code: str) -> None:
    assert refused(data).code == code


def test_long_digits_in_a_string_are_no_number() -> None:
    assert read_json(b'{"model":"m","a":"' + b"9" * 9000 + b'"}').model == "m"


def test_a_megabyte_of_model_is_only_a_long_string() -> None:
    assert read_json(b'{"model":"' + b"x" * (1 << 20) + b'"}').model == "x" * (1 << 20)


def test_the_model_is_found_behind_ten_megabytes() -> None:
    image = b"QUJD9x+/" * 1_300_000
    data = b'{"a":"' + image + b'","model":"m"}'
    assert read_json(data).span == (len(data) - 4, len(data) - 1)


def test_a_body_is_not_shown_by_its_repr() -> None:
    body = read_json(b'{"model":"m","messages":"secret"}')
    assert repr(body) == "JsonBody(model='m', stream=False, size=33)"


@given(st.dictionaries(words, values, max_size=5), NAMES, NAMES, st.booleans(), st.integers(0, 5), st.data())
def test_renaming_is_the_same_as_editing_the_object(
    rest: dict[str, object], model: str, other: str, ascii_only: bool, place: int, data: st.DataObject
) -> None:
    rest.pop("model", None)
    rest.pop("stream", None)
    items = list(rest.items())
    items.insert(place, ("model", model))
    indent = data.draw(st.sampled_from([None, 1, "\t"]))
    raw = json.dumps(dict(items), ensure_ascii=ascii_only, indent=indent).encode("utf-8")
    body = read_json(raw)
    assert body.model == model
    assert body.span is not None
    start, end = body.span
    renamed = body.renamed(other)
    assert list(json.loads(renamed).items()) == [(k, other if k == "model" else v) for k, v in items]
    assert renamed.startswith(raw[:start])
    assert renamed.endswith(raw[end:])


@given(st.lists(st.tuples(st.sampled_from(["model", "x"]), values), max_size=4))
def test_only_duplicates_and_wrong_types_are_refused(
    pairs: list[tuple[str, object]],
) -> None:
    raw = ("{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs) + "}").encode()
    models = [v for k, v in pairs if k == "model"]
    if len(models) <= 1 and all(v is None or isinstance(v, str) for v in models):
        assert read_json(raw).model == (models[0] if models else None)
    else:
        assert refused(raw).param == "model"


@given(st.binary(max_size=80) | st.text('{}[]":,\\model0 \n').map(str.encode))
@example(b'{"model":"\\u006d"')
def test_junk_is_refused_or_is_what_python_reads(data: bytes) -> None:
    try:
        body = read_json(data)
    except RequestError as error:
        assert error.status == 400
        return
    value = json.loads(data)
    assert isinstance(value, dict)
    assert body.model == value.get("model")
    assert body.stream is (value.get("stream") is True)
