from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloud.decode import DecodeError, Inflate

TEXT = b'{"text": "' + b"all work and no play " * 500 + b'"}'


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def packed(encoding: str, data: bytes) -> bytes:
    return {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}[
        encoding
    ](data)


@given(
    data=st.binary(max_size=3000),
    encoding=st.sampled_from(["gzip", "x-gzip", "deflate", "raw"]),
    cuts=st.lists(st.integers(0, 3100), max_size=5),
)
def test_any_split_gives_the_same_bytes(data: bytes, encoding: str, cuts: list[int]) -> None:
    wire = packed(encoding, data)
    inflate = Inflate("deflate" if encoding == "raw" else encoding)
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    parts = [wire[a:b] for a, b in pairwise(edges)]
    assert b"".join(piece for part in parts for piece in inflate.feed(part)) == data
    assert inflate.ended


def test_what_can_be_decoded_comes_at_once() -> None:
    packer = zlib.compressobj(wbits=31)
    inflate = Inflate("gzip")
    first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    assert b"".join(inflate.feed(first)) == b"data: 1\n\n"
    assert not inflate.ended


@pytest.mark.parametrize("lost", [1, 8, 30])
def test_a_missing_end_shows(lost: int) -> None:
    inflate = Inflate("gzip")
    list(inflate.feed(gzip.compress(TEXT)[:-lost]))
    assert not inflate.ended


def test_an_empty_body_is_no_broken_one() -> None:
    assert Inflate("gzip").ended


def test_members_follow_each_other_but_not_without_end() -> None:
    inflate = Inflate("gzip")
    assert b"".join(inflate.feed(gzip.compress(b"a") + gzip.compress(b"b"))) == b"ab"
    with pytest.raises(DecodeError, match="members"):
        list(Inflate("gzip").feed(gzip.compress(b"") * 1000))


@pytest.mark.parametrize(
    "junk", [b"not gzip at all", gzip.compress(b"x", mtime=0) + b"junk"], ids=["junk", "tail"]
)
def test_junk_is_a_decode_error(junk: bytes) -> None:
    with pytest.raises(DecodeError):
        list(Inflate("gzip").feed(junk))


def test_bytes_behind_a_deflate_body_are_refused() -> None:
    with pytest.raises(DecodeError, match="after the end"):
        list(Inflate("deflate").feed(zlib.compress(b"x") + b"more"))


def test_a_bomb_comes_in_bounded_pieces() -> None:
    bomb = gzip.compress(bytes(30 << 20))
    pieces = Inflate("gzip").feed(bomb)
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == 30 << 20
    assert max(sizes) <= 1 << 18


def test_other_encodings_are_not_known() -> None:
    assert [name for name in ("gzip", "deflate", "br", "zstd", "identity") if Inflate.knows(name)] == [
        "gzip",
        "deflate",
    ]
