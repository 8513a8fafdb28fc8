"""There and back again: what a conversation means is the same in the other API's words."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.translate.chat_to_messages import ChatToMessages
from gateway.wire.translate.messages_to_chat import MessagesToChat
from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.sdk import request

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: text.strip())
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
NAMES = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
ARGUMENTS = st.dictionaries(
    WORDS, st.none() | st.booleans() | st.integers() | WORDS | st.lists(WORDS, max_size=2), max_size=3
)
BASE64 = st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode())


# --- as a chat has it


TEXT_PART = st.builds(lambda text: {"type": "text", "text": text}, WORDS)
IMAGE_PART = st.builds(
    lambda data, kind: {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}},
    BASE64,
    st.sampled_from(["png", "jpeg", "gif", "webp"]),
) | st.just({"type": "image_url", "image_url": {"url": "https://lab/a.png"}})
FILE_PART = st.builds(
    lambda data, name: {
        "type": "file",
        "file": {"filename": name, "file_data": f"data:application/pdf;base64,{data}"},
    },
    BASE64,
    WORDS,
)
PARTS = st.lists(TEXT_PART | IMAGE_PART | FILE_PART, min_size=2, max_size=4)
USER = st.builds(lambda content: [{"role": "user", "content": content}], WORDS | PARTS)
THOUGHTS = st.lists(
    st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, WORDS, IDS)
    | st.builds(lambda data: {"type": "redacted_thinking", "data": data}, BASE64),
    max_size=2,
)


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's message, with the results of the calls in it."""
    content = draw(st.none() | WORDS | st.lists(TEXT_PART, min_size=2, max_size=3))
    calls = draw(st.lists(st.tuples(IDS, NAMES, ARGUMENTS), max_size=3, unique_by=lambda call: call[0]))
    if content is None and not calls:
        content = "x"
    message: dict[str, Any] = {"role": "assistant", "content": content}
    thoughts = draw(THOUGHTS)
    if thoughts:
        words = "".join(block.get("thinking", "") for block in thoughts)
        message.update({"reasoning_content": words} if words else {})
        message["thinking_blocks"] = thoughts
    if calls:
        message["tool_calls"] = [
            {"id": key, "type": "function", "function": {"name": name, "arguments": compact(arguments)}}
            for key, name, arguments in calls
        ]
    told = [
        {
            "role": "tool",
            "tool_call_id": key,
            "content": draw(WORDS | st.lists(TEXT_PART, min_size=2, max_size=2)),
        }
        for key, _, _ in calls
    ]
    return [message, *told]


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


SYSTEM = st.lists(st.builds(lambda text: {"role": "system", "content": text}, WORDS), max_size=1)
TURNS = st.lists(st.tuples(USER, answers()), min_size=1, max_size=3)
TOOLS = st.lists(
    st.builds(
        lambda name, text, strict: {
            "type": "function",
            "function": {
                "name": name,
                "description": text,
                "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
                **({"strict": True} if strict else {}),
            },
        },
        NAMES,
        WORDS,
        st.booleans(),
    ),
    min_size=1,
    max_size=2,
)
CHOICES = st.sampled_from(["auto", "none", "required"]) | st.just(
    {"type": "function", "function": {"name": "time"}}
)
EXACT = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    turns = [message for pair in draw(TURNS) for part in pair for message in part]
    chat: dict[str, Any] = {
        "model": "claude-3-7-sonnet-latest",  # takes temperature and top_p together
        "messages": [*draw(SYSTEM), *turns],
        "max_completion_tokens": draw(st.integers(1, 9000)),
    }
    optional = {
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 0.99),
        "stop": st.lists(WORDS, min_size=1, max_size=4),
        "user": IDS,
        "service_tier": st.sampled_from(["auto", "default"]),
        "response_format": st.just(
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": EXACT, "strict": True}}
        ),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            chat[name] = draw(values)
    if draw(st.booleans()):
        chat["tools"] = draw(TOOLS)
        chat["tool_choice"] = draw(CHOICES)
        if chat["tool_choice"] != "none" and draw(st.booleans()):
            chat["parallel_tool_calls"] = False
    if draw(st.booleans()):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


@settings(max_examples=25, deadline=None)
@given(chat=chats())
def test_a_chat_comes_back_as_it_was(chat: dict[str, Any]):
    there, back = ChatToMessages(created=1), MessagesToChat(local=False, thoughts=True)
    again = request(back, request(there, chat))
    assert there.changed == back.changed == ()
    # Results with a user's words behind them are one message for Anthropic, and two again.
    assert again == chat


# --- as Anthropic has it


@settings(max_examples=25, deadline=None)
@given(chat=chats(), effort=st.sampled_from(["low", "medium", "high", "xhigh", "max", None]))
def test_a_message_comes_back_as_it_was(chat: dict[str, Any], effort: str | None):
    """Requests for messages are made of chats here: that these are sound ones is tested on their own."""
    asked = request(ChatToMessages(created=1), chat)
    if effort is not None:
        asked |= {"model": "claude-opus-4-7", "thinking": {"type": "adaptive"}}
        asked["output_config"] = {**asked.get("output_config", {}), "effort": effort}
        for name in ("temperature", "top_p", "tool_choice"):
            asked.pop(name, None)
    there, back = MessagesToChat(local=False, thoughts=True), ChatToMessages(created=1)
    again = request(back, request(there, asked))
    assert there.changed == back.changed == ()
    assert again == asked


@settings(max_examples=10, deadline=None)
@given(chat=chats())
def test_a_request_is_not_changed_by_being_translated_again(chat: dict[str, Any]):
    """A retry begins with the same bytes, with a translator of its own."""
    body = json.dumps(chat).encode()
    assert ChatToMessages(created=1).request(body) == ChatToMessages(created=2).request(body)


FIELD = st.sampled_from(
    [
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "source",
        "data",
        "tools",
        "name",
        "function",
        "tool_choice",
        "input",
        "id",
        "index",
        "delta",
        "choices",
        "message",
        "usage",
        "thinking",
        "output_config",
        "format",
        "schema",
        "tool_calls",
        "stop_reason",
        "finish_reason",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(FIELD, JSON, max_size=6))
def test_nothing_that_comes_from_a_target_raises(value: dict[str, Any]):
    body = json.dumps(value).encode()
    for kind in ("message_start", "content_block_start", "content_block_delta", "message_delta", "odd"):
        translation = ChatToMessages(created=1)
        translation.event(body, kind)
        translation.end()
    translation = MessagesToChat(local=False)
    translation.event(body, None)
    translation.end()
    ChatToMessages(created=1).whole(body)
    MessagesToChat(local=False).whole(body)


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(FIELD, JSON, max_size=6))
def test_a_request_is_translated_or_refused_by_name(value: dict[str, Any]):
    body = json.dumps(value).encode()
    for translation in (ChatToMessages(created=1), MessagesToChat(local=False), MessagesToChat(local=True)):
        try:
            translation.request(body)
        except UntranslatableError as refusal:
            assert refusal.param
