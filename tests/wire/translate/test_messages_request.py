"""A request for a message, for OpenAI and for the local engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.local.chat import read_chat
from gateway.wire.translate.messages_to_chat import MessagesToChat
from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.sdk import request

HI = {"role": "user", "content": "hi"}
TIME = {"name": "time", "input_schema": {"type": "object", "properties": {}}}
MARK = {"type": "ephemeral"}
BILLING = "x-anthropic-billing-header: cc_version=2.1.5; cc_entrypoint=cli; cch=a91f3;"


def send(
    *messages: Any, local: bool = False, thoughts: bool = False, **fields: Any
) -> tuple[Any, tuple[str, ...]]:
    translation = MessagesToChat(local=local, thoughts=thoughts)
    asked = {"model": "m", "max_tokens": 100, "messages": list(messages) or [HI], **fields}
    return request(translation, asked), translation.changed


def refused(*messages: Any, **fields: Any) -> str | None:
    with pytest.raises(UntranslatableError) as raised:
        send(*messages, **fields)
    assert raised.value.status == 400
    return raised.value.param


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def test_a_plain_message_is_a_plain_chat():
    made, changed = send(system="be brief")
    assert made == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, HI],
        "max_completion_tokens": 100,
    }
    assert changed == ()


def test_an_older_server_is_told_its_own_word_for_the_limit():
    translation = MessagesToChat(local=False, limit_field="max_tokens")
    assert request(translation, {"model": "m", "max_tokens": 7, "messages": [HI]})["max_tokens"] == 7


def test_text_blocks_stay_parts_and_marks_of_the_cache_are_dropped():
    made, changed = send(
        {"role": "user", "content": [text("Hello", cache_control=MARK), text(", world")]},
        {"role": "assistant", "content": [text("one")]},
        {"role": "system", "content": "now in French"},
        system=[text("a"), text("b", cache_control=MARK)],
        cache_control=MARK,
    )
    assert made["messages"] == [
        {"role": "system", "content": [text("a"), text("b")]},
        {"role": "user", "content": [text("Hello"), text(", world")]},
        {"role": "assistant", "content": "one"},
        {"role": "system", "content": "now in French"},
    ]
    assert changed == ("cache_control",)


def test_calls_stay_in_one_message_with_the_text_before_them():
    """Once two calls became two messages, and the text moved behind them, which OpenAI refuses."""
    made, changed = send(
        HI,
        {
            "role": "assistant",
            "content": [
                text("let me look"),
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Zürich", "days": 0}},
                {"type": "tool_use", "id": "b" * 60, "name": "time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
                {
                    "type": "tool_result",
                    "tool_use_id": "b" * 60,
                    "is_error": True,
                    "content": [
                        text("12:00"),
                        {"type": "image", "source": {"type": "url", "url": "https://lab/clock.png"}},
                    ],
                },
                text("and?"),
            ],
        },
        tools=[TIME],
    )
    calls = made["messages"][1].pop("tool_calls")
    assert made["messages"][1] == {"role": "assistant", "content": "let me look"}
    assert [c["function"] for c in calls] == [
        {"name": "weather", "arguments": '{"city":"Zürich","days":0}'},
        {"name": "time", "arguments": "{}"},
    ]
    assert calls[0]["id"] == "a"
    assert len(calls[1]["id"]) == 40
    assert made["messages"][2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": calls[1]["id"], "content": "12:00"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://lab/clock.png"}}, text("and?")],
        },
    ]
    assert changed == ("tool_use_id", "tool_result", "is_error")


def test_a_call_without_input_and_text_that_cites():
    cited = {"type": "text", "text": "as it says", "citations": [{"type": "char_location"}]}
    made, changed = send(
        HI, {"role": "assistant", "content": [cited, {"type": "tool_use", "id": "a", "name": "x"}]}
    )
    assert made["messages"][1]["content"] == "as it says"
    assert made["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert changed == ("citations",)


def test_only_results_make_no_empty_message_of_the_user():
    made, _ = send({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]})
    assert made["messages"] == [{"role": "tool", "tool_call_id": "a", "content": ""}]


def test_pictures_and_documents():
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    inner = {
        "type": "content",
        "content": [text("x"), {"type": "image", "source": {"type": "url", "url": "http://lab/i"}}],
    }
    made, changed = send(
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": pdf, "title": "a.pdf"},
                {"type": "document", "source": pdf, "citations": {"enabled": True}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
                {"type": "document", "source": {"type": "content", "content": "str"}, "title": "t"},
                {"type": "document", "source": inner, "context": "c"},
                {"type": "search_result", "title": "t", "source": "s", "content": [text("found")]},
            ],
        }
    )
    url = "data:application/pdf;base64,JVBERi0="
    assert made["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": url}},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": url}},
        text("plain"),
        text("str"),
        text("x"),
        {"type": "image_url", "image_url": {"url": "http://lab/i"}},
        text("t"),
        text("s"),
        text("found"),
    ]
    assert changed == ("citations", "title", "context", "search_result")


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ({"type": "image"}, "source"),
        ({"type": "document", "source": {"type": "url", "url": "https://lab/a.pdf"}}, "source.type"),
        ({"type": "document", "source": {"type": "content", "content": 5}}, "source.content"),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "x"}]}},
            "source.content[0].type",
        ),
        ({"type": "container_upload", "file_id": "f"}, "type"),
        ({"type": "text", "text": 5}, "text"),
    ],
)
def test_blocks_that_can_not_be_said(block: Any, param: str):
    assert refused({"role": "user", "content": [block]}) == f"messages[0].content[0].{param}"


def test_thinking_is_dropped_for_openai_kept_in_words_locally_and_whole_on_request():
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "eHg="}
    talk = [HI, {"role": "assistant", "content": [thought, hidden, text("yes")]}, HI]
    made, changed = send(*talk)
    assert made["messages"][1] == {"role": "assistant", "content": "yes"}
    assert changed == ("thinking",)
    made, changed = send(*talk, local=True)
    assert made["messages"][1] == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    assert changed == ("thinking",)
    made, changed = send(*talk, thoughts=True)
    assert made["messages"][1]["thinking_blocks"] == [thought, hidden]
    assert changed == ()
    talk[1] = {"role": "assistant", "content": [{**thought, "signature": ""}, text("yes")]}
    assert send(*talk, local=True)[1] == ()


@pytest.mark.parametrize(
    ("choice", "made_of_it", "parallel"),
    [
        (None, None, None),
        ({"type": "auto"}, "auto", None),
        ({"type": "none"}, "none", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        (
            {"type": "tool", "name": "time", "disable_parallel_tool_use": False},
            {"type": "function", "function": {"name": "time"}},
            None,
        ),
    ],
)
def test_tool_choice(choice: Any, made_of_it: Any, parallel: bool | None):
    made, changed = send(
        tools=[{**TIME, "description": "d", "strict": True, "type": "custom"}], tool_choice=choice
    )
    function = {"name": "time", "description": "d", "parameters": TIME["input_schema"], "strict": True}
    assert made["tools"] == [{"type": "function", "function": function}]
    assert made.get("tool_choice") == made_of_it
    assert made.get("parallel_tool_calls") == parallel
    assert changed == ()
    assert "tool_choice" not in send(tool_choice=choice)[0]


def test_long_names_of_tools_are_shortened_but_not_for_local_models():
    name = "mcp__" + "x" * 90
    translation = MessagesToChat(local=False)
    asked = {"model": "m", "max_tokens": 9, "messages": [HI], "tools": [{**TIME, "name": name}]}
    short = request(translation, asked)["tools"][0]["function"]["name"]
    assert len(short) == 64
    assert translation.changed == ("tools.name",)
    assert send(tools=[{**TIME, "name": name}], local=True)[0]["tools"][0]["function"]["name"] == name


def test_zero_is_a_value_and_top_k_is_for_those_who_know_it():
    made, changed = send(temperature=0, top_p=0, top_k=5)
    assert (made["temperature"], made["top_p"]) == (0, 0)
    assert "top_k" not in made
    assert changed == ("top_k",)
    made, changed = send(temperature=0, top_k=0, local=True)
    assert (made["temperature"], made["top_k"]) == (0, 0)
    assert changed == ()


@pytest.mark.parametrize(
    ("fields", "effort", "template", "changed"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", "low", ("thinking.budget_tokens",)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 8192}},
            "medium",
            "medium",
            ("thinking.budget_tokens",),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 31999}},
            "high",
            "high",
            ("thinking.budget_tokens",),
        ),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max", "high", ()),
        ({"thinking": {"type": "adaptive"}}, None, None, ()),
        ({"output_config": {"effort": "low"}}, "low", "low", ()),
    ],
)
def test_effort(fields: dict[str, Any], effort: str | None, template: str | None, changed: tuple[str, ...]):
    made, listed = send(**fields)
    assert made.get("reasoning_effort") == effort
    assert listed == changed
    made, listed = send(**fields, local=True)
    expected: dict[str, Any] = {"enable_thinking": "thinking" in fields}
    assert made["chat_template_kwargs"] == expected | ({"reasoning_effort": template} if template else {})
    assert listed == changed


def test_thinking_that_is_off():
    made, changed = send(thinking={"type": "disabled"})
    assert "reasoning_effort" not in made
    assert changed == ("thinking",)
    made, changed = send(thinking={"type": "disabled"}, local=True, output_config={"effort": "high"})
    assert made["chat_template_kwargs"] == {"enable_thinking": False}
    assert changed == ()


def test_a_client_that_says_nothing_of_thinking_expects_none():
    assert send(local=True)[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert "reasoning_effort" not in send()[0]


def test_the_volatile_line_goes_for_local_targets_only():
    """It changes with every request, so that no prompt could be reused; without it Anthropic refuses."""
    system = [text(BILLING), text("You are Claude Code", cache_control=MARK)]
    made, changed = send(system=system, local=True)
    assert made["messages"][0] == {"role": "system", "content": "You are Claude Code"}
    assert changed == ("cache_control", "system")
    made, changed = send(system=system)
    assert made["messages"][0]["content"][0] == text(BILLING)
    assert changed == ("cache_control",)
    made, changed = send(system=BILLING + "\nYou are", local=True)
    assert made["messages"][0]["content"] == "You are"
    assert "system" in changed
    assert send(system=[text(BILLING)], local=True)[0]["messages"] == [HI]
    assert send(system="You are", local=True)[1] == ()


def test_a_schema_is_strict_where_openai_can_keep_to_it():
    loose = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    exact = {**loose, "required": ["a"]}
    nested = {**exact, "properties": {"a": {"type": "array", "items": {"anyOf": [loose]}}}}
    for schema, strict, local in (
        (exact, True, False),
        (loose, None, False),
        ({"type": "object"}, None, False),
        ({"type": "object", "additionalProperties": False}, True, False),
        (nested, None, False),
        (loose, True, True),
    ):
        made, changed = send(output_config={"format": {"type": "json_schema", "schema": schema}}, local=local)
        described = made["response_format"]["json_schema"]
        assert described["schema"] == schema
        assert described.get("strict") == strict
        assert changed == (() if strict else ("output_config.format",))
    assert "response_format" in send(output_format={"type": "json_schema", "schema": exact})[0]


def test_user_tier_stops_and_stream():
    made, changed = send(
        metadata={"user_id": "u" * 65}, service_tier="standard_only", stop_sequences=["a"], stream=True
    )
    assert len(made["user"]) == 64
    assert (made["service_tier"], made["stop"]) == ("default", ["a"])
    assert (made["stream"], made["stream_options"]) == (True, {"include_usage": True})
    assert changed == ("metadata.user_id",)
    assert send(metadata={"user_id": "u"})[0]["user"] == "u"
    assert send(service_tier="gold")[1] == ("service_tier",)
    assert refused(stop_sequences=list("abcde")) == "stop_sequences"
    assert send(stop_sequences=list("abcde"), local=True)[0]["stop"] == list("abcde")


def test_what_is_dropped_is_said():
    made, changed = send(
        tools=[{**TIME, "defer_loading": True, "input_examples": [{}]}],
        context_management={"edits": [1]},
        container="c",
        mcp_servers=[],
        output_config={"task_budget": {"total": 5}},
        thinking={"type": "between_tools"},
    )
    assert set(made) == {"model", "messages", "max_completion_tokens", "tools"}
    assert set(changed) == {
        "defer_loading",
        "input_examples",
        "task_budget",
        "thinking",
        "context_management",
        "container",
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [TIME], "tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "x", "input": 5}],
                    }
                ]
            },
            "messages[0].content[0].input",
        ),
        ({"stop_sequences": [5]}, "stop_sequences"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_what_can_not_be_said_is_refused_by_its_name(fields: dict[str, Any], param: str):
    assert refused(**fields) == param


def test_the_local_engine_takes_what_is_made_for_it():
    """Its reader refuses any field that it doesn't know; Claude Code's request must be none of those."""
    talk = [
        {"role": "user", "content": [text("hi", cache_control=MARK)]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                text("yes"),
                {"type": "tool_use", "id": "toolu_1", "name": "time", "input": {"zone": None}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("12")]}],
        },
    ]
    asked = {
        "model": "m",
        "max_tokens": 32000,
        "messages": talk,
        "system": [text(BILLING), text("You are", cache_control=MARK)],
        "tools": [TIME],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "{}"},
        "thinking": {"type": "enabled", "budget_tokens": 31999},
        "stream": True,
        "temperature": 1,
        "top_k": 40,
        "stop_sequences": ["x"],
        "service_tier": "auto",
    }
    read = read_chat(MessagesToChat(local=True).request(json.dumps(asked).encode()))
    assert read.stream
    assert read.work.max_tokens == 32000
    assert read.work.sampling.top_k == 40


def test_a_thread_begins_with_the_whole_conversation_and_goes_on_without():
    made, changed = send(thread={"type": "create"})
    assert made["messages"] == [HI]
    assert "thread" not in made
    assert changed == ("thread",)
    assert refused(thread={"type": "continue", "previous_message_id": "msg_1"}) == "thread"
