"""Two upstreams of different dialects behind one gateway, and clients that are real SDKs of either."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import anthropic
import openai

from gateway.failover.policy import Policy
from gateway.relay.exchange import Limits
from gateway.wire.dialect import Dialect
from tests import house
from tests.house import House
from tests.lab import Lab
from tests.peer import Seen

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
CLIENTS = (CHAT, MESSAGES, RESPONSES)
PATHS = {"gpt": CHAT, "claude": MESSAGES}  # where a foreign request reaches each upstream

# The models that the rules know, each with the upstreams that it goes to.
WAYS = {
    "gpt": ("gpt:gpt-5",),
    "claude": ("claude:opus",),
    "qwen": ("gpt:qwen3",),
    "gpt-first": ("gpt:gpt-5", "claude:opus"),
    "claude-first": ("claude:opus", "gpt:gpt-5"),
}


@dataclass
class Front:
    """The gateway and what stands behind it."""

    house: House
    gpt: Lab
    claude: Lab
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    def lab(self, name: str) -> Lab:
        return self.gpt if name.startswith("gpt") else self.claude

    def asked(self, name: str) -> Seen:
        """The only request that an upstream has got."""
        (seen,) = self.lab(name).seen
        return seen

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        return self.house.http.post(path, json=body, headers=headers)


@asynccontextmanager
async def front(*, heartbeat_s: float = 15.0, **policy: Any) -> AsyncIterator[Front]:
    """`policy` are the knobs of the policy that all rules have; nothing is waited for between attempts."""
    limits = Limits(heartbeat_s=heartbeat_s, write_s=60.0, reply_limit=1 << 20)
    knobs = Policy(name="p", retry_base_s=0.0, **policy)
    rules = [
        house.rule(pattern, *to, number=number, policy="p")
        for number, (pattern, to) in enumerate(WAYS.items())
    ]
    async with Lab() as gpt, Lab() as claude, house.running(limits=limits) as running:
        running.snapshot = house.snapshot(
            rules=rules,
            policies=[knobs],
            upstreams=[
                house.upstream("gpt", gpt),
                house.upstream("claude", claude, dialect=Dialect.ANTHROPIC),
            ],
        )
        options: dict[str, Any] = {"api_key": "sk-of-the-app", "max_retries": 0, "timeout": 20.0}
        async with (
            openai.AsyncOpenAI(base_url=f"{running.base}/v1", **options) as chats,
            anthropic.AsyncAnthropic(base_url=running.base, **options) as messages,
        ):
            yield Front(running, gpt, claude, chats, messages)


def hello(path: str, model: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The smallest request of an API."""
    said = [{"role": "user", "content": "hi"}]
    body: dict[str, Any] = {"model": model, "stream": stream}
    if path == RESPONSES:
        return {**body, "input": "hi", **more}
    if path == MESSAGES:
        return {**body, "max_tokens": 50, "messages": said, **more}
    return {**body, "messages": said, **more}


async def events_of(reply: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    """What a stream said, as JSON; the `[DONE]` of a chat is {}."""
    text = (await reply.read()).decode()
    found = [
        line.removeprefix("data: ")
        for block in text.split("\n\n")
        for line in block.split("\n")
        if line.startswith("data: ")
    ]
    return [{} if data == "[DONE]" else json.loads(data) for data in found]


def text_in(path: str, value: dict[str, Any]) -> str:
    """The text of a whole reply."""
    if path == CHAT:
        return str(value["choices"][0]["message"]["content"])
    if path == MESSAGES:
        return "".join(block["text"] for block in value["content"] if block["type"] == "text")
    return "".join(
        part["text"] for item in value["output"] if item["type"] == "message" for part in item["content"]
    )


def text_of(path: str, events: list[dict[str, Any]]) -> str:
    """The text that a stream said."""
    if path == CHAT:
        choices = [choice for event in events for choice in event.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    if path == MESSAGES:
        return "".join(event.get("delta", {}).get("text", "") for event in events)
    return "".join(event["delta"] for event in events if event.get("type") == "response.output_text.delta")


def ends_well(path: str, events: list[dict[str, Any]]) -> bool:
    """Is the last event the one that ends a stream of this API?"""
    last = events[-1]
    if path == CHAT:
        return last == {}
    return last.get("type") == ("message_stop" if path == MESSAGES else "response.completed")


def error_in(path: str, value: dict[str, Any]) -> dict[str, Any]:
    """The error of a body; asserts that it has the shape of the client's dialect."""
    error = value["error"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    if path == MESSAGES:
        assert value["type"] == "error"
    else:
        assert error.keys() >= {"message", "type", "param", "code"}
        assert "request_id" not in value
    assert isinstance(error, dict)
    return error
