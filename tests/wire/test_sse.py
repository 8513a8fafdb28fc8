from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.sse import (
    LIMIT_BYTES,
    SseEvent,
    SseSplitter,
    comment,
    encode,
    heard,
    parse_event,
    split_events,
)
from tests.wire.cuts import cut, places, single_bytes

PIECES = (
    b"\n \r \r\n \n\n \r\r \r\n\r\n".split(b" ")
    + b"data|data: |data:x|:|: c|event: e|id: 1|retry: 1|{}| |\xc3\xa9|\xff".split(b"|")
)  # fmt: skip
streams = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


def dispatched(data: bytes) -> list[tuple[str, bytes]]:
    """What a browser would hand to its page: the standard's algorithm, line by line."""
    out = []
    event, lines = "", []
    for line in re.split(rb"\r\n|\r|\n", data)[:-1]:
        if not line:
            if lines:
                out.append((event, b"\n".join(lines)))
            event, lines = "", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            event = value.decode("utf-8", "replace")
    return out


def fed(chunks: list[bytes], limit: int = LIMIT_BYTES) -> tuple[list[bytes], SseSplitter]:
    splitter = SseSplitter(limit)
    return [raw for chunk in chunks for raw in splitter.feed(chunk)], splitter


@given(streams, places)
def test_where_chunks_end_decides_nothing(data: bytes, where: list[int]) -> None:
    whole, splitter = fed([data])
    assert fed(cut(data, where))[0] == whole
    assert fed(single_bytes(data))[0] == whole
    assert b"".join(whole) + splitter.rest() == data


@given(streams)
def test_events_are_those_of_the_standard(data: bytes) -> None:
    events, splitter = fed([data])
    found = [(e.event or "", e.data) for e in map(parse_event, events) if e.data is not None]
    pending = dispatched(data)[len(found) :]
    assert found == dispatched(data)[: len(found)]
    assert not pending or splitter.rest().endswith(b"\r\n\r")  # that CR waits for its LF


@given(streams, places, st.integers(1, 12))
def test_the_limit_too_does_not_depend_on_the_cuts(data: bytes, where: list[int], limit: int) -> None:
    whole, splitter = fed([data], limit)
    pieces, other = fed(single_bytes(data), limit)
    assert pieces == whole
    assert other.oversize is splitter.oversize
    assert fed(cut(data, where), limit)[0] == whole
    assert all(len(raw) <= limit for raw in whole)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"data: a\n\r", b"\n", b"data: b\r\n\n"]),
        (b"\n\ndata: a\n\n\n", [b"\n", b"\n", b"data: a\n\n", b"\n"]),
        (b": hello\n\n", [b": hello\n\n"]),
        (b"data: half\n", []),
    ],
)
def test_events_keep_their_bytes(data: bytes, events: list[bytes]) -> None:
    assert fed([data])[0] == events
    assert split_events(b"".join(events)) == events


def test_a_stream_that_speaks_cr_does_not_lag() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: a\r\r") == [b"data: a\r\r"]
    assert splitter.feed(b"data: b\r\n\r") == []  # here an LF is due
    assert splitter.feed(b"data: c\r\r") == [b"data: b\r\n\r", b"data: c\r\r"]


def test_four_megabytes_in_one_event_pass() -> None:
    raw = b"data: " + b"x" * (4 << 20) + b"\n\n"
    events, splitter = fed([raw[i : i + 65536] for i in range(0, len(raw), 65536)])
    assert events == [raw]
    assert splitter.pending == 0


def test_an_endless_event_is_given_up_and_forgotten() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: ok\n\ndata: ") == [b"data: ok\n\n"]
    block = b"x" * (1 << 20)
    for _ in range(16):
        assert splitter.feed(block) == []
    assert splitter.oversize
    assert splitter.pending == 0
    assert splitter.feed(b"\n\ndata: more\n\n") == []


def test_single_bytes_of_a_long_event_cost_no_square() -> None:
    # 300 kB: were each byte to search what came before, this would be 45 GB of bytes to look at.
    splitter = SseSplitter()
    splitter.feed(b": \r\n")
    for _ in range(300_000):
        splitter.feed(b"x")
    assert splitter.pending == 300_004
    assert len(splitter.feed(b"\r\n\r\n")) == 1


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        (b"data: a\n\n", SseEvent(None, b"a", None, False)),
        (b"data:a\n\n", SseEvent(None, b"a", None, False)),
        (b"data:  a \r\n\r\n", SseEvent(None, b" a ", None, False)),
        (b"data: a\rdata: b\r\r", SseEvent(None, b"a\nb", None, False)),
        (b"data\n\n", SseEvent(None, b"", None, False)),
        (b"event: e\ndata: a\nid: 7\n\n", SseEvent("e", b"a", "7", False)),
        (b"event: e\n\n", SseEvent("e", None, None, False)),
        (b"retry: 3\n\n", SseEvent(None, None, None, False)),
        (b": c\n\n", SseEvent(None, None, None, True)),
        (b"foo: c\n:\n\n", SseEvent(None, None, None, True)),
        (b"\n", SseEvent(None, None, None, True)),
        (b"\xef\xbb\xbfdata: a\n\n", SseEvent(None, b"a", None, False)),
        (b"event: \xff\n\n", SseEvent("�", None, None, False)),
        ("data: a\u2028b\x0bc\n\n".encode(), SseEvent(None, "a\u2028b\x0bc".encode(), None, False)),
    ],
)
def test_fields_of_an_event(raw: bytes, event: SseEvent) -> None:
    assert parse_event(raw) == event


@given(st.binary(max_size=40), st.none() | st.text(max_size=10))
def test_what_is_written_is_read_back(data: bytes, name: str | None) -> None:
    raw = encode(data, name)
    events, splitter = fed([raw])
    assert len(events) == 1
    assert splitter.pending == 0
    event = parse_event(events[0])
    assert event.data == re.sub(rb"\r\n|\r", b"\n", data)
    if name is not None:
        assert event.event == re.sub("\r\n|\r|\n", " ", name.encode("utf-8", "replace").decode())


def test_a_comment_is_one_line_whatever_its_text() -> None:
    assert comment("still\nhere") == b": still here\n\n"
    assert parse_event(comment("data: x\rdata: y")).is_comment_only


def test_a_cr_that_is_a_blank_line_by_what_follows_it() -> None:
    """The block ended with a CR behind a CRLF, and the event in it was lost."""
    splitter = SseSplitter()
    assert splitter.feed(b"data: a\r\n\r") == []  # an LF may still follow
    assert splitter.feed(b"data: b\r\r") == [b"data: a\r\n\r", b"data: b\r\r"]
    assert split_events(b"data: a\r\n\r") == [b"data: a\r\n\r"]


@given(streams)
def test_what_is_heard_of_a_block_is_what_its_events_say(stream: bytes) -> None:
    block = SseSplitter().cut(stream)
    events = [parse_event(raw) for raw in split_events(block)]
    assert list(heard(block)) == [(event.data, event.event) for event in events if event.data]
