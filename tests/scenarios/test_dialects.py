"""Clients of both providers at a real gateway: local models, keys in the right header, answers gone on with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from tests import canned
from tests.lab import Lab
from tests.local.models import CHAT_TEMPLATE, TOOL_TEMPLATE, make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import BEGIN, WEATHER_ARGUMENTS, WEATHER_CALL, make_parrot

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
KEY = "sk-lab-0123456789abcdef"
MARKERS = ("<tool_call>", "</tool_call>")
SWITCH_TEMPLATE = CHAT_TEMPLATE + "{% if enable_thinking %}<think>{% else %}N{% endif %}"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}},
    "required": ["city"],
    "additionalProperties": False,
}
HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_parrot(models / "talker", {BEGIN: ["Hello ", "from ", "here."], "m": [" the ", "local model."]})
        thoughts: Any = {"<think>": ["hm", "m, ", "</think>", "4", "2"], "N": ["at once"]}
        make_parrot(models / "thinker", thoughts, template=SWITCH_TEMPLATE, markers=("<think>", "</think>"))
        two = ["I ask. ", *WEATHER_CALL]
        make_parrot(models / "caller", {BEGIN: two}, template=TOOL_TEMPLATE, markers=MARKERS)
        make_model(models / "tiny", context=8192, template=TOOL_TEMPLATE, extra_tokens=MARKERS)

    return make


@pytest_asyncio.fixture(loop_scope="module")
async def claude(daemon: Daemon) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """A client that speaks to Anthropic."""
    async with daemon.anthropic() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def gpt(daemon: Daemon) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client that speaks to OpenAI."""
    async with daemon.openai() as client:
        yield client


