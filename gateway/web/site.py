"""What the handlers share: the parts of the daemon that they speak to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.admin.operations import Context
from gateway.config import Server
from gateway.relay.kept import Kept
from gateway.relay.relay import Relay
from gateway.snapshot import ClientKey, Snapshot


class ModelSource(Protocol):
    """Where /v1/models looks."""

    def local_names(self) -> list[str]: ...

    async def upstream_names(self, upstream: str) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: `owner` came over admin.sock, otherwise `key` says, None where no key is needed."""

    request_id: str
    key: ClientKey | None
    origin: str | None
    owner: bool

    @property
    def name(self) -> str:
        if self.owner:
            return "owner"
        return self.key.name if self.key is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One daemon, seen from its routes. `keyless` says that every listener is loopback."""

    server: Server
    spool: Path  # where an upload waits for its model
    keyless: bool
    admin_over_tcp: bool
    snapshot: Callable[[], Snapshot]
    relay: Relay
    kept: Kept  # the responses that were made here
    models: ModelSource
    admin_context: Callable[[str], Context]
    ready: Callable[[], str | None]  # None when ready, else what is missing
    render_metrics: Callable[[], bytes]
    operate: Callable[[Context, str, dict[str, object]], Awaitable[object]]
