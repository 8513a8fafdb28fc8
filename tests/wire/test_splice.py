"""Two broken halves are one answer to the client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.api import Api
from gateway.wire.splice import Mismatch, Splicer
from gateway.wire.spoken import Spoken, spoken
from gateway.wire.sse import parse_event, split_events
from gateway.wire.watch import StreamWatch
from tests import canned
from tests.wire.cuts import cut, places

CHAT, COMPLETIONS, MESSAGES = Api.CHAT, Api.COMPLETIONS, Api.MESSAGES
BODIES = {
    CHAT: b'{"messages":[{"role":"user","content":"hi"}]}',
    COMPLETIONS: b'{"prompt":"Once"}',
    MESSAGES: b'{"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
}


def stream_of(api: Api, text: str, *, other: bool = False) -> list[bytes]:
    """A whole stream; of another upstream, it has other names throughout."""
    if api is CHAT:
        events = canned.chat_stream(text, usage=True)
    else:
        events = canned.completion_stream(text) if api is COMPLETIONS else canned.messages_stream(text)
    if other:
        events = [e.replace(b"-lab", b"-other").replace(b"1700000000", b"1800000000") for e in events]
        events = [e.replace(b'"model":', b'"system_fingerprint": "fp", "model":') for e in events]
    return events


def said(api: Api, parts: list[bytes]) -> Spoken:
    found = spoken(api, BODIES[api], parts, events=False)
    assert found is not None
    return found


def read(raw: bytes) -> list[Any]:
    found = []
    for event in split_events(raw):
        parsed = parse_event(event)
        if parsed.data is not None:
            value = parsed.data.decode() if parsed.data == b"[DONE]" else json.loads(parsed.data)
            assert parsed.event == (value["type"] if parsed.event else None)
            found.append(value)
    return found


def heard(api: Api, raw: bytes) -> str:
    """The text that a strict client makes of a stream. It must be one whole stream, with one of everything."""
    watch = StreamWatch(api)
    seen = watch.feed(raw)
    assert (seen.relay, seen.error, seen.ended) == (raw, None, True)
    events = read(raw)
    if api is MESSAGES:
        return heard_of_blocks(events)
    assert events.pop() == "[DONE]"
    assert (
        len(
            {json.dumps([e.get(k) for k in ("id", "created", "model", "system_fingerprint")]) for e in events}
        )
        == 1
    )
    choices = [choice for event in events for choice in event["choices"]]
    assert [bool(choice["finish_reason"]) for choice in choices] == [False] * (len(choices) - 1) + [True]
    if api is COMPLETIONS:
        return "".join(choice["text"] for choice in choices)
    assert ["role" in choice["delta"] for choice in choices] == [True] + [False] * (len(choices) - 1)
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def heard_of_blocks(events: list[dict[str, Any]]) -> str:
    assert [event["type"] == "message_start" for event in events] == [True] + [False] * (len(events) - 1)
    blocks: list[str] = []
    is_open = False
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                blocks.append("")
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                blocks[-1] += event["delta"].get("text", "")
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(blocks) - 1
                is_open = False
            case "message_delta":
                assert not is_open
    return "".join(blocks)


@pytest.mark.parametrize("api", list(BODIES))
def test_at_every_event_the_halves_make_one_answer(api: Api) -> None:
    text = "one two \n\nthree four"  # Anthropic: blanks that come twice are taken for one
    stream = stream_of(api, text)
    met = 0
    for end in range(len(stream)):
        sent = stream[:end]
        found = spoken(api, BODIES[api], sent, events=False)
        if found is None:
            continue
        met += 1
        rest = stream_of(api, text[len(found.text) :], other=True)
        splicer = Splicer(api, found)
        whole = b"".join(sent) + splicer.feed_raw(b"".join(rest))
        assert heard(api, whole) == text
        # an exact resume, from the start or from anywhere before
        for drop in range(len(found.text) + 1):
            again = stream_of(api, text[len(found.text) - drop :], other=True)
            whole = b"".join(sent) + Splicer(api, found, drop=drop).feed_raw(b"".join(again))
            assert heard(api, whole) == text
    assert met >= 4


@given(st.sampled_from(list(BODIES)), st.text("ab \n", min_size=1, max_size=12), st.data(), places)
def test_cuts_of_bytes_and_of_texts_never_matter(
    api: Api, text: str, data: st.DataObject, where: list[int]
) -> None:
    text = "x" + text
    stream = stream_of(api, text)
    ends = [n for n in range(len(stream)) if spoken(api, BODIES[api], stream[:n], events=False) is not None]
    sent = stream[: data.draw(st.sampled_from(ends))]
    found = said(api, sent)
    drop = data.draw(st.integers(1, len(found.text)))
    rest = b"".join(stream_of(api, text[len(found.text) - drop :], other=True))
    splicer = Splicer(api, found, drop=drop)
    whole = b"".join(sent) + b"".join(splicer.feed_raw(chunk) for chunk in cut(rest, where))
    assert heard(api, whole) == text
    # events without frames, as a local model gives them
    twin = Splicer(api, found, drop=drop)
    datas = [event.data for raw in split_events(rest) if (event := parse_event(raw)).data is not None]
    assert [out for each in datas for out in twin.feed(each)] == [
        parse_event(raw).data for raw in split_events(whole[len(b"".join(sent)) :])
    ]


@pytest.mark.parametrize("api", list(BODIES))
def test_another_text_is_a_mismatch(api: Api) -> None:
    found = said(api, stream_of(api, "one two three")[: {CHAT: 4, COMPLETIONS: 3, MESSAGES: 6}[api]])
    for text in ("one twoo", "one", "xne two three"):
        splicer = Splicer(api, found, drop=len(found.text))
        with pytest.raises(Mismatch):
            splicer.feed_raw(b"".join(stream_of(api, text)))


def test_the_end_comes_too_soon_in_other_ways() -> None:
    found = said(CHAT, stream_of(CHAT, "one two")[:3])
    with pytest.raises(Mismatch):
        Splicer(CHAT, found, drop=3).feed(b"[DONE]")
    found = said(MESSAGES, stream_of(MESSAGES, "one two")[:5])
    splicer = Splicer(MESSAGES, found, drop=3)
    with pytest.raises(Mismatch):
        splicer.feed(b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}')


def test_no_more_is_dropped_than_was_sent() -> None:
    for drop in (-1, 4):
        with pytest.raises(ValueError, match="can't be dropped"):
            Splicer(CHAT, Spoken(text="abc", identity={}), drop=drop)


@pytest.mark.parametrize(
    ("sent", "rest", "whole"),
    [
        ("one\n ", "\n two", "one\n two"),  # the model writes the blanks again that it was not shown
        ("one\n ", "two", "one\n two"),
        ("one\n ", "\n  two", "one\n  two"),
        ("one\n ", "\ttwo", "one\n \ttwo"),
        ("one", " two", "one two"),
    ],
)
def test_blanks_that_could_not_be_sent_may_come_again(sent: str, rest: str, whole: str) -> None:
    begun = [*canned.messages_stream("x")[:2], canned.text_delta(sent)]
    splicer = Splicer(MESSAGES, said(MESSAGES, begun))
    ended = canned.messages_stream("x")
    pieces = [canned.text_delta(letter) for letter in rest]
    out = splicer.feed_raw(b"".join([*ended[:2], *pieces, *ended[-3:]]))
    assert heard(MESSAGES, b"".join(begun) + out) == whole


def chat(delta: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(
        {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}
    ).encode()


def test_only_what_is_new_to_the_client_passes() -> None:
    splicer = Splicer(CHAT, Spoken(text="one", identity={"id": b'"first"'}))
    for nothing in (
        chat({"role": "assistant", "content": ""}),
        chat({"role": "assistant"}),
        chat({"content": None}),
        chat({"reasoning_content": "hm"}),
        json.dumps({"id": "x", "choices": []}).encode(),
        chat({}, usage=None),
    ):
        assert splicer.feed(nothing) == []
    call = chat({"role": "assistant", "tool_calls": [{"index": 0}]}, system_fingerprint="fp")
    assert splicer.feed(call) == [
        b'{"id": "first", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": null}]}'
    ]
    usage = json.dumps({"id": "x", "choices": [], "usage": {"prompt_tokens": 1.50}, "z": -0.0}).encode()
    assert splicer.feed(usage) == [usage.replace(b'"x"', b'"first"')]
    for untouched in (b'{"error":{"message":"x"}}', b"[DONE]", b"junk", b"[1]"):
        assert splicer.feed(untouched) == [untouched]


def test_comments_pass_between_raw_events() -> None:
    splicer = Splicer(CHAT, Spoken(text="one", identity={}))
    assert splicer.feed_raw(b": ping\n\nid: 3\n\n") == b": ping\n\n"


def event(kind: str, index: int | None = None, **more: Any) -> bytes:
    place = {} if index is None else {"index": index}
    return json.dumps({"type": kind, **place, **more}).encode()


def test_what_the_second_one_thinks_is_left_out_and_its_blocks_are_counted_on() -> None:
    splicer = Splicer(MESSAGES, Spoken(text="one", identity={}, index=2, is_open=True))
    delta = {"type": "text_delta", "text": "two"}
    steps = [
        (event("message_start", message={}), []),
        (event("content_block_start", 0, content_block={"type": "thinking"}), []),
        (event("content_block_delta", 0, delta={"type": "thinking_delta", "thinking": "hm"}), []),
        (event("content_block_stop", 0), []),
        (event("ping"), [event("ping")]),
        (
            event("content_block_start", 1, content_block={"type": "text", "text": " "}),
            [event("content_block_delta", 2, delta={"type": "text_delta", "text": " "})],
        ),
        (event("content_block_delta", 1, delta=delta), [event("content_block_delta", 2, delta=delta)]),
        (
            event(
                "content_block_start", 2, content_block={"type": "tool_use"}
            ),  # without an end of the first
            [
                b'{"type":"content_block_stop","index":2}',
                event("content_block_start", 3, content_block={"type": "tool_use"}),
            ],
        ),
        (event("content_block_stop", 2), [event("content_block_stop", 3)]),
        (
            event("message_delta", usage={"output_tokens": 5}),
            [event("message_delta", usage={"output_tokens": 5})],
        ),
        (event("message_stop"), [event("message_stop")]),
    ]
    for given_, wanted in steps:
        assert splicer.feed(given_) == wanted


def test_a_block_left_open_is_ended_when_nothing_more_comes() -> None:
    splicer = Splicer(MESSAGES, Spoken(text="one", identity={}, index=0, is_open=True))
    last = event("message_delta", delta={"stop_reason": "end_turn"})
    assert splicer.feed(last) == [b'{"type":"content_block_stop","index":0}', last]


def test_behind_a_block_that_was_ended_a_new_one_begins_with_its_text() -> None:
    before = Spoken(text="one", identity={}, index=0, is_open=False)
    start = event("content_block_start", 0, content_block={"type": "text", "text": ""})
    begun = b'{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}'
    delta = {"type": "text_delta", "text": "two"}
    splicer = Splicer(MESSAGES, before)
    assert splicer.feed(start) == []
    assert splicer.feed(event("content_block_delta", 0, delta=delta)) == [
        begun,
        event("content_block_delta", 1, delta=delta),
    ]
    splicer = Splicer(MESSAGES, before)  # there was no more to say
    last = event("message_delta", delta={"stop_reason": "end_turn"})
    assert [splicer.feed(each) for each in (start, event("content_block_stop", 0), last)] == [[], [], [last]]
    splicer = Splicer(MESSAGES, before)
    assert splicer.feed(start) == []
    call = event("content_block_start", 1, content_block={"type": "tool_use"})
    assert splicer.feed(call) == [call]


@given(
    st.binary(max_size=60) | st.text(max_size=30).map(json.dumps).map(str.encode),
    st.sampled_from(list(BODIES)),
)
def test_junk_never_raises(data: bytes, api: Api) -> None:
    assert Splicer(api, Spoken(text="one", identity={})).feed(data) == [data]


KEYS = [
    "choices",
    "delta",
    "content",
    "type",
    "text",
    "usage",
    "index",
    "content_block",
    "finish_reason",
    "id",
]
KINDS = ["content_block_start", "content_block_delta", "content_block_stop", "text_delta", "thinking", "text"]
odd = st.recursive(
    st.none() | st.integers() | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), odd, max_size=6), max_size=4),
    st.sampled_from(list(BODIES)),
)
def test_odd_events_stay_json(events: list[dict[str, Any]], api: Api) -> None:
    splicer = Splicer(api, Spoken(text="one", identity={"id": b'"first"'}, is_open=True))
    for each in events:
        for out in splicer.feed(json.dumps(each).encode()):
            assert isinstance(json.loads(out), dict)
