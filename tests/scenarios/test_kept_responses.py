"""Conversations that go on from a response that was made here, and the tokens of a prompt that nobody
has answered yet: with both SDKs, on local models and beside an upstream.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests import behaviours
from tests.lab import Lab
from tests.local.models import make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.talk import post

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = "/v1/messages/count_tokens"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
ASKED: Any = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "tiny", context=256)

    return make


async def test_three_turns_with_a_call_between_and_what_is_left_of_them(daemon: Daemon) -> None:
    async with daemon.openai() as client:
        api = client.responses
        first = await api.create(model="demo", input=ASKED[0]["content"], tools=[WEATHER], temperature=0)
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert json.loads(call.arguments) == {"city": "Paris"}
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "sunny"}'}
        second = await api.create(
            model="demo", previous_response_id=first.id, input=[result], tools=[WEATHER], temperature=0
        )
        assert second.output_text
        third = await api.create(
            model="demo",
            previous_response_id=second.id,
            input="What is the capital of France?",
            temperature=0,
        )
        assert "Paris" in third.output_text
        assert third.previous_response_id == second.id

        assert (await api.retrieve(third.id)).model_dump() == third.model_dump()
        pages = await api.input_items.list(third.id, order="asc", limit=2)
        items = [item async for item in pages]
        kinds = ["message", "function_call", "function_call_output", "message", "message"]
        assert [item.type for item in items] == kinds
        assert [item.id for item in items if item.type == "function_call"] == [call.id]
        newest = (await api.input_items.list(third.id)).data
        assert [item.id for item in newest] == [item.id for item in reversed(items)]

        with pytest.raises(openai.BadRequestError, match="synchronous"):
            await api.cancel(third.id)
        await api.delete(third.id)
        with pytest.raises(openai.NotFoundError, match="not found"):
            await api.retrieve(third.id)
        await api.delete(first.id)
        for gone in (third.id, second.id):  # of the second it is the turn before that is gone
            with pytest.raises(openai.BadRequestError) as refused:
                await api.create(model="demo", previous_response_id=gone, input="And now?")
            assert refused.value.code == "previous_response_not_found"
            assert refused.value.param == "previous_response_id"


async def test_a_streamed_response_is_kept_and_one_that_must_not_be_is_not(daemon: Daemon) -> None:
    async with daemon.openai() as client:
        api = client.responses
        events = [
            event async for event in await api.create(model="demo", input="Hello", stream=True, temperature=0)
        ]
        last = events[-1]
        assert last.type == "response.completed"
        assert (await api.retrieve(last.response.id)).output_text == last.response.output_text
        private = await api.create(model="demo", input="Hello", store=False, temperature=0)
        with pytest.raises(openai.NotFoundError):
            await api.retrieve(private.id)
        with pytest.raises(openai.BadRequestError, match="not found"):
            await api.create(model="demo", input="Again", previous_response_id=private.id)


async def test_an_upstream_is_told_the_turns_that_it_has_never_seen(daemon: Daemon, lab: Lab) -> None:
    """Its own ids are left to it: then every byte of the body is the client's."""
    async with daemon.openai() as client:
        here = await client.responses.create(model="demo", input="Hello", temperature=0)
    name = await daemon.rule(await daemon.upstream(lab) + ":{model}")
    lab.always("/v1/responses", behaviours.responses())
    body = f'{{ "model": "{name}",  "previous_response_id": "%s", "input": "And \\u0041?", "x": 1.0 }}'
    async with daemon.http() as http:
        answers = []
        for before in (here.id, "resp_far"):
            sent = (body % before).encode()
            async with http.post(
                "/v1/responses", data=sent, headers={"content-type": "application/json"}
            ) as reply:
                assert reply.status == 200, await reply.text()
                answers.append(reply.headers.get("x-gateway-changed"))
    assert answers == ["previous_response_id", None]
    told, untouched = (seen.body for seen in lab.seen)
    assert untouched == (body % "resp_far").encode()
    assert told.startswith(f'{{ "model": "{name}",  "input": ['.encode())
    assert told.endswith(b',{"role":"user","content":"And \\u0041?"}], "x": 1.0 }')
    history = json.loads(told)["input"]
    assert [item["role"] for item in history] == ["user", "assistant", "user"]
    assert history[0]["content"] == [{"type": "input_text", "text": "Hello"}]
    assert history[1]["content"][0]["text"] == here.output_text
    assert not any("id" in item for item in history)


