"""The local path, with the demo model on real MLX, as apps use it."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_demo_answers_whole_and_streamed(daemon: Daemon) -> None:
    async with daemon.openai() as client:
        whole = await client.chat.completions.with_raw_response.create(
            model="demo", messages=ask("Count to 5"), temperature=0
        )
        answer = whole.parse()
        assert answer.choices[0].message.content == "1 2 3 4 5"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens > 5
        assert whole.headers["x-gateway-served-by"] == "local/demo"
        stream = await client.chat.completions.create(
            model="demo",
            messages=ask("Count to 5"),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "1 2 3 4 5"
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


async def test_local_stream_is_server_sent_events(daemon: Daemon) -> None:
    body = json.dumps({"model": "demo", "messages": ask("Who are you?"), "stream": True, "temperature": 0})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        data = await reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-cache"
    # While the model loads there may be heartbeats, which are comments.
    events = [event for event in data.decode().split("\n\n") if not event.startswith(":")]
    assert events[-1] == ""
    assert events[-2] == "data: [DONE]"
    assert all(event.startswith("data: ") for event in events[:-1])
    text = "".join(json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-2])
    assert "demo" in text


async def test_limits_stops_and_zero_are_honoured(daemon: Daemon) -> None:
    """Stop strings were accepted and ignored (D39); a temperature of 0 became 1 (D36)."""
    async with daemon.openai() as client:
        cut = await client.chat.completions.create(
            model="demo", messages=ask("Count to 9"), temperature=0, stop=[" 5"]
        )
        assert cut.choices[0].message.content == "1 2 3 4"
        assert cut.choices[0].finish_reason == "stop"
        short = await client.chat.completions.create(
            model="demo", messages=ask("Count to 9"), temperature=0, max_completion_tokens=3
        )
        assert short.choices[0].finish_reason == "length"
        assert short.usage.completion_tokens == 3
        texts = {
            (await client.chat.completions.create(model="demo", messages=ask("Who are you?"), temperature=0))
            .choices[0]
            .message.content
            for _ in range(3)
        }
        assert len(texts) == 1


async def test_demo_calls_a_tool(daemon: Daemon) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    async with daemon.openai() as client:
        for stream in (False, True):
            made = await client.chat.completions.create(
                model="demo",
                messages=ask("What is the weather in Paris?"),
                tools=[tool],
                temperature=0,
                stream=stream,
            )
            if stream:
                chunks = [c async for c in made]
                parts = [call for c in chunks for call in (c.choices[0].delta.tool_calls or [])]
                names = [part.function.name for part in parts if part.function.name]
                arguments = "".join(part.function.arguments or "" for part in parts)
                assert len(parts) > 2, "the arguments came in one piece"
                finish = chunks[-1].choices[0].finish_reason
            else:
                (call,) = made.choices[0].message.tool_calls
                names, arguments = [call.function.name], call.function.arguments
                finish = made.choices[0].finish_reason
            assert names == ["get_weather"]
            assert json.loads(arguments) == {"city": "Paris"}
            assert finish == "tool_calls"


async def test_many_at_once_are_all_answered(daemon: Daemon) -> None:
    async with daemon.openai() as client:

        async def one(number: int) -> str:
            stream = await client.chat.completions.create(
                model="demo", messages=ask(f"Count to {number}"), temperature=0, stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream])

        answers = await asyncio.gather(*(one(number) for number in range(1, 13)))
    assert answers == [" ".join(map(str, range(1, n + 1))) for n in range(1, 13)]


async def test_local_first_then_the_cloud_with_a_name_of_its_own(daemon: Daemon, lab: Lab) -> None:
    """One model field served both sides (D12, D13)."""
    upstream = await daemon.upstream(lab)
    model = await daemon.rule("local:demo", f"{upstream}:gpt-cloud")
    async with daemon.openai() as client:
        local = await client.chat.completions.with_raw_response.create(
            model=model, messages=ask("Count to 3"), temperature=0
        )
        assert local.headers["x-gateway-served-by"] == "local/demo"
        assert lab.hits == 0
        # A field that the local engine cannot honour: refused there, answered by the cloud.
        cloud = await client.chat.completions.with_raw_response.create(
            model=model, messages=ask("Count to 3"), verbosity="low"
        )
    assert cloud.headers["x-gateway-served-by"] == f"{upstream}/gpt-cloud"
    assert cloud.headers["x-gateway-attempts"].startswith("local/demo=unsupported;dur=")
    assert lab.seen[0].json["model"] == "gpt-cloud"
    assert lab.seen[0].json["verbosity"] == "low"


async def test_missing_local_model_moves_on(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab)
    model = await daemon.rule("local:not-on-this-disk", upstream)
    async with daemon.openai() as client:
        answer = await client.chat.completions.create(model=model, messages=ask("hi"))
    assert answer.choices[0].message.content == canned.TEXT


async def test_broken_weights_fail_over_in_a_stream(daemon: Daemon, lab: Lab) -> None:
    """The client got a 200, a role, and a dead connection (D6)."""
    folder = daemon.home / "models" / "broken"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not weights at all")
    upstream = await daemon.upstream(lab)
    model = await daemon.rule("local:broken", upstream)
    async with daemon.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=model, messages=ask("hi"), stream=True
        )
        text = "".join([c.choices[0].delta.content or "" async for c in raw.parse() if c.choices])
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="broken", messages=ask("hi"))
    assert text == canned.TEXT
    assert raw.headers["x-gateway-attempts"].startswith("local/broken=local_fault;dur=")
    assert caught.value.status_code == 503
    assert str(daemon.home) not in caught.value.message, "raw load-failure text leaked to clients (D45)"


async def test_stay_local_never_leaves_the_machine(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab)
    model = await daemon.rule("local:demo", upstream, policy="local-only")
    gone = await daemon.rule("local:not-on-this-disk", upstream, policy="local-only")
    body = {"messages": ask("Count to 2"), "temperature": 0}
    async with daemon.http() as http:
        async with http.post(CHAT, data=json.dumps({"model": model} | body), headers=JSON) as reply:
            assert reply.status == 200
            assert reply.headers["x-gateway-locality"] == "local-only"
        for path in (CHAT, "/v1/embeddings", "/v1/responses", "/v1/new/thing", "/v1/completions"):
            for base in ("", f"/upstreams/{upstream}"):
                async with http.post(
                    base + path, data=json.dumps({"model": gone} | body), headers=JSON
                ) as reply:
                    assert reply.status == 503, path
                    assert (await reply.json())["error"]["code"] == "local_only"
                    assert reply.headers["x-gateway-locality"] == "local-only"
    assert lab.accepted == 0


async def test_unknown_model_is_a_404_that_says_what_to_do(daemon: Daemon) -> None:
    async with daemon.openai(max_retries=2) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="no-such-model", messages=ask("hi"))
    assert caught.value.code == "model_not_found"
    assert "models list" in caught.value.message


async def test_field_that_is_not_supported_is_named(daemon: Daemon) -> None:
    async with daemon.openai() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="demo", messages=ask("hi"), verbosity="high")
    assert caught.value.param == "verbosity"


async def test_client_that_leaves_frees_its_place(daemon: Daemon) -> None:
    body = json.dumps(
        {"model": "demo", "messages": ask("Count to 20"), "stream": True, "min_p": 0, "max_tokens": 2000}
    )
    async with daemon.http() as http:
        reply = await http.post(CHAT, data=body, headers=JSON)
        await reply.content.readany()
        reply.close()
    async with asyncio.timeout(5):
        while (await daemon.admin("status"))["local"]["models"]["demo"]["running"]:
            await asyncio.sleep(0.02)
