"""Streams, both ways, added up by the SDKs' own parsers."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.sse import SseSplitter, parse_event
from gateway.wire.translate.chat_to_messages import ChatToMessages
from gateway.wire.translate.messages_to_chat import MessagesToChat
from tests import canned
from tests.wire.cuts import cut, places, single_bytes
from tests.wire.translate.sdk import anthropic_reads, chunks, messages_events, openai_reads, stream

HI = {"role": "user", "content": "hi"}

# --- Anthropic's events, for a chat


def start(**usage: int) -> bytes:
    counted = {"input_tokens": 3, "output_tokens": 1, **usage}
    head = {"id": "msg_01ab", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return canned.named({"type": "message_start", "message": {**head, "stop_reason": None, "usage": counted}})


def begin(index: int, **block: Any) -> bytes:
    return canned.named({"type": "content_block_start", "index": index, "content_block": block})


def delta(index: int, kind: str, **said: Any) -> bytes:
    return canned.named({"type": "content_block_delta", "index": index, "delta": {"type": kind, **said}})


def stop(index: int) -> bytes:
    return canned.named({"type": "content_block_stop", "index": index})


def ends(reason: str, *, output: int = 9, **more: Any) -> list[bytes]:
    said = {"stop_reason": reason, "stop_sequence": None, **more}
    last = {"type": "message_delta", "delta": said, "usage": {"output_tokens": output}}
    return [canned.named(last), canned.named({"type": "message_stop"})]


FULL = [
    start(cache_read_input_tokens=100),
    canned.PING,
    begin(0, type="thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="let me"),
    delta(0, "thinking_delta", thinking=" see"),
    delta(0, "signature_delta", signature="c2ln"),
    stop(0),
    begin(1, type="redacted_thinking", data="eHg="),
    stop(1),
    begin(2, type="text", text=""),
    delta(2, "text_delta", text="Zürich "),
    delta(2, "text_delta", text="first"),
    stop(2),
    begin(3, type="tool_use", id="toolu_1", name="weather", input={}),
    delta(3, "input_json_delta", partial_json=""),
    delta(3, "input_json_delta", partial_json='{"city": "Z'),
    delta(3, "input_json_delta", partial_json='ürich", "days": 0}'),
    stop(3),
    begin(4, type="text", text=""),
    delta(4, "text_delta", text=", then the time"),
    stop(4),
    begin(5, type="tool_use", id="toolu_2", name="time", input={}),
    stop(5),
    canned.named({"type": "future_event", "x": {}}),
    *ends("tool_use"),
]


def to_chat(events: list[bytes], **asked: Any) -> bytes:
    translation = ChatToMessages(created=77)
    translation.request(canned.dump({"model": "m", "messages": [HI], "stream": True, **asked}))
    return stream(translation, events)


def test_a_chat_gets_all_of_it():
    made = to_chat(FULL, stream_options={"include_usage": True})
    read = openai_reads(made)
    said = read.choices[0].message
    assert (read.id, read.model, read.created) == ("chatcmpl-01ab", "claude-x", 77)
    assert said.content == "Zürich first, then the time"
    assert [(c.id, c.function.name, c.function.arguments) for c in said.tool_calls] == [
        ("toolu_1", "weather", '{"city": "Zürich", "days": 0}'),
        ("toolu_2", "time", "{}"),
    ]
    assert said.reasoning_content == "let me see"
    assert [{k: v for k, v in block.items() if k != "index"} for block in said.thinking_blocks] == [
        {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eHg="},
    ]
    assert read.choices[0].finish_reason == "tool_calls"
    assert (read.usage.prompt_tokens, read.usage.completion_tokens) == (103, 9)
    assert read.usage.prompt_tokens_details.cached_tokens == 100


def test_chunks_are_what_a_chat_expects():
    made = chunks(to_chat(FULL, stream_options={"include_usage": True}))
    assert made[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert {(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in made} == {
        ("chatcmpl-01ab", 77, "claude-x", "chat.completion.chunk")
    }
    assert [chunk["usage"] is None for chunk in made] == [True] * (len(made) - 1) + [False]
    assert made[-1]["choices"] == []
    assert [chunk["choices"][0]["finish_reason"] for chunk in made[:-1]] == [None] * (len(made) - 2) + [
        "tool_calls"
    ]


def test_the_usage_is_told_only_when_asked_for():
    made = chunks(to_chat(FULL))
    assert not any("usage" in chunk for chunk in made)
    assert made[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_tier_that_was_used_is_in_every_chunk():
    head = json.loads(parse_event(start()).data or b"")
    head["message"]["usage"]["service_tier"] = "priority"
    made = chunks(to_chat([canned.named(head), *FULL[1:]]))
    assert {chunk["service_tier"] for chunk in made} == {"priority"}


def test_a_call_that_comes_whole_is_a_call():
    """Some who imitate the API send the input with the beginning, and no delta."""
    events = [
        start(),
        begin(0, type="tool_use", id="a", name="time", input={"zone": "UTC"}),
        stop(0),
        *ends("tool_use"),
    ]
    call = openai_reads(to_chat(events)).choices[0].message.tool_calls[0]
    assert call.function.arguments == '{"zone":"UTC"}'


def test_text_and_thinking_in_the_beginning_of_a_block():
    events = [
        start(),
        begin(0, type="thinking", thinking="h"),
        delta(0, "thinking_delta", thinking="m"),
        stop(0),
        begin(1, type="text", text="a"),
        delta(1, "text_delta", text="b"),
        stop(1),
        *ends("end_turn"),
    ]
    said = openai_reads(to_chat(events)).choices[0].message
    assert (said.content, said.reasoning_content) == ("ab", "hm")


def test_a_refusal_is_explained_before_the_end():
    details = {"type": "refusal", "category": None, "explanation": "not this"}
    made = to_chat([start(), *ends("refusal", stop_details=details)])
    refusal, last = (chunk["choices"][0] for chunk in chunks(made)[1:])
    assert refusal["delta"] == {"refusal": "not this"}
    assert last["finish_reason"] == "content_filter"
    with pytest.raises(openai.ContentFilterFinishReasonError):
        openai_reads(made)


def test_citations_of_pages_are_annotations_at_the_end_of_their_block():
    page = {"type": "web_search_result_location", "url": "https://lab", "title": "Lab"}
    cited = [delta(1, "citations_delta", citation=page), delta(1, "citations_delta", citation={"type": "x"})]
    events = [start(), begin(0, type="text", text="ab"), stop(0), begin(1, type="text", text="")]
    events += [*cited, delta(1, "text_delta", text="cde"), stop(1), *ends("end_turn")]
    notes = openai_reads(to_chat(events)).choices[0].message.annotations
    assert len(notes) == 1
    cited = notes[0].url_citation if hasattr(notes[0], "url_citation") else notes[0]["url_citation"]
    cited = cited if isinstance(cited, dict) else cited.model_dump()
    assert (cited["url"], cited["start_index"], cited["end_index"]) == ("https://lab", 2, 5)


ODD_EVENTS = [
    b"[]",
    b"5",
    b'{"type": 5}',
    b'{"type": "content_block_delta"}',
    b'{"type": "content_block_delta", "index": [], "delta": {"type": "text_delta", "text": 5}}',
    b'{"type": "content_block_delta", "index": 9, "delta": {"partial_json": "x"}}',
    b'{"type": "content_block_delta", "index": 0, "delta": [1]}',
    b'{"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}',
    b'{"type": "content_block_start", "index": "x", "content_block": {"type": "tool_use", "input": []}}',
    b'{"type": "content_block_start", "content_block": 7}',
    b'{"type": "content_block_stop", "index": {}}',
    b'{"type": "message_start", "message": 3}',
    b'{"type": "message_delta", "delta": {"stop_reason": null}, "usage": []}',
    b'{"type": "message_delta", "delta": 0}',
]


@pytest.mark.parametrize("odd", ODD_EVENTS)
def test_odd_events_never_raise(odd: bytes):
    translation = ChatToMessages(created=1)
    made = [translation.event(data, None) for data in (odd, b'{"type":"message_stop"}')]
    assert b"".join([*made, translation.end()]).endswith(b"data: [DONE]\n\n")


def test_the_name_on_the_event_line_stands_in_for_a_missing_type():
    translation = ChatToMessages(created=1)
    made = translation.event(b'{"index":0,"delta":{"text":"a"}}', "content_block_delta")
    assert b'"content":"a"' in made
    assert b'"role":"assistant"' in made  # though the stream never began


# --- a chat's chunks, for Anthropic


def chunk(said: dict[str, Any] | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    head = {"id": "chatcmpl-9x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
    choice = {"index": 0, "delta": said or {}, "finish_reason": finish, **more.pop("choice", {})}
    return canned.data({**head, "choices": [choice], **more})


def call(index: int | None, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    name = more.pop("name", None)
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {k: v for k, v in {"index": index, "function": function, **more}.items() if v is not None}


USAGE = {
    "prompt_tokens": 103,
    "completion_tokens": 9,
    "total_tokens": 112,
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
COUNTED = canned.data({"id": "chatcmpl-9x", "model": "gpt-x", "choices": [], "usage": USAGE})
CHAT = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"reasoning_content": "let me"}),
    chunk({"reasoning_content": " see"}),
    chunk({"content": "Zürich "}),
    chunk({"content": "first"}),
    chunk({"tool_calls": [call(0, "", id="call_1", type="function", name="weather")]}),
    chunk({"tool_calls": [call(0, '{"city": "Z')]}),
    chunk({"tool_calls": [call(0, 'ürich"}')]}),
    chunk({"tool_calls": [call(1, "", id="call_2", type="function", name="time")]}),
    chunk({"tool_calls": [call(1, "{}")]}),
    chunk({"content": ", then"}),
    chunk(finish="tool_calls"),
    COUNTED,
    canned.DONE,
]


def to_message(events: list[bytes], **asked: Any) -> bytes:
    translation = MessagesToChat(local=False)
    asked = {"model": "m", "max_tokens": 9, "messages": [HI], "stream": True, **asked}
    translation.request(canned.dump(asked))
    return stream(translation, events)


def blocks_of(made: bytes) -> list[dict[str, Any]]:
    messages_events(made)
    return [block.model_dump(exclude_none=True) for block in anthropic_reads(made).content]


def test_a_message_gets_all_of_it():
    made = to_message(CHAT)
    read = anthropic_reads(made)
    assert (read.id, read.model, read.stop_reason) == ("msg_9x", "gpt-x", "tool_use")
    assert blocks_of(made) == [
        {"type": "thinking", "thinking": "let me see", "signature": ""},
        {"type": "text", "text": "Zürich first"},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Zürich"}},
        {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
        {"type": "text", "text": ", then"},
    ]
    assert (read.usage.input_tokens, read.usage.cache_read_input_tokens, read.usage.output_tokens) == (
        3,
        100,
        9,
    )
    assert read.usage.output_tokens_details.thinking_tokens == 2


def test_pieces_go_out_as_they_come():
    events = messages_events(to_message(CHAT))
    said = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [piece.get("text") or piece.get("thinking") or piece.get("partial_json") for piece in said] == [
        "let me", " see", "Zürich ", "first", '{"city": "Z', 'ürich"}', "{}", ", then",
    ]  # fmt: skip


def test_calls_that_come_interleaved_are_put_one_behind_the_other():
    events = [
        chunk({"tool_calls": [call(0, '{"a"', id="x", name="one"), call(1, '{"b"', id="y", name="two")]}),
        chunk({"tool_calls": [call(1, ": 2}")]}),
        chunk({"tool_calls": [call(2, "{}", id="z", name="three")]}),
        chunk({"tool_calls": [call(0, ": 1}")]}),
        chunk(finish="tool_calls"),
    ]
    assert [(b["id"], b["name"], b["input"]) for b in blocks_of(to_message(events))] == [
        ("x", "one", {"a": 1}),
        ("y", "two", {"b": 2}),
        ("z", "three", {}),
    ]


@pytest.mark.parametrize(
    "deltas",
    [
        [[call(0, "{}", id="x", name="one")], [call(0, "{}", id="y", name="two")]],  # all numbered alike
        [[call(None, "{}", id="x", name="one")], [call(None, "{}", id="y", name="two")]],  # not numbered
        [[call(0, id="x")], [call(0, "{", name="one")], [call(0, "}")], [call(1, "{}", id="y", name="two")]],
        [
            [call(0, "{}", id="x", name="one")],
            [call(0, "", id="x", name="one")],
            [call(1, id="y", name="two")],
        ],
    ],
)
def test_calls_as_servers_write_them(deltas: list[Any]):
    events = [*(chunk({"tool_calls": calls}) for calls in deltas), chunk(finish="tool_calls")]
    assert [(b["id"], b["name"], b["input"]) for b in blocks_of(to_message(events))] == [
        ("x", "one", {}),
        ("y", "two", {}),
    ]


def test_calls_without_ids_get_some():
    events = [
        chunk({"tool_calls": [call(0, "{}", name="one"), call(1, "{}", name="two")]}),
        chunk(finish="stop"),
    ]
    made = to_message(events)
    assert [block["id"] for block in blocks_of(made)] == ["toolu_9x_0", "toolu_9x_1"]
    assert anthropic_reads(made).stop_reason == "tool_use"


def test_arguments_that_come_as_an_object():
    events = [
        chunk(
            {"tool_calls": [call(0, id="a", name="x") | {"function": {"name": "x", "arguments": {"k": 0}}}]}
        )
    ]
    assert blocks_of(to_message([*events, chunk(finish="tool_calls")]))[0]["input"] == {"k": 0}


def test_signatures_close_the_thinking_they_belong_to():
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln", "index": 0}
    hidden = {"type": "redacted_thinking", "data": "eHg="}
    events = [
        chunk(
            {"reasoning": "hm", "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": ""}]}
        ),
        chunk({"thinking_blocks": [thought, hidden]}),
        chunk({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "b25seQ=="}]}),
        chunk({"reasoning": "more"}),
        chunk({"content": "yes"}),
        chunk(finish="stop"),
    ]
    assert blocks_of(to_message(events)) == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        hidden,
        {"type": "thinking", "thinking": "", "signature": "b25seQ=="},
        {"type": "thinking", "thinking": "more", "signature": ""},
        {"type": "text", "text": "yes"},
    ]


def test_a_refusal_is_text_and_the_reason():
    read = anthropic_reads(
        to_message([chunk({"refusal": "not "}), chunk({"refusal": "this"}), chunk(finish="stop")])
    )
    assert read.content[0].text == "not this"
    assert (read.stop_reason, read.stop_details.explanation) == ("refusal", "not this")


def test_which_string_stopped_it_where_the_server_tells():
    made = to_message(
        [chunk({"content": "x"}), chunk(finish="stop", choice={"stop_reason": "END"})], stop_sequences=["END"]
    )
    assert messages_events(made)[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_a_first_chunk_that_names_nothing_begins_nothing():
    """Azure tells what its filters found first, in a chunk without id, model and choices."""
    odd = canned.data({"id": "", "model": "", "choices": [], "prompt_filter_results": []})
    events = messages_events(to_message([odd, *CHAT]))
    assert events[0]["message"]["id"] == "msg_9x"


def test_an_answer_without_content_is_whole():
    made = to_message([chunk(finish="length"), canned.DONE])
    assert [event["type"] for event in messages_events(made)] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert anthropic_reads(made).stop_reason == "max_tokens"


def test_other_choices_are_no_part_of_the_answer():
    events = [chunk({"content": "a"}), chunk({"content": "b"}, choice={"index": 1}), chunk(finish="stop")]
    assert blocks_of(to_message(events)) == [{"type": "text", "text": "a"}]


ODD_CHUNKS = [
    b"[]",
    b"7",
    b'{"choices": 5, "usage": 3}',
    b'{"choices": [5, {"delta": 5}, {"delta": {"content": 5}}]}',
    b'{"choices": [{"index": "x", "delta": {"content": "x"}}]}',
    b'{"choices": [{"delta": {"tool_calls": 5}}]}',
    b'{"choices": [{"delta": {"tool_calls": [5, {"index": [], "function": 5}, {"function": {"arguments": 5}}]}}]}',
    b'{"choices": [{"delta": {"thinking_blocks": [5, {"type": "x"}]}}]}',
    b'{"choices": [{"delta": {"reasoning": {"a": 1}, "refusal": 5}, "finish_reason": {}}]}',
    b'{"id": 5, "model": 6, "choices": [{"delta": null, "finish_reason": 7}]}',
    b" [DONE]",
]


@pytest.mark.parametrize("odd", ODD_CHUNKS)
def test_odd_chunks_never_raise(odd: bytes):
    translation = MessagesToChat(local=True)
    messages_events(translation.event(odd, None) + translation.end())


# --- however it is cut


@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize(("name", "events"), [("chat", FULL), ("message", CHAT)])
@given(places=places)
def test_where_the_bytes_are_cut_makes_no_difference(name: str, events: list[bytes], places: list[int]):
    translate = to_chat if name == "chat" else to_message
    whole = translate(events)
    splitter = SseSplitter()
    again = [raw for piece in cut(b"".join(events), places) for raw in splitter.feed(piece)]
    assert translate(again) == whole


def test_single_bytes_make_no_difference():
    splitter = SseSplitter()
    again = [raw for piece in single_bytes(b"".join(CHAT)) for raw in splitter.feed(piece)]
    assert to_message(again) == to_message(CHAT)


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(
    text=TEXT, thought=TEXT, arguments=st.dictionaries(TEXT, st.integers() | TEXT, max_size=3), places=places
)
def test_however_an_answer_is_cut_into_pieces_it_says_the_same(
    text: str, thought: str, arguments: dict[str, Any], places: list[int]
):
    said = json.dumps(arguments, ensure_ascii=False)
    events = [start(), begin(0, type="thinking", thinking="", signature="")]
    events += [delta(0, "thinking_delta", thinking=piece) for piece in pieces(thought, places)]
    events += [delta(0, "signature_delta", signature="c2ln"), stop(0), begin(1, type="text", text="")]
    events += [delta(1, "text_delta", text=piece) for piece in pieces(text, places)]
    events += [stop(1), begin(2, type="tool_use", id="a", name="x", input={})]
    events += [delta(2, "input_json_delta", partial_json=piece) for piece in pieces(said, places)]
    made = to_chat([*events, stop(2), *ends("tool_use")])
    there = chunks(made)
    deltas = [choice["delta"] for one in there for choice in one["choices"]]
    assert "".join(d.get("content") or "" for d in deltas) == text
    assert "".join(d.get("reasoning_content") or "" for d in deltas) == thought

    # And back again: what was a chat's stream becomes the same message.
    back = [b"data: " + canned.dump(one) + b"\n\n" for one in there]
    content = blocks_from(messages_events(to_message(back)))
    assert content == [
        {"type": "thinking", "thinking": thought, "signature": "c2ln"},
        {"type": "text", "text": text},
        {"type": "tool_use", "id": "a", "name": "x", "input": arguments},
    ]


def pieces(text: str, places: list[int]) -> list[str]:
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def blocks_from(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that the events add up to, without an SDK: it would take long for hundreds of examples."""
    blocks: list[dict[str, Any]] = []
    arguments = ""
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            for key in ("text", "thinking", "signature"):
                if key in event["delta"]:
                    blocks[-1][key] += event["delta"][key]
            arguments += event["delta"].get("partial_json", "")
        elif event["type"] == "content_block_stop" and blocks[-1]["type"] == "tool_use":
            blocks[-1]["input"] = json.loads(arguments or "{}")
            arguments = ""
    return blocks


def test_the_lab_says_the_same_in_either_dialect():
    """What tests of the relay serve is a stream as both providers write it."""
    assert openai_reads(to_chat(canned.messages_stream())).choices[0].message.content == canned.TEXT
    assert anthropic_reads(to_message(canned.chat_stream(usage=True))).content[0].text == canned.TEXT


def test_an_event_without_data_is_nothing():
    assert parse_event(b": ping\n\n").data is None
    assert ChatToMessages(created=1).event(b"{}", "ping") == b""
