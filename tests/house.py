"""A gateway in this process: real sockets, the real door, relay and cloud client; only the store and
the engine are missing. Its snapshot is set by the test, its local models are a puppet's.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.admin.operations import Context, run
from gateway.backend import Backend
from gateway.cloud.client import CloudClient
from gateway.cloud.credentials import Credentials
from gateway.cloud.look import System
from gateway.cloud.presence import Presence
from gateway.config import Cloud, Server, Telemetry
from gateway.daemon import _runner_options
from gateway.errors import SecretError
from gateway.failover.breaker import Breakers
from gateway.failover.budget import RetryBudget
from gateway.failover.learnt import Learnt
from gateway.failover.policy import BUILT_IN, Policy
from gateway.relay.exchange import Limits
from gateway.relay.kept import Kept
from gateway.relay.planner import LocalBackend, Planner
from gateway.relay.relay import Relay
from gateway.routing.rule import Rule, Target
from gateway.routing.table import RuleTable
from gateway.snapshot import AuthStyle, ClientKey, Credential, Snapshot, Upstream
from gateway.telemetry import access, metrics
from gateway.web.app import build
from gateway.web.connection import Listener
from gateway.web.site import Site
from gateway.wire.dialect import Dialect
from tests.lab import Lab

JSON = {"content-type": "application/json"}


def rule(pattern: str, *targets: str, number: int = 1, policy: str = "default") -> Rule:
    return Rule(
        id=number, pattern=pattern, targets=tuple(Target.parse(each) for each in targets), policy=policy
    )


def upstream(
    name: str, lab: Lab | None = None, *, dialect: Dialect = Dialect.OPENAI, **more: Any
) -> Upstream:
    """One that asks for no credential; without a lab it is for a puppet, and leads nowhere."""
    base_url = lab.base_url if lab is not None else "http://127.0.0.1:9/v1"
    return Upstream(name=name, dialect=dialect, base_url=base_url, auth=AuthStyle.NONE, **more)


def snapshot(
    *,
    rules: Iterable[Rule] = (),
    upstreams: Iterable[Upstream] = (),
    policies: Iterable[Policy] = (),
    clients: Iterable[ClientKey] = (),
) -> Snapshot:
    return Snapshot(
        rules=RuleTable(rules),
        upstreams={each.name: each for each in upstreams},
        policies={**BUILT_IN, **{each.name: each for each in policies}},
        clients={each.digest: each for each in clients},
    )


def client_key(secret: str, *, admin: bool = False) -> ClientKey:
    digest = hashlib.sha256(secret.encode()).digest()
    return ClientKey(id=1, name="app", digest=digest, prefix=secret[:8], admin=admin)


class Line(dict[str, Any]):
    """One line of the access log: its fields, and what it says as `text`."""

    def __init__(self, text: str, fields: Iterable[tuple[str, Any]]) -> None:
        super().__init__(fields)
        self.text = text

    @property
    def status(self) -> int:
        return int(self.text.rpartition(" ")[2])


class House:
    """See above. `lines` is the access log; `base` where it listens."""

    def __init__(self, relay: Relay, cloud: CloudClient) -> None:
        self.snapshot = Snapshot()
        self.relay = relay
        self.cloud = cloud
        self.breakers: Breakers
        self.lines: list[Line] = []
        self._news = asyncio.Event()
        self.local: list[str] = []
        self.listed: dict[str, list[str]] = {}
        self.not_ready: str | None = None
        self.base = ""
        self.http: aiohttp.ClientSession
        self.site: Site
        self.runner: Listener

    async def logged(self, count: int = 1) -> Line:
        """The line of the access log of that number; it may be written a moment after the answer."""
        async with asyncio.timeout(2):
            while len(self.lines) < count:
                self._news.clear()
                await self._news.wait()
        return self.lines[count - 1]

    def note(self, line: Line) -> None:
        self.lines.append(line)
        self._news.set()

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    def local_names(self) -> list[str]:
        return self.local

    async def upstream_names(self, upstream: str) -> list[str]:
        return self.listed[upstream]

    def counted(self, name: str, **labels: str) -> float:
        """A figure of the metrics page; 0 when it does not stand there."""
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        head = f"mlx_gateway_{name}{{{wanted}}} " if wanted else f"mlx_gateway_{name} "
        for line in metrics.render().decode().splitlines():
            if line.startswith(head):
                return float(line.rpartition(" ")[2])
        return 0.0


def _no_secrets(_: Credential) -> Any:
    raise SecretError("this house has no secrets")


@asynccontextmanager
async def running(
    *,
    local: LocalBackend | None = None,
    cloud: Backend | None = None,
    server: Server | None = None,
    limits: Limits | None = None,
    default_upstream: str = "",
    admin_over_tcp: bool = True,
    keyless: bool = True,
    owner: bool = False,
    context: Context | None = None,
    jitter: float = 0.0,
    network: System | None = None,
) -> AsyncIterator[House]:
    """Listen on a port of its own until the test is over. `network` is what it sees of the network."""

    def upstreams() -> Iterable[Upstream]:
        return house.snapshot.upstreams.values()

    presence = Presence(upstreams, system=network, look_s=0.01)
    client = CloudClient(Cloud(), Credentials(_no_secrets), presence)
    breakers = Breakers()
    learnt = Learnt()
    kept = Kept()
    relay = Relay(
        snapshot=lambda: house.snapshot,
        local=local,
        cloud=cloud or client,
        planner=Planner(
            local=local,
            breakers=breakers,
            learnt=learnt,
            default_upstream=default_upstream,
            jitter=lambda: jitter,
            kept=kept,
            offline=presence.offline,
        ),
        breakers=breakers,
        learnt=learnt,
        budget=RetryBudget(),
        limits=limits or Limits(heartbeat_s=15.0, write_s=60.0, reply_limit=1 << 20),
        jitter=lambda: jitter,
    )
    house = House(relay, client)
    house.breakers = breakers
    house.site = Site(
        server=server or Server(),
        spool=Path(tempfile.gettempdir()),
        keyless=keyless,
        admin_over_tcp=admin_over_tcp,
        snapshot=lambda: house.snapshot,
        relay=relay,
        kept=kept,
        models=house,
        admin_context=lambda actor: _as(context, actor),
        ready=lambda: house.not_ready,
        render_metrics=metrics.render,
        operate=run,
    )

    def write(_: str, text: str, fields: Iterable[tuple[str, Any]]) -> None:
        house.note(Line(text, fields))

    access.use(Telemetry(), write)
    house.runner = runner = Listener(build(house.site, owner=owner), **_runner_options())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        house.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(house.base, auto_decompress=False) as house.http:
            yield house
    finally:
        await runner.cleanup()
        await client.close()
        access.use(replace(Telemetry(), access_log=False), write)


def _as(context: Context | None, actor: str) -> Context:
    assert context is not None, "this house was built without admin operations"
    return replace(context, actor=actor)


def chat(model: str, *, stream: bool = False, messages: Sequence[object] = ()) -> dict[str, Any]:
    return {"model": model, "messages": list(messages), **({"stream": True} if stream else {})}
