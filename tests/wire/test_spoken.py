"""How far a broken answer had come, and the request for the rest of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.api import Api
from gateway.wire.spoken import Spoken, continued_body, spoken, tail_of
from gateway.wire.sse import parse_event
from tests import canned

CHAT, COMPLETIONS, MESSAGES = Api.CHAT, Api.COMPLETIONS, Api.MESSAGES
ASK = {"messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"prompt": "Once"}
REQUESTS: dict[Api, dict[str, Any]] = {CHAT: ASK, COMPLETIONS: PROMPT, MESSAGES: {**ASK, "max_tokens": 9}}
STREAMS = {
    CHAT: canned.chat_stream(),
    COMPLETIONS: canned.completion_stream(),
    MESSAGES: canned.messages_stream(),
}


def of(api: Api, parts: list[bytes], request: dict[str, Any] | None = None) -> Spoken | None:
    body = json.dumps(request or REQUESTS[api]).encode()
    found = spoken(api, body, parts, events=False)
    datas = [data for part in parts if (data := parse_event(part).data) is not None]
    assert spoken(api, body, datas, events=True) == found
    return found


@pytest.mark.parametrize("api", list(STREAMS))
def test_the_text_so_far_is_known_at_every_event(api: Api) -> None:
    stream = STREAMS[api]
    pieces = canned.words(canned.TEXT)
    texts: list[str] = []
    for end in range(len(stream) + 1):
        found = of(api, stream[:end])
        if found is not None:
            texts.append(found.text)
    assert list(dict.fromkeys(texts)) == ["".join(pieces[: n + 1]) for n in range(len(pieces))]
    assert of(api, stream) is None  # it is over


def test_the_first_stream_gives_its_names() -> None:
    found = of(CHAT, canned.chat_stream()[:3])
    assert found is not None
    assert found.identity == {"id": b'"chatcmpl-lab"', "created": b"1700000000", "model": b'"gpt-lab"'}
    assert repr(found) == "Spoken(11 characters, index=0, is_open=False)"
    found = of(MESSAGES, canned.messages_stream()[:4])
    assert found is not None
    assert found.identity == {"id": b'"msg_lab"', "model": b'"gpt-lab"'}
    assert (found.index, found.is_open) == (0, True)
    assert found.usage is not None
    assert found.usage.input_tokens == 7


def test_raw_bytes_may_be_cut_anywhere() -> None:
    whole = b"".join(canned.chat_stream()[:3])
    parts = [whole[:50], whole[50:51], b"", whole[51:]]
    found = spoken(CHAT, json.dumps(ASK).encode(), parts, events=False)
    assert found is not None
    assert found.text == "Hello from "


def chunks(*deltas: dict[str, Any], **more: Any) -> list[bytes]:
    return [canned.chat_role(), *(canned.chat_chunk(delta, **more) for delta in deltas)]


HELLO = {"content": "Hello"}


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [canned.chat_role()],
        chunks({"content": " \n"}),
        chunks(HELLO, {"tool_calls": [{"index": 0}]}),
        chunks(HELLO, {"function_call": {"name": "f"}}),
        chunks(HELLO, {"refusal": "no"}),
        chunks(HELLO, {"audio": {"id": "a"}}),
        chunks({"reasoning_content": "hm"}),
        chunks(HELLO, {"reasoning": "hm"}),
        chunks({"content": [{"type": "text", "text": "Hello"}]}),
        [*chunks(HELLO), canned.chat_chunk({}, finish="stop")],
        [*chunks(HELLO), canned.DONE],
        [*chunks(HELLO), canned.data({"choices": [{"index": 1, "delta": HELLO}]})],
        [
            *chunks(HELLO),
            canned.data({"choices": [{"index": 0, "delta": HELLO, "logprobs": {"content": []}}]}),
        ],
        [*chunks(HELLO), canned.data({"choices": [{"delta": HELLO, "error": {"message": "x"}}]})],
        [*chunks(HELLO), canned.data({"choices": ["x"]})],
        [*chunks(HELLO), b"data: {\n\n"],
        [*chunks(HELLO), b"data: [1]\n\n"],
    ],
)
def test_chunks_that_nobody_can_go_on_with(parts: list[bytes]) -> None:
    assert of(CHAT, parts) is None


@pytest.mark.parametrize(
    "parts",
    [
        chunks(HELLO),
        chunks({"reasoning_content": "hm"}, HELLO),
        chunks(HELLO, {}),
        [*chunks(HELLO), canned.data({"choices": []}), canned.data({"choices": [{"delta": None}]})],
        [b": comment\n\n", *chunks(HELLO)],
    ],
)
def test_chunks_that_can_be_gone_on_with(parts: list[bytes]) -> None:
    found = of(CHAT, parts)
    assert found is not None
    assert found.text == "Hello"


def block(kind: str, index: int = 0, **more: Any) -> bytes:
    return canned.named(
        {"type": "content_block_start", "index": index, "content_block": {"type": kind, **more}}
    )


def delta(kind: str, index: int = 0, **more: Any) -> bytes:
    return canned.named({"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}})


def stop(index: int = 0) -> bytes:
    return canned.named({"type": "content_block_stop", "index": index})


START, TEXT = canned.message_start(), [block("text", text=""), canned.text_delta("Hello")]
THOUGHT = [
    block("thinking"),
    delta("thinking_delta", thinking="hm"),
    delta("signature_delta", signature="s"),
    stop(),
]


@pytest.mark.parametrize(
    "parts",
    [
        [START],
        [START, block("text", text="")],
        [START, *THOUGHT],
        [START, *TEXT, stop(), block("thinking", 1)],
        [START, *TEXT, stop(), block("tool_use", 1)],
        [START, *TEXT, delta("citations_delta", citation={})],
        [START, *TEXT, stop(), canned.named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})],
        [START, *TEXT, b"data: {\n\n"],
    ],
)
def test_events_that_nobody_can_go_on_with(parts: list[bytes]) -> None:
    assert of(MESSAGES, parts) is None


def test_an_answer_behind_its_thinking_can_be_gone_on_with() -> None:
    parts = [START, *THOUGHT, block("text", 1, text="He"), canned.PING, delta("text_delta", 1, text="llo")]
    found = of(MESSAGES, parts)
    assert found is not None
    assert (found.text, found.index, found.is_open) == ("Hello", 1, True)
    found = of(MESSAGES, [*parts, stop(1)])
    assert found is not None
    assert (found.index, found.is_open) == (1, False)


@pytest.mark.parametrize(
    ("api", "request_"),
    [
        (CHAT, {**ASK, "n": 2}),
        (CHAT, {**ASK, "logprobs": True}),
        (CHAT, {**ASK, "response_format": {"type": "json_object"}}),
        (CHAT, {**ASK, "tool_choice": "required"}),
        (CHAT, {**ASK, "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (CHAT, {**ASK, "function_call": {"name": "f"}}),
        (CHAT, {**ASK, "guided_regex": "a+"}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": ["x"]}),
        (CHAT, {"messages": "x"}),
        (COMPLETIONS, {**PROMPT, "logprobs": 0}),
        (COMPLETIONS, {**PROMPT, "echo": True}),
        (COMPLETIONS, {**PROMPT, "suffix": "x"}),
        (COMPLETIONS, {**PROMPT, "best_of": 2}),
        (COMPLETIONS, {"prompt": ["a", "b"]}),
        (COMPLETIONS, {"prompt": [1, 2]}),
        (MESSAGES, {**ASK, "tool_choice": {"type": "any"}}),
        (MESSAGES, {**ASK, "output_config": {"format": {"type": "json_schema"}}}),
    ],
)
def test_requests_that_bind_the_answer_are_not_gone_on_with(api: Api, request_: dict[str, Any]) -> None:
    assert of(api, STREAMS[api][:4]) is not None
    assert of(api, STREAMS[api][:4], request_) is None


def test_tools_that_were_only_offered_do_no_harm() -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"}
    assert of(CHAT, STREAMS[CHAT][:3], {**ASK, **tools}) is not None
    assert of(MESSAGES, STREAMS[MESSAGES][:5], {**ASK, "tool_choice": {"type": "auto"}}) is not None


def test_other_calls_and_broken_bodies_are_not_gone_on_with() -> None:
    parts = canned.responses_stream()[:6]
    assert spoken(Api.RESPONSES, b'{"input":"hi"}', parts, events=False) is None
    assert spoken(Api.OTHER, b"{}", parts, events=False) is None
    assert spoken(CHAT, b"[]", STREAMS[CHAT][:3], events=False) is None


def test_the_text_opens_the_assistants_turn_byte_for_byte() -> None:
    said = Spoken(text='He "said"\n ', identity={})
    body = (
        b'{ "messages" : [ {"role":"user","content":"\\u0068i"} ],"t":1.0e0, "thinking":{"type":"enabled"}}'
    )
    turn = rb',{"role":"assistant","content":"He \"said\"\n "}'
    assert continued_body(CHAT, body, said) == body.replace(b'"\\u0068i"}', b'"\\u0068i"}' + turn)
    # Anthropic refuses blanks at the end, and thinking in a turn that has begun without it
    turn = rb',{"role":"assistant","content":"He \"said\""}'
    wanted = body.replace(b'"\\u0068i"}', b'"\\u0068i"}' + turn).replace(
        b', "thinking":{"type":"enabled"}', b""
    )
    assert continued_body(MESSAGES, body, said) == wanted
    assert (tail_of(MESSAGES, said), tail_of(CHAT, said)) == ("\n ", "")
    off = b'{"messages":[{"role":"user","content":"x"}],"thinking":{"type":"disabled"}}'
    assert b'"disabled"' in continued_body(MESSAGES, off, said)


@pytest.mark.parametrize(
    ("last", "joined"),
    [
        (b'{"role":"assistant","content":"A\\u0041 "}', b'{"role":"assistant","content":"A\\u0041 more"}'),
        (b'{"role":"assistant","content":null}', b'{"role":"assistant","content":"more"}'),
        (b'{"role":"assistant"}', b'{"role":"assistant","content":"more"}'),
        (
            b'{"role":"assistant","content":[]}',
            b'{"role":"assistant","content":[{"type":"text","text":"more"}]}',
        ),
        (
            b'{"role":"assistant","content":[{"type":"text", "text":"A"}]}',
            b'{"role":"assistant","content":[{"type":"text", "text":"Amore"}]}',
        ),
        (
            b'{"role":"assistant","content":[{"type":"x"}]}',
            b'{"role":"assistant","content":[{"type":"x"},{"type":"text","text":"more"}]}',
        ),
        (
            b'{"role":"assistant","content":"","tool_calls":[{"id":"c"}]}',
            b'{"role":"assistant","content":"","tool_calls":[{"id":"c"}]},{"role":"assistant","content":"more"}',
        ),
    ],
)
def test_what_the_client_had_begun_is_gone_on_with(last: bytes, joined: bytes) -> None:
    body = b'{"messages":[{"role":"user","content":"x"},%s],"n":1}'
    assert continued_body(CHAT, body % last, Spoken(text="more", identity={})) == body % joined


def test_a_prompt_grows() -> None:
    said = Spoken(text=" upon\ta", identity={})
    assert continued_body(COMPLETIONS, b'{"prompt": "Once" }', said) == b'{"prompt": "Once upon\\ta" }'
    assert continued_body(COMPLETIONS, b'{"prompt":["Once"]}', said) == b'{"prompt":["Once upon\\ta"]}'


@pytest.mark.parametrize(
    ("api", "body"),
    [(COMPLETIONS, b'{"prompt":[1]}'), (CHAT, b'{"messages":[]}'), (CHAT, b"[]"), (CHAT, b"{}")],
)
def test_a_body_without_a_place_for_the_text_is_refused(api: Api, body: bytes) -> None:
    with pytest.raises(ValueError, match="the body"):
        continued_body(api, body, Spoken(text="x", identity={}))


@given(st.text(min_size=1), st.sampled_from([CHAT, COMPLETIONS, MESSAGES]), st.booleans())
def test_any_text_arrives(text: str, api: Api, prefill: bool) -> None:
    request = json.loads(json.dumps(REQUESTS[api]))
    if prefill and api is not COMPLETIONS:
        request["messages"].append({"role": "assistant", "content": "Begun "})
    body = json.loads(continued_body(api, json.dumps(request).encode(), Spoken(text=text, identity={})))
    sent = body["prompt"] if api is COMPLETIONS else body["messages"][-1]["content"]
    begun = "Once" if api is COMPLETIONS else "Begun " if prefill else ""
    assert sent == begun + (text.rstrip() if api is MESSAGES else text)
