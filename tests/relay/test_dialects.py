"""Every client at an upstream of the other dialect: what it is asked, and what the client gets of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests import canned
from tests.canned import chat_chunk, named
from tests.relay.dialects import (
    CHAT,
    CLIENTS,
    MESSAGES,
    PATHS,
    RESPONSES,
    ends_well,
    error_in,
    events_of,
    front,
    hello,
    text_in,
    text_of,
)

FOREIGN = [(CHAT, "claude"), (MESSAGES, "gpt"), (RESPONSES, "claude")]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("target", ["gpt", "claude"])
@pytest.mark.parametrize("path", CLIENTS)
async def test_every_client_is_answered_by_every_upstream(path: str, target: str, stream: bool) -> None:
    foreign = (path, target) in FOREIGN
    async with front() as f:
        async with f.post(
            path,
            hello(path, target, stream=stream),
            **{"x-api-key": "k", "anthropic-beta": "b", "openai-beta": "o"},
        ) as reply:
            assert reply.status == 200
            assert reply.headers["x-gateway-served-by"].startswith(f"{target}/")
            if stream:
                assert reply.content_type == "text/event-stream"
                events = await events_of(reply)
                assert ends_well(path, events)
                assert text_of(path, events) == canned.TEXT
            else:
                assert reply.content_type == "application/json"
                assert text_in(path, await reply.json()) == canned.TEXT
        seen = f.asked(target)
    headers = {name for name, _ in seen.headers}
    assert "x-api-key" not in headers
    assert seen.json["model"] == {"gpt": "gpt-5", "claude": "opus"}[target]
    if foreign:
        assert (seen.path, seen.query) == (PATHS[target], "")
        assert not headers & {"anthropic-beta", "openai-beta"}
        assert seen.header("anthropic-version") == ("2023-06-01" if target == "claude" else None)
        assert bool(seen.json.get("stream")) is stream
    else:
        assert (seen.path, seen.header("anthropic-beta")) == (path, "b")
        assert "x-gateway-changed" not in reply.headers


# --- what an upstream is asked -----------------------------------------------------------------------


async def test_all_of_a_message_as_a_chat() -> None:
    tool = {
        "name": "weather",
        "description": "tells",
        "input_schema": SCHEMA,
        "cache_control": {"type": "ephemeral"},
    }
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    calls = [{"type": "tool_use", "id": f"toolu_{n}", "name": "weather", "input": {"city": n}} for n in "ab"]
    results = [{"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": f"sun {n}"} for n in "ab"]
    async with front() as f:
        raw = await f.anthropic.messages.with_raw_response.create(
            model="gpt",
            max_tokens=77,
            extra_body={"temperature": 0, "top_k": 5},
            stop_sequences=["END"],
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            tools=[tool],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            messages=[
                {"role": "user", "content": [{"type": "text", "text": "Look:"}, image]},
                {"role": "assistant", "content": [{"type": "text", "text": "I ask."}, *calls]},
                {"role": "user", "content": [*results, {"type": "text", "text": "And?"}]},
            ],
        )
        asked = f.asked("gpt").json
    assert asked == {
        "model": "gpt-5",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            },
            {
                "role": "assistant",
                "content": "I ask.",
                "tool_calls": [
                    {
                        "id": f"toolu_{n}",
                        "type": "function",
                        "function": {"name": "weather", "arguments": f'{{"city":"{n}"}}'},
                    }
                    for n in "ab"
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_a", "content": "sun a"},
            {"role": "tool", "tool_call_id": "toolu_b", "content": "sun b"},
            {"role": "user", "content": "And?"},
        ],
        "max_completion_tokens": 77,
        "temperature": 0,
        "stop": ["END"],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "tells", "parameters": SCHEMA},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    changed = raw.headers["x-gateway-changed"].split(", ")
    assert set(changed) == {"cache_control", "top_k"}


@pytest.mark.parametrize("api", [CHAT, RESPONSES])
async def test_all_of_a_chat_or_a_response_as_a_message(api: str) -> None:
    url = f"data:image/png;base64,{PIXEL}"
    names = ["a", "b"]
    function = {"name": "weather", "description": "tells", "parameters": SCHEMA}
    async with front() as f:
        if api == CHAT:
            calls = [
                {
                    "id": n,
                    "type": "function",
                    "function": {"name": "weather", "arguments": json.dumps({"city": n})},
                }
                for n in names
            ]
            messages: Any = [
                {"role": "system", "content": "Be kind."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look:"},
                        {"type": "image_url", "image_url": {"url": url}},
                    ],
                },
                {"role": "assistant", "content": "I ask.", "tool_calls": calls},
                *({"role": "tool", "tool_call_id": n, "content": f"sun {n}"} for n in names),
            ]
            raw: Any = await f.openai.chat.completions.with_raw_response.create(
                model="claude",
                messages=messages,
                max_completion_tokens=77,
                temperature=0,
                seed=3,
                tools=[{"type": "function", "function": function}],
                tool_choice="required",
                parallel_tool_calls=False,
            )
        else:
            inputs: Any = [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Look:"},
                        {"type": "input_image", "image_url": url},
                    ],
                },
                {"role": "assistant", "content": "I ask."},
                *(
                    {
                        "type": "function_call",
                        "call_id": n,
                        "name": "weather",
                        "arguments": json.dumps({"city": n}),
                    }
                    for n in names
                ),
                *({"type": "function_call_output", "call_id": n, "output": f"sun {n}"} for n in names),
            ]
            raw = await f.openai.responses.with_raw_response.create(
                model="claude",
                instructions="Be kind.",
                input=inputs,
                max_output_tokens=77,
                temperature=0,
                tools=[{"type": "function", "strict": False, **function}],
                tool_choice="required",
                parallel_tool_calls=False,
            )
        asked = f.asked("claude").json
    system = asked.pop("system")
    assert system == "Be kind." or [block["text"] for block in system] == ["Be kind."]
    user, assistant, results = asked.pop("messages")
    assert user["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ]
    assert assistant["content"] == [
        {"type": "text", "text": "I ask."},
        *({"type": "tool_use", "id": n, "name": "weather", "input": {"city": n}} for n in names),
    ]
    assert results["role"] == "user"
    assert [(block["tool_use_id"], block["content"]) for block in results["content"]] == [
        ("a", "sun a"),
        ("b", "sun b"),
    ]
    assert asked == {
        "model": "opus",
        "max_tokens": 77,
        "temperature": 0,
        "tools": [{"name": "weather", "description": "tells", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    assert raw.headers.get("x-gateway-changed") == ("seed" if api == CHAT else None)


async def test_an_answer_that_must_fit_a_schema_is_asked_for_in_the_targets_words() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    wanted = {"type": "json_schema", "schema": SCHEMA}
    async with front() as f:
        async with f.post(CHAT, hello(CHAT, "claude", response_format=form)) as reply:
            assert reply.status == 200
        async with f.post(MESSAGES, hello(MESSAGES, "gpt", output_config={"format": wanted})) as reply:
            assert reply.status == 200
        text = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
        async with f.post(RESPONSES, hello(RESPONSES, "claude", text=text)) as reply:
            assert reply.status == 200
        assert f.claude.seen[0].json["output_config"] == {"format": wanted}
        assert f.claude.seen[1].json["output_config"] == {"format": wanted}
        asked = f.gpt.seen[0].json["response_format"]
    assert (asked["json_schema"]["schema"], asked["json_schema"]["strict"]) == (SCHEMA, True)


async def test_servers_that_are_not_openais_are_told_the_limit_by_its_older_name() -> None:
    async with front() as f:
        f.gpt.always(RESPONSES, f.gpt.error(404))
        async with f.post(MESSAGES, hello(MESSAGES, "qwen", max_tokens=33)) as reply:
            assert reply.status == 200
        async with f.post(RESPONSES, hello(RESPONSES, "qwen", max_output_tokens=33)) as reply:
            assert reply.status == 200
        asked = [seen.json for seen in f.gpt.seen if seen.path == CHAT]
    assert [(body["max_tokens"], "max_completion_tokens" in body) for body in asked] == [(33, False)] * 2


# --- what the client gets ----------------------------------------------------------------------------


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    """One content block of a messages stream."""
    return [
        named({"type": "content_block_start", "index": index, "content_block": start}),
        *(named({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas),
        named({"type": "content_block_stop", "index": index}),
    ]


def message_end(reason: str, **usage: int) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [named({"type": "message_delta", "delta": delta, "usage": usage}), named({"type": "message_stop"})]


def tool_block(index: int, city: str) -> list[bytes]:
    start = {"type": "tool_use", "id": f"toolu_{city}", "name": "weather", "input": {}}
    parts = ['{"city"', f':"{city}"}}']
    return block(index, start, *({"type": "input_json_delta", "partial_json": part} for part in parts))


THOUGHTS = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "Hm, "},
    {"type": "thinking_delta", "thinking": "two."},
    {"type": "signature_delta", "signature": "c2ln"},
)
SAID = block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I ask."})
BUSY_CLAUDE = [
    canned.message_start(),
    *THOUGHTS,
    *SAID,
    *tool_block(2, "Rome"),
    *tool_block(3, "Oslo"),
    *message_end("tool_use", output_tokens=40),
]


def called(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
    head = {"id": f"call_{index}", "type": "function"} if name else {}
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, **head, "function": function}]}


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
BUSY_GPT = [
    canned.chat_role(),
    chat_chunk({"reasoning_content": "Hm, "}),
    chat_chunk({"reasoning_content": "two."}),
    chat_chunk({"content": "I ask."}),
    chat_chunk(called(0, "", "weather")),
    chat_chunk(called(0, '{"city"')),
    chat_chunk(called(1, "", "weather")),  # the calls of some servers come interleaved
    chat_chunk(called(0, ':"Rome"}')),
    chat_chunk(called(1, '{"city":"Oslo"}')),
    chat_chunk({}, finish="tool_calls"),
    canned.data({"id": "chatcmpl-lab", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
    canned.DONE,
]


async def test_a_messages_sdk_reads_thoughts_and_parallel_calls_of_a_chat() -> None:
    async with front() as f:
        f.gpt.script(CHAT, f.gpt.sse(BUSY_GPT))
        async with f.anthropic.messages.stream(
            model="gpt", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            message = await stream.get_final_message()
    thinking, text, *calls = message.content
    assert (thinking.type, text.type) == ("thinking", "text")
    assert thinking.type == "thinking" and thinking.thinking == "Hm, two."
    assert text.type == "text" and text.text == "I ask."
    assert [(call.type, call.name, call.input) for call in calls if call.type == "tool_use"] == [
        ("tool_use", "weather", {"city": "Rome"}),
        ("tool_use", "weather", {"city": "Oslo"}),
    ]
    assert message.stop_reason == "tool_use"
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (40, 60, 40)


async def test_a_chat_sdk_reads_thoughts_and_parallel_calls_of_a_message() -> None:
    async with front() as f:
        f.claude.script(MESSAGES, f.claude.sse(BUSY_CLAUDE))
        async with f.openai.chat.completions.stream(
            model="claude",
            messages=[{"role": "user", "content": "hi"}],
            stream_options={"include_usage": True},
        ) as stream:
            done = await stream.get_final_completion()
    choice = done.choices[0]
    message = choice.message.model_dump()
    assert message["content"] == "I ask."
    assert message["reasoning_content"] == "Hm, two."
    assert [{"type": b["type"], "signature": b["signature"]} for b in message["thinking_blocks"]] == [
        {"type": "thinking", "signature": "c2ln"}
    ]
    assert [(call.id, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()] == [
        ("toolu_Rome", {"city": "Rome"}),
        ("toolu_Oslo", {"city": "Oslo"}),
    ]
    assert choice.finish_reason == "tool_calls"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (7, 40)


async def test_a_responses_sdk_reads_thoughts_and_parallel_calls_of_a_message() -> None:
    async with front() as f:
        f.claude.script(MESSAGES, f.claude.sse(BUSY_CLAUDE))
        async with f.openai.responses.stream(model="claude", input="hi") as stream:
            done = await stream.get_final_response()
    assert [item.type for item in done.output] == ["reasoning", "message", "function_call", "function_call"]
    assert done.output_text == "I ask."
    assert [json.loads(item.arguments) for item in done.output if item.type == "function_call"] == [
        {"city": "Rome"},
        {"city": "Oslo"},
    ]
    assert done.status == "completed"
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (7, 40)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("path", "target"), FOREIGN)
async def test_an_answer_that_met_its_limit_says_so(path: str, target: str, stream: bool) -> None:
    async with front() as f:
        if target == "gpt":
            whole = canned.chat_whole()
            whole["choices"][0]["finish_reason"] = "length"
            streamed = canned.chat_stream(finish="length", usage=True)
        else:
            whole = {**canned.messages_whole(), "stop_reason": "max_tokens"}
            streamed = [*canned.messages_stream()[:-2], *message_end("max_tokens", output_tokens=4)]
        lab = f.lab(target)
        lab.script(PATHS[target], lab.sse(streamed) if stream else lab.json(whole))
        async with f.post(path, hello(path, target, stream=stream)) as reply:
            assert reply.status == 200
            found = (await events_of(reply)) if stream else [await reply.json()]
    match path:
        case "/v1/chat/completions":
            said = [choice["finish_reason"] for event in found for choice in event.get("choices", ())]
            assert said[-1] == "length"
        case "/v1/messages":
            said = [event.get("stop_reason") or event.get("delta", {}).get("stop_reason") for event in found]
            assert "max_tokens" in said
        case _:
            last = found[-1]["response"] if stream else found[-1]
            assert (last["status"], last["incomplete_details"]) == (
                "incomplete",
                {"reason": "max_output_tokens"},
            )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_type_of_an_answer_is_the_clients_whatever_the_target_called_it(stream: bool) -> None:
    async with front() as f:
        whole = f.claude.json(canned.messages_whole(), content_type="text/plain")
        streamed = f.claude.sse(canned.messages_stream(), content_type="application/octet-stream")
        f.claude.script(MESSAGES, streamed if stream else whole)
        async with f.post(CHAT, hello(CHAT, "claude", stream=stream)) as reply:
            assert reply.content_type == ("text/event-stream" if stream else "application/json")


async def test_what_was_changed_is_told_in_a_comment_when_the_head_was_out_before() -> None:
    gate = asyncio.Event()
    async with front(heartbeat_s=0.01) as f:
        f.claude.script(MESSAGES, f.claude.sse([gate, *canned.messages_stream()]))
        async with f.post(CHAT, hello(CHAT, "claude", stream=True)) as reply:
            assert "x-gateway-changed" not in reply.headers
            assert await reply.content.readline() == b": waiting\n"
            gate.set()
            rest = await reply.read()
    assert b": served-by claude/opus\n\n: changed max_tokens\n\n" in rest
    assert rest.endswith(b"data: [DONE]\n\n")


# --- what can't be translated ------------------------------------------------------------------------

NO_WORDS = [
    (CHAT, "claude", {"n": 2}, "n"),
    (CHAT, "claude", {"logprobs": True}, "logprobs"),
    (MESSAGES, "gpt", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    (RESPONSES, "claude", {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
]


@pytest.mark.parametrize(("path", "target", "fields", "param"), NO_WORDS)
async def test_what_has_no_words_is_refused_by_name(
    path: str, target: str, fields: dict[str, Any], param: str
) -> None:
    async with front() as f:
        async with f.post(path, hello(path, target, **fields)) as reply:
            assert reply.status == 400
            error = error_in(path, await reply.json())
            assert reply.headers["x-should-retry"] == "false"
        assert param.partition(".")[0] in error["message"]
        if path != MESSAGES:
            assert error["param"] == param
        assert f.lab(target).hits == 0


@pytest.mark.parametrize(("path", "target", "fields", "param"), NO_WORDS)
async def test_what_has_no_words_goes_to_the_target_that_understands_it(
    path: str, target: str, fields: dict[str, Any], param: str
) -> None:
    other = "claude" if target == "gpt" else "gpt"
    async with front() as f, f.post(path, hello(path, f"{target}-first", **fields)) as reply:
        assert reply.status == 200
        assert reply.headers["x-gateway-served-by"].startswith(f"{other}/")
        assert f.lab(target).hits == 0
        assert f.asked(other).path == path


async def test_paths_that_the_other_dialect_does_not_have_are_refused() -> None:
    async with front() as f, f.post("/v1/embeddings", {"model": "claude", "input": "hi"}) as reply:
        error = error_in(CHAT, await reply.json())
        assert reply.status == 400
        assert "nothing like POST /v1/embeddings" in error["message"]
        assert f.claude.hits == 0


# --- an upstream without the Responses API -----------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_upstream_without_the_responses_api_is_asked_as_a_chat(stream: bool) -> None:
    async with front() as f:
        f.gpt.always(RESPONSES, f.gpt.error(404, "Not Found"))
        for _ in range(2):
            async with f.post(RESPONSES, hello(RESPONSES, "gpt", stream=stream)) as reply:
                assert reply.status == 200
                if stream:
                    events = await events_of(reply)
                    assert ends_well(RESPONSES, events)
                    assert text_of(RESPONSES, events) == canned.TEXT
                else:
                    assert text_in(RESPONSES, await reply.json()) == canned.TEXT
        # Once is enough: it is remembered.
        assert [seen.path for seen in f.gpt.seen] == [RESPONSES, CHAT, CHAT]
