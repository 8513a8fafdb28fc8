"""Talks to a gateway's local models over plain HTTP and reads their answers back.

Greedy unless a test says otherwise, because by chance a random model may say its end at any token.
Only JSON goes in and out: what an SDK would add or forgive is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp

from tests.scenarios.daemon import Daemon

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"

Messages = str | list[dict[str, Any]]


def body_of(model: str, said: Any, *, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    """The body of a request; `said` is a user's text, a list of messages, or (for /v1/completions) a prompt."""
    body: dict[str, Any] = {"model": model, "temperature": 0}
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": said}] if isinstance(said, str) else said
    else:
        body["prompt"] = said
    return body | fields


async def post(daemon: Daemon, path: str, body: Any) -> tuple[int, Any]:
    """The status and the JSON of a reply, whatever it is."""
    async with daemon.http() as http, http.post(path, data=json.dumps(body), headers=JSON) as reply:
        return reply.status, await reply.json()


async def whole(daemon: Daemon, model: str, said: Any, *, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    """A whole answer; asserts that it is one."""
    status, found = await post(daemon, path, body_of(model, said, path=path, **fields))
    assert status == 200, found
    assert isinstance(found, dict)
    return found


async def stream(
    daemon: Daemon, model: str, said: Any, *, path: str = CHAT, **fields: Any
) -> list[dict[str, Any]]:
    """All chunks of a stream; asserts that it ends as it must."""
    body = json.dumps(body_of(model, said, path=path, stream=True, **fields))
    async with daemon.http() as http, http.post(path, data=body, headers=JSON) as reply:
        data = await reply.text()
        assert reply.status == 200, data
        assert reply.headers["content-type"].startswith("text/event-stream")
    # While a model loads there may be heartbeats, which are comments.
    events = [event for event in data.split("\n\n") if event and not event.startswith(":")]
    assert events.pop() == "data: [DONE]"
    assert all(event.startswith("data: ") for event in events)
    chunks = [json.loads(event[6:]) for event in events]
    assert not [chunk for chunk in chunks if "error" in chunk]
    return chunks


async def refusal(
    daemon: Daemon, model: str, said: Any, *, status: int = 400, path: str = CHAT, **fields: Any
) -> dict[str, Any]:
    """The error that a request gets; asserts that it is one of OpenAI's shape and of this status."""
    got, found = await post(daemon, path, body_of(model, said, path=path, **fields))
    assert got == status, found
    error = found["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert isinstance(error, dict)
    return error


def choice(body: dict[str, Any], index: int = 0) -> dict[str, Any]:
    """One choice of a whole answer."""
    (found,) = [one for one in body["choices"] if one["index"] == index]
    assert isinstance(found, dict)
    return found


def content(body: dict[str, Any], index: int = 0) -> str:
    """The text of a whole answer of either path."""
    found = choice(body, index)
    return (found["message"]["content"] if "message" in found else found["text"]) or ""


def joined(chunks: list[dict[str, Any]], key: str = "content", *, index: int = 0) -> str:
    """What the deltas of one choice make together; of /v1/completions, their texts."""
    parts = [one for chunk in chunks for one in chunk["choices"] if one["index"] == index]
    return "".join((part["delta"].get(key) if "delta" in part else part["text"]) or "" for part in parts)


def reason(chunks: list[dict[str, Any]], *, index: int = 0) -> str:
    """Why one choice of a stream ended; asserts that it says so once, in its last chunk."""
    found = [one["finish_reason"] for chunk in chunks for one in chunk["choices"] if one["index"] == index]
    assert found[-1] is not None
    assert set(found[:-1]) <= {None}
    return str(found[-1])


class Called(NamedTuple):
    """One tool call that came in deltas; `parts` are its fragments of arguments."""

    id: str
    name: str
    parts: list[str]

    @property
    def arguments(self) -> str:
        return "".join(self.parts)


def calls(chunks: list[dict[str, Any]], *, index: int = 0) -> list[Called]:
    """The tool calls of one choice; asserts that each begins with its id, type and name and never says them again."""
    found: dict[int, Called] = {}
    for chunk in chunks:
        for one in chunk["choices"]:
            for delta in one["delta"].get("tool_calls") or [] if one["index"] == index else []:
                function = delta["function"]
                if delta["index"] not in found:
                    assert delta["index"] == len(found)
                    assert delta["type"] == "function"
                    found[delta["index"]] = Called(delta["id"], function["name"], [])
                else:
                    assert not delta.get("id")
                    assert not function.get("name")
                if part := function.get("arguments"):
                    found[delta["index"]].parts.append(part)
    return list(found.values())


class Running:
    """A stream that is being read in the background."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self.texts: list[str] = []  # of the chunks that had some
        self.ended = False
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read(reply), name="running-stream")

    async def past(self, count: int, within: float = 10.0) -> None:
        """Wait until it has given this many texts."""
        async with asyncio.timeout(within):
            while len(self.texts) < count:
                assert not self.ended, "the stream is over"
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self, reply: aiohttp.ClientResponse) -> None:
        try:
            async for line in reply.content:
                if not line.startswith(b"data: {"):
                    continue
                for one in json.loads(line[6:])["choices"]:
                    if text := one["delta"].get("content"):
                        self.texts.append(text)
                        self._news.set()
        finally:
            self.ended = True
            self._news.set()


@contextlib.asynccontextmanager
async def running(daemon: Daemon, model: str, said: Messages, **fields: Any) -> AsyncIterator[Running]:
    """A stream that runs, with its first text out, while the block does other things; then its client leaves."""
    body = json.dumps(body_of(model, said, stream=True, **fields))
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        assert reply.status == 200, await reply.text()
        found = Running(reply)
        try:
            await found.past(1)
            yield found
        finally:
            await found.close()
            reply.close()


async def places(daemon: Daemon, model: str) -> int:
    """How many requests of a model hold a place in its batch."""
    return int((await daemon.admin("status"))["local"]["models"].get(model, {}).get("running", 0))


async def reach(daemon: Daemon, model: str, count: int, within: float) -> None:
    """Wait until exactly so many requests of a model hold a place."""
    async with asyncio.timeout(within):
        while await places(daemon, model) != count:
            await asyncio.sleep(0.01)
