"""Asks over HTTP at little cost: one connection a request, no HTTP library, times as bytes come.

mlx_lm.server speaks HTTP/1.0 and closes after each answer; so that both sides do the same, each
request says `connection: close`. Connecting is not timed: of many that connect at once some would
wait a second, because its listener has a backlog of five.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.local.servers import Server

_CONTENT = re.compile(rb'"content": ?"[^"]')
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
_PROMPT = re.compile(rb'"prompt_tokens": ?(\d+)')
_TIMEOUT_S = 400.0  # a long prompt on a machine that others use, too


class WrongAnswerError(Exception):
    """A server did not answer what was asked; a figure made of it would be wrong."""


@dataclass(frozen=True)
class Answer:
    """A complete answer; times are seconds after it was asked for."""

    first_s: float
    ended_s: float
    prompt_tokens: int
    tokens: int
    arrivals: list[float]  # of what carried text, on the clock of time.perf_counter
    data: bytes


class Asking(asyncio.Protocol):
    """One request and its answer, while it comes."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.arrivals: list[float] = []
        self._began = 0.0
        self._ended = 0.0
        self._data: list[bytes] = []
        self._first: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: Any) -> None:  # uvloop's is no subclass of asyncio.Transport
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._data.append(data)
        if _CONTENT.search(data):
            self.arrivals.append(now)
            if len(self.arrivals) == 1 and not self._first.done():
                self._first.set_result(None)
        if b"[DONE]" in data:
            self._ended = now

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended = time.perf_counter()
        for future in (self._first, self._over):
            if not future.done():
                future.set_result(None)

    def send(self, data: bytes) -> None:
        self._began = time.perf_counter()
        self._transport.write(data)

    def hang_up(self) -> float:
        """Leave as an app does that was closed; the time of it."""
        self._transport.abort()
        return time.perf_counter()

    async def written(self, events: int = 1) -> None:
        """Wait until so many events with text have come."""
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.shield(self._first)
            while len(self.arrivals) < events:
                self._must_run()
                await asyncio.sleep(0.002)
        self._must_run()

    def _must_run(self) -> None:
        if self._over.done():
            raise WrongAnswerError(f"a stream ended early: {self.tail()}")

    @property
    def over(self) -> bool:
        return self._over.done()

    async def answer(self, *, tokens: int | None = None) -> Answer:
        """The whole answer, which must have exactly so many tokens."""
        async with asyncio.timeout(_TIMEOUT_S):
            await self._over
        data = b"".join(self._data)
        head, _, _ = data.partition(b"\r\n")
        if b" 200 " not in head:
            raise WrongAnswerError(f"{head.decode('latin-1')}: {self.tail()}")
        counts, prompts = _TOKENS.findall(data), _PROMPT.findall(data)
        if not counts or tokens not in (None, int(counts[-1])):
            raise WrongAnswerError(f"{counts} tokens came instead of {tokens}: {self.tail()}")
        first = self.arrivals[0] if self.arrivals else self._ended
        return Answer(
            first_s=first - self._began,
            ended_s=self._ended - self._began,
            prompt_tokens=int(prompts[-1]),
            tokens=int(counts[-1]),
            arrivals=self.arrivals,
            data=data,
        )

    def tail(self) -> str:
        return b"".join(self._data)[-300:].decode("latin-1")


def chat(server: Server, messages: list[dict[str, str]], *, stream: bool = True, **fields: Any) -> bytes:
    """A greedy chat request, ready to be sent."""
    asked: dict[str, Any] = {"model": server.model, "messages": messages, "temperature": 0, **fields}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def connect(server: Server) -> Asking:
    _, protocol = await asyncio.get_running_loop().create_connection(Asking, "127.0.0.1", server.port)
    return protocol


async def ask(server: Server, request: bytes, *, tokens: int | None = None) -> Answer:
    asking = await connect(server)
    asking.send(request)
    return await asking.answer(tokens=tokens)


async def begin(server: Server, request: bytes, *, events: int = 1) -> Asking:
    """A stream that has begun to write."""
    asking = await connect(server)
    asking.send(request)
    await asking.written(events)
    return asking


async def wave(server: Server, requests: Iterable[bytes], *, tokens: int) -> tuple[float, list[Answer]]:
    """All at once; how long until the last was answered, and the answers."""
    requests = list(requests)
    askings = [await connect(server) for _ in requests]
    await asyncio.sleep(0.02)  # a server with a thread for each connection has them all by now
    began = time.perf_counter()
    for asking, request in zip(askings, requests, strict=True):
        asking.send(request)
    answers = [await asking.answer(tokens=tokens) for asking in askings]
    return max(asking._ended for asking in askings) - began, answers