async def test_a_turn_that_is_gone_is_not_sent_without_it(daemon: Daemon, lab: Lab) -> None:
    async with daemon.openai() as client:
        api = client.responses
        first = await api.create(model="demo", input="Hello", temperature=0)
        second = await api.create(model="demo", input="Thanks", previous_response_id=first.id, temperature=0)
        await api.delete(first.id)
        name = await daemon.rule(await daemon.upstream(lab))
        with pytest.raises(openai.BadRequestError) as refused:
            await api.create(model=name, input="And?", previous_response_id=second.id)
        assert refused.value.code == "previous_response_not_found"
        assert lab.hits == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "system": [
                {"type": "text", "text": "Be brief. \u00e9\u4e2d", "cache_control": {"type": "ephemeral"}}
            ]
        },
        {
            "tools": [{"name": "get_weather", "input_schema": WEATHER["parameters"]}],
            "tool_choice": {"type": "auto"},
        },
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}},
    ],
    ids=["plain", "system", "tools", "thinking", "no tools"],
)
async def test_the_count_is_what_the_answer_says(daemon: Daemon, fields: dict[str, Any]) -> None:
    async with daemon.anthropic() as client:
        api = client.messages
        told = await api.count_tokens(model="demo", messages=ASKED, **fields)
        answer = await api.create(model="demo", messages=ASKED, max_tokens=2048, **fields)
        used = answer.usage
        assert told.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0) > 0


async def test_to_count_loads_nothing_and_waits_for_nothing(daemon: Daemon) -> None:
    async with daemon.anthropic() as client:
        api = client.messages
        policy = await daemon.policy(max_wait_s=0.1, stay_local=True)
        name = await daemon.rule("local:tiny", policy=policy)
        told = [
            (
                await api.count_tokens(model=name, messages=[{"role": "user", "content": "x" * size}])
            ).input_tokens
            for size in (1, 1000)
        ]
        assert told[1] == told[0] + 999 > 256, "what does not fit is counted too"
        states = {model["name"]: model["state"] for model in await daemon.admin("models.list")}
        assert states["tiny"] == "cold"
        answer = await api.create(model="tiny", messages=[{"role": "user", "content": "x"}], max_tokens=1)
        assert answer.usage.input_tokens == told[0]


async def test_what_can_not_be_counted_here_goes_on_or_stays(daemon: Daemon, lab: Lab, second: Lab) -> None:
    lab.always(COUNT, behaviours.json({"input_tokens": 42}))
    cloud = await daemon.upstream(lab, dialect="anthropic")
    name = await daemon.rule("local:nowhere", f"{cloud}:claude")
    body = {"model": name, "messages": ASKED, "tools": []}
    assert await post(daemon, COUNT, body) == (200, {"input_tokens": 42})
    assert json.loads(lab.seen[0].body) == body | {"model": "claude"}
    async with daemon.anthropic() as client:
        api = client.messages
        private = await daemon.rule("local:nowhere", cloud, policy="local-only")
        with pytest.raises(anthropic.APIStatusError) as refused:
            await api.count_tokens(model=private, messages=ASKED)
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["type"] == "error"
        assert lab.hits == 1
        other = await daemon.rule(await daemon.upstream(second))
        with pytest.raises(
            anthropic.BadRequestError, match="nothing like POST /v1/messages/count_tokens"
        ) as refused:
            await api.count_tokens(model=other, messages=ASKED)
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["type"] == "error"
        assert second.hits == 0
        with pytest.raises(anthropic.BadRequestError, match="messages"):
            await api.count_tokens(model="demo", messages=[])
