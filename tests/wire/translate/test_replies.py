"""Whole replies, both ways, read by the SDKs' strict types."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.api import Api
from gateway.wire.translate.chat_to_messages import ChatToMessages
from gateway.wire.translate.messages_to_chat import MessagesToChat
from tests import canned
from tests.wire.translate.sdk import anthropic_parses, openai_parses, request, whole

HI = {"role": "user", "content": "hi"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "eHg="}


def message(*content: Any, stop_reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_01ab",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
        **more,
    }


def completion(
    finish: str | None = "stop", choice: dict[str, Any] | None = None, **said: Any
) -> dict[str, Any]:
    answer = {"role": "assistant", "content": None, **said}
    return {
        "id": "chatcmpl-9x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-x",
        "choices": [
            {"index": 0, "message": answer, "logprobs": None, "finish_reason": finish, **(choice or {})}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }


def to_chat(reply: dict[str, Any]) -> dict[str, Any]:
    return whole(ChatToMessages(created=77), reply, Api.CHAT)


def to_message(reply: dict[str, Any], **asked: Any) -> dict[str, Any]:
    translation = MessagesToChat(local=False)
    request(translation, {"model": "m", "max_tokens": 9, "messages": [HI], **asked})
    return whole(translation, reply, Api.MESSAGES)


# --- Anthropic's, for a chat


def test_texts_are_joined_as_they_are():
    made = to_chat(message({"type": "text", "text": "Hello"}, {"type": "text", "text": ", world"}))
    assert made == {
        "id": "chatcmpl-01ab",
        "object": "chat.completion",
        "created": 77,
        "model": "claude-x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    openai_parses(made)


def test_two_calls_and_what_was_thought_before_them():
    made = to_chat(
        message(
            THOUGHT,
            HIDDEN,
            {"type": "text", "text": "look"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich", "days": 0}},
            {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
            {"type": "future_block", "x": 1},
            "no block",
            stop_reason="tool_use",
        )
    )
    read = openai_parses(made).choices[0]
    assert read.finish_reason == "tool_calls"
    assert read.message.content == "look"
    assert [(c.id, c.function.name, c.function.arguments) for c in read.message.tool_calls] == [
        ("toolu_1", "weather", '{"city":"Zürich","days":0}'),
        ("toolu_2", "time", "{}"),
    ]
    said = made["choices"][0]["message"]
    assert (said["reasoning_content"], said["thinking_blocks"]) == ("hm", [THOUGHT, HIDDEN])


def test_calls_alone_have_no_content_and_nothing_at_all_is_an_empty_text():
    call = {"type": "tool_use", "id": "t", "name": "time", "input": {}}
    assert to_chat(message(call))["choices"][0]["message"]["content"] is None
    assert to_chat(message())["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
        (5, "stop"),
    ],
)
def test_reasons_for_a_chat(reason: Any, finish: str):
    made = to_chat(message({"type": "text", "text": "x"}, stop_reason=reason))
    assert openai_parses(made).choices[0].finish_reason == finish


def test_a_refusal_is_explained():
    details = {"type": "refusal", "category": None, "explanation": "not this"}
    made = to_chat(message(stop_reason="refusal", stop_details=details))
    assert openai_parses(made).choices[0].message.refusal == "not this"


def test_what_was_cached_is_part_of_a_chats_prompt():
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
        "service_tier": "standard",
    }
    made = to_chat(message(usage=usage))
    assert made["usage"] == {
        "prompt_tokens": 123,
        "completion_tokens": 50,
        "total_tokens": 173,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert made["service_tier"] == "default"
    openai_parses(made)


def test_citations_of_pages_are_annotations():
    page = {"type": "web_search_result_location", "url": "https://lab", "title": "Lab", "cited_text": "x"}
    paper = {"type": "char_location", "cited_text": "y", "document_index": 0}
    made = to_chat(
        message({"type": "text", "text": "ab"}, {"type": "text", "text": "cde", "citations": [page, paper]})
    )
    note = openai_parses(made).choices[0].message.annotations[0].url_citation
    assert (note.url, note.title, note.start_index, note.end_index) == ("https://lab", "Lab", 2, 5)
    assert len(made["choices"][0]["message"]["annotations"]) == 1


@pytest.mark.parametrize(
    "reply", [[], {}, {"content": 5, "usage": 7, "id": 3, "model": None}, {"content": [[], 1]}]
)
def test_odd_messages_never_raise(reply: Any):
    made = ChatToMessages(created=1).whole(canned.dump(reply))
    assert b'"finish_reason":"stop"' in made


# --- a chat's, for Anthropic


def test_a_plain_answer():
    made = to_message(completion(content="Hello"))
    assert made == {
        "id": "msg_9x",
        "type": "message",
        "role": "assistant",
        "model": "gpt-x",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 4,
        },
    }
    anthropic_parses(made)


def test_no_content_and_two_calls():
    """Once `content: null` beside calls was an error, and nothing was left of the answer."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
        {"id": "b", "type": "function", "function": {"name": "time", "arguments": ""}},
        {"id": "c", "type": "function", "function": {"name": "time", "arguments": '{"cut'}},
    ]
    made = to_message(completion("tool_calls", tool_calls=calls))
    read = anthropic_parses(made)
    assert read.stop_reason == "tool_use"
    assert [(block.id, block.name, block.input) for block in read.content] == [
        ("a", "weather", {"city": "Bern"}),
        ("b", "time", {}),
        ("c", "time", {"INVALID_JSON": '{"cut'}),
    ]


