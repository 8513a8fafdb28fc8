"""Asks a pool as the relay does, and reads its answers back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.backend import AttemptFailed, Call, Reply
from gateway.failover.outcome import Failure
from gateway.local.pool import LocalPool
from gateway.local.reply import LocalReply
from gateway.wire.dialect import Dialect

# Allows printing characters only, and no end: what a random model then says is plain text of full length.
PLAIN = {str(token): -100 for token in range(300) if not 32 < token < 127 and token < 261}

# Long enough to be met on the way.
LONG = {"max_tokens": 2000, "logit_bias": {"256": -100}}


class Body:
    """A request's body in memory."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data
        self.size = None if data is None else len(data)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.data or b""


def call(model: str | None, text: str = "hi", **fields: Any) -> Call:
    """A chat call; `fields` are those of the request's body. Greedy unless they say otherwise (None
    leaves it to the model): by chance a random model may say its end at any token.
    """
    fields = {"temperature": 0} | fields
    messages = [{"role": "user", "content": text}]
    return raw_call(model, json.dumps({"model": model, "messages": messages, **fields}).encode())


def raw_call(model: str | None, body: bytes | None, *, path: str = "/v1/chat/completions") -> Call:
    return Call(
        request_id="req_test",
        method="POST",
        path=path,
        query="",
        dialect=Dialect.OPENAI,
        headers=(),
        body=Body(body),
        model=model,
        stream=body is not None and b'"stream": true' in body,
    )


def soon(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something that other threads or processes bring about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def stream(pool: LocalPool, model: str, text: str = "hi", **fields: Any) -> list[dict[str, Any]]:
    """All chunks of a streamed chat; asserts that it ends as it must."""
    return await chunks_of(await pool.open(call(model, text, stream=True, **fields), deadline=soon()))


async def whole(pool: LocalPool, model: str, text: str = "hi", **fields: Any) -> dict[str, Any]:
    """A chat that comes in one piece."""
    return await body_of(await pool.open(call(model, text, **fields), deadline=soon()))


async def said(pool: LocalPool, model: str, text: str = "hi", **fields: Any) -> str:
    """The text of a chat."""
    return str((await whole(pool, model, text, **fields))["choices"][0]["message"]["content"])


async def refused(pool: LocalPool, model: str | None, text: str = "hi", **fields: Any) -> Failure:
    """The failure that `open` or the chunks of a chat end with."""
    return await failure_of(pool, call(model, text, **fields))


async def begin(pool: LocalPool, **fields: Any) -> tuple[LocalReply, AsyncIterator[bytes]]:
    """A stream of `slow` of which the first content has come."""
    reply = await pool.open(call("slow", stream=True, **{**LONG, **fields}), deadline=soon())
    chunks = reply.chunks()
    await anext(chunks)
    await anext(chunks)
    return reply, chunks


async def rest(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [data async for data in chunks]


def completion_call(model: str, prompt: Any, **fields: Any) -> Call:
    body = {"model": model, "prompt": prompt, "temperature": 0, **fields}
    return raw_call(model, json.dumps(body).encode(), path="/v1/completions")


async def completed(pool: LocalPool, model: str, prompt: Any, **fields: Any) -> dict[str, Any]:
    """A completion that comes in one piece; greedy unless the fields say otherwise."""
    return await body_of(await pool.open(completion_call(model, prompt, **fields), deadline=soon()))


def embedding_call(model: str, inputs: Any, **fields: Any) -> Call:
    body = {"model": model, "input": inputs, **fields}
    return raw_call(model, json.dumps(body).encode(), path="/v1/embeddings")


async def embedded(pool: LocalPool, model: str, inputs: Any, **fields: Any) -> dict[str, Any]:
    return await body_of(await pool.open(embedding_call(model, inputs, **fields), deadline=soon()))


async def failure_of(pool: LocalPool, request: Call) -> Failure:
    """The failure that `open` or the chunks end with."""
    try:
        reply = await pool.open(request, deadline=soon())
        async for _ in reply.chunks():
            pass
    except AttemptFailed as error:
        return error.failure
    raise AssertionError("the request was answered")


async def body_of(reply: Reply) -> dict[str, Any]:
    (body,) = [data async for data in reply.chunks()]
    found: dict[str, Any] = json.loads(body)
    return found


async def chunks_of(reply: Reply) -> list[dict[str, Any]]:
    """All chunks of a stream, which ends as it must."""
    chunks = [data async for data in reply.chunks()]
    assert chunks.pop() == b"[DONE]"
    return [json.loads(data) for data in chunks]


def text_of(chunks: list[dict[str, Any]], key: str = "content") -> str:
    return "".join(c["choices"][0]["delta"].get(key) or "" for c in chunks if c["choices"])


def calls_of(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All deltas of calls, each of which is of one call."""
    deltas = [c["choices"][0]["delta"] for c in chunks]
    return [call for delta in deltas for call in delta.get("tool_calls", [])]


def joined(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of a stream, put together as a client does it."""
    found: dict[int, dict[str, Any]] = {}
    for delta in calls_of(chunks):
        if "id" in delta:
            assert delta["index"] == len(found)
            found[delta["index"]] = {**delta, "function": {**delta["function"], "arguments": ""}}
        found[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]
    return [{k: v for k, v in call.items() if k != "index"} for call in found.values()]


@contextlib.asynccontextmanager
async def closing(pool: LocalPool) -> AsyncIterator[LocalPool]:
    """A started pool that is closed again, whatever happens; asserts that its engines end."""
    await pool.start()
    try:
        yield pool
    finally:
        assert await pool.close(soon(10))
