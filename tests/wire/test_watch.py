"""Chunks in, what may be handed on out. The streams here are whole ones, as upstreams send them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.api import Api
from gateway.wire.failure import WireError
from gateway.wire.sse import encode
from gateway.wire.usage import Usage
from gateway.wire.watch import Seen, StreamWatch
from tests import canned
from tests.wire.cuts import cut, places, single_bytes


def chunk(**delta: object) -> dict[str, object]:
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}


def finish(reason: str = "stop") -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": None}


def sse(*events: object) -> bytes:
    return b"".join(
        encode(e if isinstance(e, bytes) else json.dumps(e, ensure_ascii=False).encode()) for e in events
    )


def named(*events: dict[str, object]) -> bytes:
    return b"".join(encode(json.dumps(e).encode(), str(e["type"])) for e in events)


CHAT = sse(
    chunk(role="assistant", content=""),
    chunk(content="Hé"),
    chunk(content="llo"),
    finish(),
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
    b"[DONE]",
)
MESSAGES = named(
    {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)
RESPONSES = named(
    {"type": "response.created", "response": {"error": None, "usage": None}},
    {"type": "response.output_item.added", "item": {"type": "message"}},
    {"type": "response.output_text.delta", "delta": "Hi"},
    {"type": "response.output_text.done", "text": "Hi"},
    {"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 4}}},
)
WHOLE = [(Api.CHAT, CHAT), (Api.MESSAGES, MESSAGES), (Api.RESPONSES, RESPONSES)]


def watched(api: Api, chunks: list[bytes], *, limit: int | None = None) -> tuple[bytes, Seen, StreamWatch]:
    """The joined relay, the last Seen (with `content` true if any was), and the watch."""
    watch = StreamWatch(api) if limit is None else StreamWatch(api, limit=limit)
    relay, content, seen = b"", False, Seen(b"", False, False, None)
    for part in chunks:
        seen = watch.feed(part)
        relay += seen.relay
        content = content or seen.content
    return relay, Seen(relay, content, seen.ended, seen.error), watch


@pytest.mark.parametrize(("api", "stream"), WHOLE)
@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_a_sound_stream_passes_unchanged_however_it_is_cut(api: Api, stream: bytes, eol: bytes) -> None:
    stream = stream.replace(b"\n", eol)
    for chunks in ([stream], single_bytes(stream), [stream[:100], stream[100:]]):
        relay, seen, watch = watched(api, chunks)
        assert relay == stream
        assert (seen.content, seen.ended, seen.error) == (True, True, None)
        assert watch.eof_is_end
        assert watch.finish() == Seen(b"", False, True, None)


@pytest.mark.parametrize(
    ("api", "stream", "usage"),
    [
        (Api.CHAT, CHAT, Usage(9, 2)),
        (Api.MESSAGES, MESSAGES, Usage(7, 5)),
        (Api.RESPONSES, RESPONSES, Usage(3, 4)),
    ],
)
def test_usage_is_known_at_the_end(api: Api, stream: bytes, usage: Usage) -> None:
    watch = StreamWatch(api)
    assert watch.usage is None
    watch.feed(stream)
    assert watch.usage == usage


@pytest.mark.parametrize(("api", "stream"), WHOLE)
def test_a_stream_that_is_cut_anywhere_is_never_taken_for_whole(api: Api, stream: bytes) -> None:
    for end in range(len(stream) - 2):  # only the last event's line ends may be missing
        watch = StreamWatch(api)
        seen = watch.feed(stream[:end])
        assert not seen.ended
        assert stream.startswith(seen.relay)
        assert not watch.eof_is_end
        last = watch.finish()
        assert last.error is not None
        assert last.error.malformed
        assert not watch.eof_is_end


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize(("api", "stream"), WHOLE)
def test_a_terminal_event_without_its_blank_line_ends_the_stream_all_the_same(
    api: Api, stream: bytes, missing: int
) -> None:
    watch = StreamWatch(api)
    relay = watch.feed(stream[:-missing]).relay
    seen = watch.finish()
    assert (seen.ended, seen.error) == (True, None)
    assert (relay + seen.relay).rstrip(b"\n") == stream.rstrip(b"\n")
    assert (relay + seen.relay).endswith(b"\n\n")


def test_nothing_passes_behind_the_terminal_event() -> None:
    relay, seen, watch = watched(Api.CHAT, [CHAT + sse(chunk(content="more"))])
    assert relay == CHAT
    assert seen.ended
    assert watch.feed(sse(chunk(content="more"))) == Seen(b"", False, True, None)
    assert watch.feed_event(b"{}") == Seen(b"", False, True, None)


def test_the_role_alone_is_no_content() -> None:
    watch = StreamWatch(Api.CHAT)
    assert watch.feed(sse(chunk(role="assistant", content=""))) == Seen(
        sse(chunk(role="assistant", content="")), False, False, None
    )
    assert watch.feed(sse(chunk(content="x"))).content
    assert not watch.feed(sse(finish())).content
    assert watch.finished


def test_what_came_before_an_error_is_handed_on() -> None:
    good = sse(chunk(content="x"))
    relay, seen, watch = watched(Api.CHAT, [good + sse({"error": {"message": "boom"}}, b"[DONE]")])
    assert relay == good
    assert seen.content
    assert not seen.ended
    assert seen.error == WireError(message="boom")
    assert watch.feed(CHAT) == Seen(b"", False, False, seen.error)
    assert not watch.eof_is_end
    assert watch.finish().error is seen.error


@pytest.mark.parametrize(
    "broken",
    [
        b"data: {broken\n\n",
        b"data: \n\ndata: {\n\n",
        b'data: {"a":"\xff"}\n\n',
        b": \xff\n\n",
        b"data: nonsense\n\n",
        b'data: {"a":NaN}\n\n',
        b'data: {"a":1}\ndata: {"a":1}\n\n',
        b'data: {"a":\r1}\n\n',  # a space to JSON, but the end of a line to everyone who reads events
        b'data: {"a":\r\n1}\n\n',
        b'data: {"a":' + b"[" * 5000 + b"]" * 5000 + b"}\n\n",
        b'data: {"a":' + b"7" * 5000 + b"}\n\n",
        b"data: [DONE]\n\n",
        b'event: x\ndata: {"choices":[\n\n',
    ],
)
@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
def test_what_no_client_can_read_does_not_pass(broken: bytes, eol: bytes) -> None:
    stream = (sse(chunk(content="é")) + broken + sse(chunk(content="y"))).replace(b"\n", eol)
    for chunks in ([stream], single_bytes(stream)):
        relay, seen, _ = watched(Api.CHAT, chunks)
        assert relay == sse(chunk(content="é")).replace(b"\n", eol)
        assert seen.error is not None
        assert seen.error.malformed


@pytest.mark.parametrize(
    "odd",
    [
        b'data:{"choices":[]}\n\n',
        b'data: {"choices":\ndata:  []}\n\n',
        b'data: {"choices":"x"}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n',
        b'data: "just a string"\n\n',
        b"data: [1]\n\n",
        b"data: null\n\n",
        b": comment\n\n",
        b": comment\n: another\n",
        b"\n\n\n",
        b'id: 3\nevent: strange\nfoo: bar\ndata: {"x":1}\n\n',
        b'data: {"a":"' + b"7" * 5000 + b'"}\n\n',
        b'data: {"a":' + b"[" * 100 + b"]" * 100 + b"}\n\n",
        b'data: {"error":null,"choices":[]}\n\n',
    ],
)
def test_what_is_only_odd_passes_unchanged(odd: bytes) -> None:
    relay, seen, _ = watched(Api.CHAT, [odd + CHAT])
    assert relay == odd + CHAT
    assert seen.ended


@pytest.mark.parametrize(
    "empty", [b"data:\n\n", b"data\n\n", b"event: x\n\n", b"id: 5\ndata: \n\n", b"retry: 100\n\n"]
)
def test_an_event_without_data_is_kept_from_openais_client(empty: bytes) -> None:
    # It dispatches them, against the standard, and fails to parse nothing as JSON.
    parts = [sse(chunk(content="a")), empty, sse(chunk(content="b")), empty, empty, CHAT]
    relay, seen, _ = watched(Api.CHAT, [b"".join(parts)])
    assert relay == parts[0] + parts[2] + CHAT
    assert seen.ended
    assert watched(Api.CHAT, [empty])[0] == b""
    assert watched(Api.MESSAGES, [empty])[0] == empty
    assert watched(Api.OTHER, [empty])[0] == empty


def test_a_comment_behind_an_id_is_kept_from_openais_client() -> None:
    # It takes any blank line for an event from then on, and this one would have no data.
    event, rest = b"id: 7\ndata: {}\n\n", b": ping\n\n\n" + sse({"x": 1})
    watch = StreamWatch(Api.CHAT)
    assert watch.feed(b"id:\n: ping\n\n: ping\n\n").relay == b": ping\n\n"
    assert watch.comments_are_safe
    assert watch.feed(event + rest).relay == event + sse({"x": 1})
    assert not watch.comments_are_safe
    other = StreamWatch(Api.OTHER)
    assert other.feed(event + rest).relay == event + rest
    assert other.comments_are_safe


def test_a_byte_order_mark_is_dropped_at_the_start_and_only_there() -> None:
    # A client that does not know it would lose the first event.
    mark = b"\xef\xbb\xbf"
    for chunks in ([mark + CHAT], single_bytes(mark + CHAT)):
        assert watched(Api.CHAT, chunks)[0] == CHAT
    event = b"data: {}\n\n"
    assert watched(Api.CHAT, [event, mark + event])[0] == event + mark + event


@pytest.mark.parametrize("api", list(Api))
@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n',
            "busy",
        ),
        (b'event: error\ndata: {"message":"busy"}\n\n', "busy"),
        (b'event:error\ndata: "busy"\n\n', "busy"),
        (b"event: error\ndata: busy\n\n", "busy"),
        (b"event: error\n\n", "the upstream gave no reason"),
        (b'data: {"error":"busy"}\n\n', "busy"),
        (b'data: {"error":{"message":"busy","code":503}}\n\n', "busy"),
        (b'data: {"type":"error","message":"busy"}\n\n', "busy"),
    ],
)
def test_every_form_of_error_is_known_in_every_stream(api: Api, event: bytes, message: str) -> None:
    for eol in (b"\n", b"\r\n"):
        relay, seen, _ = watched(api, [event.replace(b"\n", eol)])
        assert relay == b""
        assert seen.error is not None
        assert seen.error.message == message
        assert not seen.error.malformed


def test_an_event_of_four_megabytes_passes() -> None:
    stream = sse(chunk(content="x" * (4 << 20))) + CHAT
    relay, seen, _ = watched(Api.CHAT, [stream[i : i + 65536] for i in range(0, len(stream), 65536)])
    assert relay == stream
    assert seen.ended


@pytest.mark.parametrize("chunks", [[b"data: " + b"x" * 200], single_bytes(b"data: " + b"x" * 200 + b"\n\n")])
def test_an_event_without_end_is_an_error(chunks: list[bytes]) -> None:
    good = b"data: {}\n\n"
    relay, seen, watch = watched(Api.CHAT, [good, *chunks], limit=100)
    assert relay == good
    assert seen.error is not None
    assert seen.error.malformed
    assert watch.finish().error is seen.error


def test_an_oversized_event_behind_the_end_is_nobodys_business() -> None:
    _, seen, _ = watched(Api.CHAT, [sse(finish(), b"[DONE]") + b"x" * 300], limit=200)
    assert seen.ended
    assert seen.error is None


def test_events_of_local_replies_need_no_frame() -> None:
    watch = StreamWatch(Api.CHAT)
    role, text = (json.dumps(chunk(**d)).encode() for d in ({"role": "assistant"}, {"content": "é"}))
    assert watch.feed_event(role) == Seen(role, False, False, None)
    assert watch.feed_event(text) == Seen(text, True, False, None)
    assert not watch.feed_event(json.dumps(finish()).encode()).ended
    assert watch.feed_event(b"[DONE]") == Seen(b"[DONE]", False, True, None)


@pytest.mark.parametrize("data", [b"{", b'{"a":"\xff"}', b"[DONE]", b'{"error":"x"}'])
def test_a_broken_local_event_is_not_handed_on(data: bytes) -> None:
    seen = StreamWatch(Api.CHAT).feed_event(data)
    assert seen.relay == b""
    assert seen.error is not None


def test_a_stream_without_rules_ends_when_its_bytes_do() -> None:
    watch = StreamWatch(Api.OTHER)
    assert watch.eof_is_end
    seen = watch.feed(b"data: plain text\n\ndata: {}\n\nda")
    assert (seen.relay, seen.content, seen.error) == (b"data: plain text\n\ndata: {}\n\n", True, None)
    assert watch.finish() == Seen(b"da\n\n", False, True, None)


MIXED = [CHAT, MESSAGES, RESPONSES, CHAT[:150], b"data: {\n\n", b"event: error\n", b"\n", b"\r", b"\xff"]
mixed = st.lists(st.sampled_from(MIXED) | st.binary(max_size=12), max_size=6).map(b"".join)


@given(mixed, st.sampled_from(list(Api)), places, st.sampled_from([1 << 20, 300]))
def test_junk_never_raises_and_cuts_never_matter(
    stream: bytes, api: Api, where: list[int], limit: int
) -> None:
    relay, seen, watch = watched(api, [stream], limit=limit)
    end = watch.finish()
    for chunks in (cut(stream, where), single_bytes(stream)):
        again, other, twin = watched(api, chunks, limit=limit)
        assert again == relay
        assert (other.content, other.ended, other.error) == (seen.content, seen.ended, seen.error)
        assert twin.finish() == end
        assert twin.usage == watch.usage


@given(st.binary(max_size=200), st.sampled_from(list(Api)))
def test_junk_events_never_raise(data: bytes, api: Api) -> None:
    seen = StreamWatch(api).feed_event(data)
    assert seen.relay in (data, b"")


KEYS = ["choices", "delta", "content", "type", "error", "usage", "message", "content_block", "item"]
KEYS += ["response", "finish_reason", "text", "object", "audio", "stop_reason", "tool_calls"]
floats = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from(list(Api)))
def test_odd_types_are_no_fault(value: object, api: Api) -> None:
    data = json.dumps(value).encode()
    seen = StreamWatch(api).feed_event(data)
    assert seen.error is None or not seen.error.malformed
    assert seen.relay == (b"" if seen.error else data)


def _delta(text: str) -> bytes:
    return (
        b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
        % text.encode()
    )


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b": a comment\n\n",
        b"\n",
        b'data: {"choices":[{"delta":{}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
        b'data: {"error":{"message":"no"}}\n\n',
        b'event: error\ndata: {"message":"no"}\n\n',
        b'data: {"choices":[{"error":{"message":"no"}}]}\n\n',
        b'data: {"object":"error","message":"no"}\n\n',
        b'data: {"choices":"odd"}\n\n',
        b'data: {"choices":[\n\n',
        b'data: {"choices":[]}{"choices":[]}\n\n',
        b'data: {"choices":\ndata: []}\n\n',
        b'data: {"choices":[]}\r\n\r\n',
        'data: {"choices":[{"delta":{"content":"ü"}}]}\n\n'.encode(),
        b'data: {"x":' + b"[" * 200 + b"]" * 200 + b"}\n\n",
        b'data: {"x":' + b"9" * 5000 + b"}\n\n",
        b"data: [DONE]\n\n",
    ],
)
@pytest.mark.parametrize("place", [0, 1, 30, 59, 60])
def test_a_burst_is_judged_as_its_events_are_one_by_one(odd: bytes, place: int) -> None:
    """Many events in one chunk take a shorter way, which must see the same."""
    events = [_delta(f"word {number} ") for number in range(60)]
    events.insert(place, odd)
    at_once, one_by_one = StreamWatch(Api.CHAT), StreamWatch(Api.CHAT)
    seen = at_once.feed(b"".join(events))
    singly = [one_by_one.feed(event) for event in events if event]
    assert seen.relay == b"".join(each.relay for each in singly)
    assert seen.content is any(each.content for each in singly)
    assert (seen.ended, seen.error) == (singly[-1].ended, singly[-1].error)
    assert at_once.usage == one_by_one.usage
    assert at_once.finished == one_by_one.finished


def test_line_ends_of_all_kinds_in_one_stream() -> None:
    """An event that ended with a CR behind a CRLF, at the end of what had come, was lost."""
    piece = b'data: {"choices":[{"delta":{"content":"x"}}]}'
    watch = StreamWatch(Api.CHAT)
    first, then = watch.feed(piece + b"\r\n\r"), watch.feed(piece + b"\r\n\rdata")
    assert first.relay + then.relay == piece + b"\r\n\r" + piece + b"\r\n\r"
    assert then.content


@pytest.mark.parametrize(
    "half", [b"event: content_blo", b"event: content_block_delta\n", b"event: ping\ndata: "]
)
def test_half_an_event_is_not_made_whole(half: bytes) -> None:
    """A name without data made Anthropic's client parse nothing as JSON."""
    watch = StreamWatch(Api.MESSAGES)
    begun = canned.message_start()
    assert watch.feed(begun + half).relay == begun
    end = watch.finish()
    assert end.relay == b""
    assert end.error is not None
