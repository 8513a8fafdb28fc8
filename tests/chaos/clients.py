"""Those who ask: plain HTTP, and the two SDKs as apps use them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import anthropic
import openai

from tests.chaos.truth import CANARY, PATHS, Ask, Got
from tests.scenarios.daemon import Daemon

JSON = {"content-type": "application/json"}
_LIMIT_S = 60.0  # no answer of the chaos takes as long
_OPTIONS: dict[str, Any] = {"api_key": f"sk-app-{CANARY}", "max_retries": 0, "timeout": _LIMIT_S}


class Clients:
    """All clients of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._open()

    def _open(self) -> None:
        daemon = self._daemon
        self._http = daemon.http(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_LIMIT_S)
        )
        self._openai = daemon.openai(**_OPTIONS)
        self._anthropic = daemon.anthropic(**_OPTIONS)

    async def close(self) -> None:
        await self._http.close()
        await self._openai.close()
        await self._anthropic.close()

    async def rest(self) -> None:
        """Close what is idle."""
        await self.close()
        self._open()

    async def ask(self, ask: Ask) -> Got:
        """Ask, and tell what came of it; never raises but for mistakes of its own."""
        got = Got(began=time.monotonic())
        how = (
            self._plain if not ask.sdk else self._by_openai if ask.dialect == "openai" else self._by_anthropic
        )
        try:
            async with asyncio.timeout(ask.leaves_s):
                await how(ask, got)
        except TimeoutError as error:
            if ask.leaves_s is None:
                got.lost = f"no end within {_LIMIT_S:g} s ({error})"
            else:
                got.left = True
        except (aiohttp.ClientError, ConnectionError) as error:
            got.lost = repr(error)
        except (openai.APIConnectionError, anthropic.APIConnectionError) as error:
            got.lost = f"{error!r} from {error.__cause__!r}"
        except (openai.APIError, anthropic.APIError) as error:
            got.told = f"{type(error).__name__}: {error}"
        except Exception as error:  # httpx's, or what an SDK makes of bytes it can't read
            got.lost = f"{type(error).__module__}.{error!r}"
        got.over = time.monotonic()
        return got

    async def local_answers(self) -> bool:
        """Is the local model there?"""
        body = {"model": "demo", "messages": [{"role": "user", "content": "Count to 2"}]}
        try:
            async with self._http.post(PATHS["openai"], json=body) as reply:
                return reply.status == 200
        except (aiohttp.ClientError, ConnectionError, TimeoutError, RuntimeError):
            return False  # the daemon is gone as well, or its clients are

    async def watch(self, model: str) -> aiohttp.ClientResponse:
        """A stream that never ends."""
        body = {"model": model, "messages": [], "stream": True}
        never = aiohttp.ClientTimeout(total=None)
        return await self._http.post(PATHS["openai"], json=body, timeout=never)

    async def _plain(self, ask: Ask, got: Got) -> None:
        headers = {**JSON, "authorization": f"Bearer {CANARY}"}
        async with self._http.post(PATHS[ask.dialect], data=ask.body, headers=headers) as reply:
            _heads(got, reply.status, reply.headers)
            if not ask.stream or reply.status != 200:
                _whole(got, await reply.read())
                return
            rest = b""
            async for chunk in reply.content.iter_any():
                *events, rest = (rest + chunk).split(b"\n\n")
                for event in events:
                    _event(got, event.decode())
            if rest.strip():
                got.lost = f"half an event at the end: {rest!r}"

    async def _by_openai(self, ask: Ask, got: Got) -> None:
        create = self._openai.chat.completions.with_raw_response.create
        raw = await create(**ask.fields)
        _heads(got, raw.status_code, raw.headers)
        answer = raw.parse()
        if not ask.stream:
            got.first = time.monotonic()
            got.text, got.ended = answer.choices[0].message.content or "", True
            return
        async for chunk in answer:
            for choice in chunk.choices:
                _say(got, choice.delta.content or "")
                got.ended = got.ended or choice.finish_reason is not None

    async def _by_anthropic(self, ask: Ask, got: Got) -> None:
        raw = await self._anthropic.messages.with_raw_response.create(**ask.fields)
        _heads(got, raw.status_code, raw.headers)
        answer = await raw.parse()
        if not ask.stream:
            got.first = time.monotonic()
            got.text, got.ended = "".join(block.text for block in answer.content), True
            return
        async for event in answer:
            if event.type == "content_block_delta":
                _say(got, event.delta.text)
            got.ended = got.ended or event.type == "message_stop"


def _heads(got: Got, status: int, headers: Any) -> None:
    got.status = status
    got.served_by = headers.get("x-gateway-served-by", "")
    got.attempts = headers.get("x-gateway-attempts", "")


def _say(got: Got, piece: str) -> None:
    if piece and got.first is None:
        got.first = time.monotonic()
    got.text += piece


def _whole(got: Got, data: bytes) -> None:
    got.first = time.monotonic()
    value = json.loads(data)
    if "error" in value:
        got.told = f"{got.status}: {value['error']['message']}"
    elif "choices" in value:
        got.text, got.ended = value["choices"][0]["message"]["content"], True
    else:
        got.text, got.ended = "".join(block["text"] for block in value["content"]), True


def _event(got: Got, event: str) -> None:
    """One event of either dialect."""
    lines = event.split("\n")
    got.comments += [line for line in lines if line.startswith(":")]
    data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
    if not data:
        return
    # A reason for the end may be followed by the usage, or by the error that only the end is missing.
    if got.closed or (got.ended and data != "[DONE]" and not _may_follow(data)):
        got.lost = f"an event after the end: {data[:100]}"
        return
    if data == "[DONE]":
        got.ended = got.closed = True
        return
    value = json.loads(data)
    if "error" in value:
        got.told = f"in band: {value['error']['message']}"
    for choice in value.get("choices", ()):
        _say(got, choice["delta"].get("content") or "")
        got.ended = got.ended or choice["finish_reason"] is not None
    if value.get("type") == "content_block_delta":
        _say(got, value["delta"]["text"])
    if value.get("type") == "message_stop":
        got.ended = got.closed = True


def _may_follow(data: str) -> bool:
    value = json.loads(data)
    return "error" in value or value.get("choices") == []
