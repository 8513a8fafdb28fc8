"""Asks a pool as the relay does, and reads its answers back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from gateway.backend import AttemptFailed, Call
from gateway.failover.outcome import Failure
from gateway.local.pool import LocalPool
from gateway.wire.dialect import Dialect

# Allows printing characters only, and no end: what a random model then says is plain text of full length.
PLAIN = {str(token): -100 for token in range(300) if not 32 < token < 127 and token < 261}


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


def soon(seconds: float = 30.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def stream(pool: LocalPool, model: str, text: str = "hi", **fields: Any) -> list[dict[str, Any]]:
    """All chunks of a streamed answer; asserts that it ends as it must."""
    reply = await pool.open(call(model, text, stream=True, **fields), deadline=soon())
    chunks = [data async for data in reply.chunks()]
    assert chunks.pop() == b"[DONE]"
    return [json.loads(data) for data in chunks]


async def whole(pool: LocalPool, model: str, text: str = "hi", **fields: Any) -> dict[str, Any]:
    reply = await pool.open(call(model, text, **fields), deadline=soon())
    (body,) = [data async for data in reply.chunks()]
    found: dict[str, Any] = json.loads(body)
    return found


async def refused(pool: LocalPool, model: str | None, text: str = "hi", **fields: Any) -> Failure:
    """The failure that `open` or the chunks end with."""
    try:
        reply = await pool.open(call(model, text, **fields), deadline=soon())
        async for _ in reply.chunks():
            pass
    except AttemptFailed as error:
        return error.failure
    raise AssertionError("the request was answered")


def text_of(chunks: list[dict[str, Any]], key: str = "content") -> str:
    return "".join(c["choices"][0]["delta"].get(key) or "" for c in chunks if c["choices"])


@contextlib.asynccontextmanager
async def closing(pool: LocalPool) -> AsyncIterator[LocalPool]:
    """A started pool that is closed again, whatever happens; asserts that its thread ends."""
    await pool.start()
    try:
        yield pool
    finally:
        assert await pool.close(soon(10))