def test_thinking_comes_first():
    made = to_message(completion(content="yes", reasoning_content="hm"))
    assert [block["type"] for block in made["content"]] == ["thinking", "text"]
    assert made["content"][0]["signature"] == ""
    anthropic_parses(made)
    made = to_message(completion(content="yes", reasoning="hm", thinking_blocks=[THOUGHT, HIDDEN]))
    assert made["content"] == [THOUGHT, HIDDEN, {"type": "text", "text": "yes"}]
    made = to_message(completion(content="yes", reasoning="hm", thinking_blocks=[HIDDEN]))
    assert made["content"][0]["thinking"] == "hm"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("something_new", "end_turn"),
        (None, "end_turn"),
        ("tool_calls", "end_turn"),  # but there was none
    ],
)
def test_reasons_for_a_message(finish: Any, reason: str):
    assert anthropic_parses(to_message(completion(finish, content="x"))).stop_reason == reason


def test_a_call_that_was_forced_ends_with_stop_and_is_a_call_all_the_same():
    call = {"id": "a", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    assert to_message(completion("stop", tool_calls=[call]))["stop_reason"] == "tool_use"
    assert to_message(completion("length", tool_calls=[call]))["stop_reason"] == "max_tokens"


def test_a_refusal_is_said_and_explained():
    read = anthropic_parses(to_message(completion(refusal="not this")))
    assert read.content[0].text == "not this"
    assert read.stop_reason == "refusal"
    assert read.stop_details.explanation == "not this"


def test_which_string_stopped_it_where_the_server_tells():
    reply = completion(content="x", choice={"stop_reason": "END"})
    made = to_message(reply, stop_sequences=["END"])
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "END")
    assert to_message(reply)["stop_reason"] == "end_turn"


def test_what_was_cached_is_counted_apart():
    usage = {
        "prompt_tokens": 123,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert to_message({**completion(content="x"), "usage": usage})["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 100,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
    }
    deepseek = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}
    assert to_message({**completion(content="x"), "usage": deepseek})["usage"]["input_tokens"] == 6


def test_texts_in_parts_and_names_that_were_shortened():
    name = "mcp__" + "x" * 90
    translation = MessagesToChat(local=False)
    tools = [{"name": name, "input_schema": {"type": "object"}}]
    sent = request(translation, {"model": "m", "max_tokens": 9, "messages": [HI], "tools": tools})
    function = {"name": sent["tools"][0]["function"]["name"], "arguments": {"already": "an object"}}
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    reply = completion("tool_calls", content=parts, tool_calls=[{"function": function}, {"function": 5}])
    made = whole(translation, reply, Api.MESSAGES)
    assert made["content"] == [
        {"type": "text", "text": "ab"},
        {"type": "tool_use", "id": "toolu_9x_0", "name": name, "input": {"already": "an object"}},
    ]


@pytest.mark.parametrize(
    "reply", [[], {}, {"choices": [5]}, {"choices": [{"message": [], "finish_reason": {}}], "usage": []}]
)
def test_odd_completions_never_raise(reply: Any):
    made = MessagesToChat(local=True).whole(canned.dump(reply))
    assert b'"stop_reason":"end_turn"' in made


def test_half_a_surrogate_pair_does_not_break_a_reply():
    """Python and JavaScript write it as an escape; UTF-8 has no bytes for it."""
    reply = b'{"id":"chatcmpl-1","model":"m","choices":[{"message":{"content":"a\\ud83d"},"finish_reason":"stop"}]}'
    made = MessagesToChat(local=True).whole(reply)
    assert b'"text":"a?"' in made
