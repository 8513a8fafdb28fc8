from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.wire.multipart import ModelScan, ScanState, boundary_of
from tests.wire.cuts import cut, places, single_bytes

B = b"xYz-09"


def part(headers: bytes, content: bytes) -> bytes:
    return b"--" + B + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, content: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"', content)


def file(content: bytes, name: bytes = b"file") -> bytes:
    head = b'content-disposition: form-data; name="' + name + b'"; filename="a; name=model.wav"\r\n'
    return part(head + b"Content-Type: audio/wav", content)


END = b"--" + B + b"--\r\n"


def scanned(chunks: list[bytes]) -> ModelScan:
    scan = ModelScan(B)
    for chunk in chunks:
        scan.feed(chunk)
    return scan


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"preamble\r\n",
        file(b"RIFF\x00\xff" * 100),
        field(b"prompt", b"model"),
        file(b'\r\n--xYz-0\r\nContent-Disposition: form-data; name="model"\r\n\r\nno'),
        file(b'\r\n--xYz-09Z\r\nContent-Disposition: form-data; name="model"\r\n\r\nno'),
        file(b"\r\n--xYz-09" + b" " * 300 + b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nno'),
        file(b"no", name=b"model"),
        part(b"Content-Type: text/plain", b"model"),
        part(b"", b"no headers"),
        field(b"empty", b""),
        field(b"models", b"x") + field(b"Model", b"y"),
    ],
)
def test_the_model_is_found_however_the_form_is_cut(before: bytes) -> None:
    body = before + field(b"model", b"whisper-1") + field(b"model", b"late") + END
    for chunks in ([body], single_bytes(body), [body[: len(before) + 30], body[len(before) + 30 :]]):
        scan = scanned(chunks)
        assert (scan.state, scan.model, scan.fault) == (ScanState.FOUND, "whisper-1", None)
        assert scan.span is not None
        assert body[slice(*scan.span)] == b"whisper-1"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Disposition: form-data; name=model",
        b'CONTENT-DISPOSITION:form-data;name="model"',
        b'X-A: b\r\nContent-Disposition: form-data; NAME = "model" ; x=y\r\nContent-Type: text/plain',
    ],
)
def test_headers_are_read_as_they_are_written(head: bytes) -> None:
    assert scanned([part(head, b"m") + END]).model == "m"


def test_blanks_may_follow_a_boundary() -> None:
    body = field(b"model", b"m").replace(B, B + b" \t ") + END
    for chunks in ([body], single_bytes(body)):
        assert scanned(chunks).model == "m"


@pytest.mark.parametrize(
    "body", [END, field(b"a", b"b") + END, b"--" + B + b"--", file(b"x") + END + field(b"model", b"m")]
)
def test_a_form_without_model_is_known_at_its_end(body: bytes) -> None:
    for chunks in ([body], single_bytes(body)):
        scan = scanned(chunks)
        assert (scan.state, scan.model, scan.span, scan.fault) == (ScanState.ABSENT, None, None, None)


def test_a_form_that_stops_is_still_being_searched() -> None:
    body = field(b"model", b"whisper-1")
    assert scanned([body]).state is ScanState.SEARCHING  # the boundary behind the value is not there yet
    assert scanned([b""]).state is ScanState.SEARCHING


def test_an_empty_model_is_found() -> None:
    for body in (
        field(b"model", b"") + END,
        field(b"model", b"").replace(b"\r\n\r\n\r\n", b"\r\n\r\n") + END,
    ):
        scan = scanned([body])
        assert (scan.state, scan.model) == (ScanState.FOUND, "")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (field(b"model", b"x" * 1025) + END, "1 KiB"),
        (field(b"model", b"x" * 5000), "1 KiB"),
        (field(b"model", b"\xff") + END, "UTF-8"),
        (part(b"X-A: " + b"x" * 17000, b"y") + END, "16 KiB"),
        (part(b"X-A: " + b"x" * 30000, b"y")[:20000], "16 KiB"),
    ],
)
def test_a_form_beyond_the_bounds_is_a_fault(body: bytes, word: str) -> None:
    for chunks in ([body], single_bytes(body)):
        scan = scanned(chunks)
        assert (scan.state, scan.model) == (ScanState.ABSENT, None)
        assert scan.fault is not None
        assert scan.fault.status == 400
        assert word in scan.fault.message


def test_headers_of_16_kib_are_not_too_many() -> None:
    line = b'Content-Disposition: form-data; name="model"\r\nX-A: '
    body = part(line + b"x" * ((16 << 10) - len(line) - 2), b"m") + END
    for chunks in ([body], single_bytes(body)):
        assert scanned(chunks).model == "m"


def test_endless_blanks_behind_a_boundary_are_not_kept() -> None:
    scan = ModelScan(B)
    scan.feed(b"--" + B)
    for _ in range(100):
        scan.feed(b" " * 1000)
    assert len(scan._held) < 2000
    assert scan.state is ScanState.SEARCHING


def test_a_model_of_a_kibibyte_is_not_too_long() -> None:
    assert scanned([field(b"model", b"x" * 1024) + END]).model == "x" * 1024


def test_a_large_file_leaves_nothing_behind() -> None:
    scan = ModelScan(B)
    scan.feed(file(b"")[:-2])
    for _ in range(64):
        scan.feed(b"\r\n--xYz-0" * 7000)
        assert len(scan._held) < 64
    scan.feed(b"\r\n" + field(b"model", b"m") + END)
    assert scan.model == "m"
    assert len(scan._held) == 0


@given(
    st.lists(
        st.sampled_from(
            [b"--" + B, B, b"\r\n", b"--", b" ", field(b"model", b"m"), field(b"a", b"b"), file(b"c"), END]
        )
        | st.binary(max_size=9),
        max_size=8,
    ).map(b"".join),
    places,
)
def test_cuts_never_matter_and_junk_never_raises(body: bytes, where: list[int]) -> None:
    whole = scanned([body])
    for chunks in (cut(body, where), single_bytes(body)):
        scan = scanned(chunks)
        assert (scan.state, scan.model, scan.span) == (whole.state, whole.model, whole.span)
    if whole.span is not None:
        assert body[slice(*whole.span)].decode() == whole.model


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ('multipart/form-data;boundary = "a\\-b" ; x=y', b"a-b"),
        ("multipart/form-data; boundary=" + "a" * 70, b"a" * 70),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
    ],
)
def test_the_boundary_is_read(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "a" * 71,
        'multipart/form-data; boundary="a\r\nb"',
        "multipart/form-data; boundary=é",
        'multipart/form-data; boundary="ends with a blank "',
    ],
)
def test_a_boundary_that_cannot_be_used_is_refused(content_type: str) -> None:
    with pytest.raises(RequestError) as caught:
        boundary_of(content_type)
    assert caught.value.status == 400
