"""What the tests of the client share: a lab, a client, and a short way to write a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.backend import AttemptFailed, Call
from gateway.cloud.client import CloudClient
from gateway.cloud.credentials import Credentials
from gateway.cloud.presence import Presence
from gateway.cloud.reply import CloudReply
from gateway.config import Cloud
from gateway.failover.outcome import Failure
from gateway.snapshot import AuthStyle, Credential, Upstream
from gateway.wire.dialect import Dialect
from tests.cloud.network import Network
from tests.lab import Lab

CHAT = "/v1/chat/completions"
SECRET = "sk-canary-0123456789"


@dataclass(frozen=True)
class Opened:
    """A secret as the store would hand it out."""

    text: str

    def reveal(self) -> str:
        return self.text


@dataclass
class Body:
    """A request's body: in memory, or streamed from `pieces`."""

    data: bytes | None = None
    pieces: Callable[[], AsyncIterator[bytes]] | None = None
    announced: int | None = field(default=None)

    @property
    def size(self) -> int | None:
        return self.announced if self.data is None else len(self.data)

    def chunks(self) -> AsyncIterator[bytes]:
        assert self.pieces is not None
        return self.pieces()


def now() -> float:
    return asyncio.get_running_loop().time()


def upstream_at(base_url: str, **more: Any) -> Upstream:
    given: dict[str, Any] = {"name": "lab", "dialect": Dialect.OPENAI, "auth": AuthStyle.NONE, **more}
    return Upstream(base_url=base_url, **given)


def credential_for(upstream: Upstream, **more: Any) -> Credential:
    given: dict[str, Any] = {"id": 1, "name": "default", "version": 1, "hint": "...", "sealed": b"x", **more}
    return Credential(upstream=upstream.name, base_url=upstream.base_url, **given)


def call_to(upstream: Upstream, body: bytes | Body | None = b"{}", **more: Any) -> Call:
    given: dict[str, Any] = {
        "request_id": "r1",
        "method": "GET" if body is None else "POST",
        "path": CHAT,
        "query": "",
        "dialect": upstream.dialect,
        "headers": (("content-type", "application/json"),),
        "model": None,
        "stream": False,
        **more,
    }
    held = Body(data=body) if isinstance(body, bytes) else body
    return Call(upstream=upstream, body=held, **given)


async def whole(reply: CloudReply) -> bytes:
    try:
        return b"".join([chunk async for chunk in reply.chunks()])
    finally:
        await reply.aclose()


async def failure_of(client: CloudClient, call: Call, *, within: float = 5.0) -> Failure:
    """Open a call that must fail before its reply begins."""
    with pytest.raises(AttemptFailed) as caught:
        await client.open(call, deadline=now() + within)
    return caught.value.failure


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab() as lab:
        yield lab


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., CloudClient]]:
    """Make clients with a configuration of one's own."""
    made: list[CloudClient] = []

    def make(secret: str = SECRET, network: Network | None = None, **knobs: Any) -> CloudClient:
        presence = Presence(system=network.system, look_s=0.01) if network is not None else None
        client = CloudClient(replace(Cloud(), **knobs), Credentials(lambda _: Opened(secret)), presence)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


@pytest.fixture
def client(connect: Callable[..., CloudClient]) -> CloudClient:
    return connect()