def prompt_of(usage: anthropic.types.Usage) -> int:
    """All tokens of a prompt."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


# --- local models ------------------------------------------------------------------------------------


async def test_a_messages_client_talks_to_a_local_model(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(model="talker", max_tokens=20, messages=HI)
    assert [block.text for block in message.content if block.type == "text"] == ["Hello from here."]
    assert (message.role, message.stop_reason) == ("assistant", "end_turn")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens == 4  # three words and the end
    async with claude.messages.stream(model="talker", max_tokens=20, messages=HI) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(texts) == "Hello from here."
    assert len(texts) > 1
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 4


async def test_a_responses_client_talks_to_a_local_model(gpt: openai.AsyncOpenAI) -> None:
    done = await gpt.responses.create(model="talker", input="hi")
    assert (done.output_text, done.status) == ("Hello from here.", "completed")
    async with gpt.responses.stream(model="talker", input="hi") as stream:
        final = await stream.get_final_response()
    assert final.output_text == "Hello from here."
    assert final.usage is not None
    assert final.usage.output_tokens == 4
    then = await gpt.responses.create(model="talker", input="and?", previous_response_id=final.id)
    assert then.usage is not None
    assert then.usage.input_tokens > final.usage.input_tokens  # what was said before is in the prompt


async def test_the_limit_and_stop_sequences_are_told_as_each_client_knows_them(
    claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI
) -> None:
    message = await claude.messages.create(model="talker", max_tokens=2, messages=HI)
    assert (message.stop_reason, message.content[0].type) == ("max_tokens", "text")
    stopped = await claude.messages.create(
        model="talker", max_tokens=20, stop_sequences=["from"], messages=HI
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "from")
    done = await gpt.responses.create(model="talker", input="hi", max_output_tokens=2)
    assert done.status == "incomplete"
    assert done.incomplete_details is not None
    assert done.incomplete_details.reason == "max_output_tokens"


async def test_thoughts_of_a_local_model_are_thinking_where_thinking_was_asked_for(
    claude: anthropic.AsyncAnthropic,
) -> None:
    plain = await claude.messages.create(model="thinker", max_tokens=30, messages=HI)
    assert [block.type for block in plain.content] == ["text"]
    async with claude.messages.stream(
        model="thinker", max_tokens=3000, messages=HI, thinking={"type": "enabled", "budget_tokens": 1024}
    ) as stream:
        message = await stream.get_final_message()
    thinking, text = message.content
    assert thinking.type == "thinking" and thinking.thinking == "hmm,"
    assert text.type == "text" and text.text == "42"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_tools_of_a_messages_client_are_called_by_a_local_model(
    claude: anthropic.AsyncAnthropic, stream: bool
) -> None:
    asked: dict[str, Any] = {
        "model": "caller",
        "max_tokens": 200,
        "messages": HI,
        "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
    }
    if stream:
        async with claude.messages.stream(**asked) as events:
            message = await events.get_final_message()
    else:
        message = await claude.messages.create(**asked)
    text, call = message.content
    assert text.type == "text" and text.text.strip() == "I ask."
    assert call.type == "tool_use" and (call.name, call.input) == ("get_weather", WEATHER_ARGUMENTS)
    assert message.stop_reason == "tool_use"
    answered = [
        *HI,
        {
            "role": "assistant",
            "content": [block.model_dump(mode="json", exclude_none=True) for block in message.content],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sun", "is_error": False}],
        },
    ]
    again = await claude.messages.create(**(asked | {"messages": answered}))
    assert again.stop_reason == "tool_use"  # it is a parrot
    assert prompt_of(again.usage) > prompt_of(message.usage)


async def test_tools_of_a_responses_client_are_called_by_a_local_model(gpt: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}
    async with gpt.responses.stream(model="caller", input="hi", tools=[tool]) as stream:
        done = await stream.get_final_response()
    said, call = done.output
    assert (said.type, call.type) == ("message", "function_call")
    assert call.type == "function_call" and json.loads(call.arguments) == WEATHER_ARGUMENTS
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
    then = await gpt.responses.create(
        model="caller", input=result, previous_response_id=done.id, tools=[tool]
    )
    assert then.status == "completed"


async def test_a_schema_is_kept_to_by_a_local_model_whoever_asks(
    claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI
) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    message = await claude.messages.create(
        model="tiny",
        max_tokens=200,
        messages=HI,
        extra_body={"output_config": {"format": form}, "temperature": 0},
    )
    (block,) = message.content
    assert block.type == "text"
    assert message.stop_reason == "end_turn"
    assert json.loads(block.text).keys() == {"city"}
    done = await gpt.responses.create(
        model="tiny",
        input="hi",
        temperature=0,
        text={"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}},
    )
    assert json.loads(done.output_text).keys() == {"city"}


async def test_what_a_local_model_can_not_do_is_said_in_the_clients_dialect(
    claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI
) -> None:
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        await claude.messages.create(
            model="talker",
            max_tokens=9,
            messages=HI,
            tools=[{"type": "web_search_20250305", "name": "web_search"}],
        )
    with pytest.raises(openai.BadRequestError) as caught:
        await gpt.responses.create(model="talker", input="hi", tools=[{"type": "web_search"}])
    assert caught.value.param == "tools[0].type"
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.create(model="no-such-model", max_tokens=9, messages=HI)
    too_long: Any = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(anthropic.BadRequestError, match="context"):
        await claude.messages.create(model="talker", max_tokens=9, messages=too_long)


def agent(turn: int) -> dict[str, Any]:
    """A request as Claude Code makes it; the first line of its system prompt is another one every time."""
    tool = {
        "description": "does it",
        "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}},
    }
    said = [{"type": "text", "text": "What is in here?", "cache_control": {"type": "ephemeral"}}]
    later = [
        {"role": "assistant", "content": [{"type": "text", "text": "Files."}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Which?", "cache_control": {"type": "ephemeral"}}],
        },
    ]
    return {
        "model": "tiny",
        "max_tokens": 8,
        "temperature": 1,
        "system": [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.9; cch={turn:05x};"},
            {
                "type": "text",
                "text": "You are an agent. " + "Be brief, be kind, be exact. " * 20,
                "cache_control": {"type": "ephemeral", "ttl": "1h"},
            },
        ],
        "tools": [{"name": f"tool_{n}", **tool} for n in range(18)],
        "messages": [{"role": "user", "content": said}, *(later if turn else [])],
        "metadata": {"user_id": "user_0123_account__session_4567"},
        "thinking": {"type": "enabled", "budget_tokens": 4000},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }


async def test_an_agent_that_speaks_to_anthropic_is_served_by_a_local_model(daemon: Daemon) -> None:
    headers = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "x-app": "cli",
        "authorization": "Bearer sk-ant-of-the-app",
        "user-agent": "claude-cli/2.1.9 (external, cli)",
    }
    path = "/v1/messages?beta=true"
    async with daemon.http(headers=headers) as http:
        async with http.post(path, json=agent(0)) as reply:
            assert reply.status == 200
            message = await reply.json()
            changed = set(reply.headers["x-gateway-changed"].split(", "))
        assert {"cache_control", "system", "thinking.budget_tokens", "context_management"} <= changed
        assert message["stop_reason"] in ("max_tokens", "end_turn")
        assert message["usage"]["cache_read_input_tokens"] == 0
        async with http.post(path, json=agent(1) | {"stream": True}) as reply:
            assert (reply.status, reply.content_type) == (200, "text/event-stream")
            lines = [line for line in (await reply.text()).splitlines() if line.startswith("data: ")]
    events = [json.loads(line[6:]) for line in lines]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    (delta,) = [event for event in events if event["type"] == "message_delta"]
    # Tools and system prompt are not computed again, although its first line is another one.
    assert delta["usage"]["cache_read_input_tokens"] > 1000


# --- clouds ------------------------------------------------------------------------------------------


async def test_each_upstream_gets_its_own_key_in_its_own_header(
    daemon: Daemon, claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI, lab: Lab, second: Lab
) -> None:
    to_gpt = await daemon.rule(f"{await daemon.upstream(lab)}:m")
    to_claude = await daemon.rule(f"{await daemon.upstream(second, dialect='anthropic')}:m")
    await claude.messages.create(model=to_gpt, max_tokens=9, messages=HI)
    await gpt.chat.completions.create(model=to_claude, messages=HI)
    await gpt.responses.create(model=to_claude, input="hi")
    (chat,) = lab.seen
    assert (chat.path, chat.header("authorization")) == (CHAT, f"Bearer {KEY}")
    for message in second.seen:
        assert (message.path, message.header("x-api-key")) == (MESSAGES, KEY)
        assert message.header("anthropic-version") == "2023-06-01"
        assert message.header("authorization") is None
    for seen in (chat, *second.seen):
        names = {name for name, _ in seen.headers}
        assert not [name for name in names if name.startswith("x-stainless-")]
        assert not [value for _, value in seen.headers if "of-the-app" in value]
    assert chat.header("x-api-key") is None
    assert chat.header("anthropic-version") is None


async def test_a_local_model_that_can_not_is_followed_by_a_cloud_that_can(
    daemon: Daemon, claude: anthropic.AsyncAnthropic, lab: Lab
) -> None:
    cloud = await daemon.upstream(lab, dialect="anthropic")
    model = await daemon.rule("local:talker", f"{cloud}:opus")
    tools: Any = [{"type": "web_search_20250305", "name": "web_search"}]
    raw = await claude.messages.with_raw_response.create(model=model, max_tokens=9, messages=HI, tools=tools)
    assert raw.headers["x-gateway-served-by"] == f"{cloud}/opus"
    assert lab.seen[0].json["tools"] == tools
    picture: Any = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}
    seen = await claude.messages.with_raw_response.create(
        model=model, max_tokens=9, messages=[{"role": "user", "content": [picture]}]
    )
    assert seen.headers["x-gateway-served-by"] == f"{cloud}/opus"
    plain = await claude.messages.with_raw_response.create(model=model, max_tokens=9, messages=HI)
    assert plain.headers["x-gateway-served-by"] == "local/talker"


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("client", ["openai", "anthropic"])
async def test_a_local_model_goes_on_with_what_a_cloud_began_in_any_dialect(
    daemon: Daemon,
    claude: anthropic.AsyncAnthropic,
    gpt: openai.AsyncOpenAI,
    lab: Lab,
    dialect: str,
    client: str,
) -> None:
    events = (
        [canned.chat_role(), canned.chat_chunk({"content": "Hello from"})]
        if dialect == "openai"
        else [*canned.messages_stream()[:3], canned.text_delta("Hello from")]
    )
    lab.always(CHAT if dialect == "openai" else MESSAGES, lab.sse(events, cut="rst"))
    cloud = await daemon.upstream(lab, dialect=dialect)
    policy = await daemon.policy(mid_stream="continue", attempts=3)
    model = await daemon.rule(f"{cloud}:m", "local:talker", policy=policy)
    if client == "anthropic":
        async with claude.messages.stream(model=model, max_tokens=20, messages=HI) as stream:
            message = await stream.get_final_message()
        assert [block.type for block in message.content] == ["text"]
        (block,) = message.content
        text, reason = block.text if block.type == "text" else "", message.stop_reason
    else:
        async with gpt.chat.completions.stream(model=model, messages=HI) as chat:
            done = await chat.get_final_completion()
        text, reason = done.choices[0].message.content or "", done.choices[0].finish_reason
    assert text == "Hello from the local model."
    assert reason in ("end_turn", "stop")
    assert lab.hits == 1
