"""What only a running daemon knows, for the admin operations and for /v1/models."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gateway import __version__
from gateway.admin import standings
from gateway.admin.explain import explain
from gateway.backend import AttemptFailed
from gateway.cloud.client import CloudClient
from gateway.config import Config
from gateway.errors import MissingError
from gateway.failover.breaker import Standing
from gateway.failover.outcome import Failure, Outcome
from gateway.local.pool import LocalPool
from gateway.relay.planner import Planner
from gateway.relay.relay import Relay
from gateway.snapshot import Credential, Upstream
from gateway.store.memory import Memory
from gateway.store.store import Store
from gateway.web.outlook import outlook
from gateway.web.stock import Stock

_LIST_S = 10.0
_LIST_KEPT_S = 60.0
_LIST_FAILED_S = 5.0


class LiveView:
    """A look at the running parts. `port` is set when the listener is open."""

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        relay: Relay,
        planner: Planner,
        pool: LocalPool | None,
        cloud: CloudClient,
        memory: Memory,
    ) -> None:
        self.port = config.server.port
        self._config = config
        self._store = store
        self._relay = relay
        self._planner = planner
        self._pool = pool
        self._stock = Stock(pool)
        self._cloud = cloud
        self._memory = memory
        self._started_at = time.time()
        self._lists: dict[str, tuple[float, Upstream, list[str]]] = {}

    # --- for /v1/models ---------------------------------------------------------------------

    def local_names(self) -> list[str]:
        return [model.name for model in self._pool.models()] if self._pool is not None else []

    async def upstream_names(self, upstream: str) -> list[str]:
        """The models that an upstream lists, remembered for a minute; [] when it does not say."""
        snapshot = self._store.snapshot
        known = snapshot.upstreams.get(upstream)
        if known is None:
            return []  # removed since the caller looked
        now = asyncio.get_running_loop().time()
        kept = self._lists.get(upstream)
        if kept is not None and now - kept[0] < _LIST_KEPT_S and kept[1] == known:
            return kept[2]
        try:
            names = await self._cloud.list_models(
                known, self._first_credential(upstream), deadline=now + _LIST_S
            )
        except AttemptFailed:
            names = []
            now -= _LIST_KEPT_S - _LIST_FAILED_S  # a failure is remembered for a moment only
        self._lists[upstream] = (now, known, names)
        return names

    # --- for the admin operations -----------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the gateway is doing now."""
        snapshot = self._store.snapshot
        return {
            "version": __version__,
            "listening": f"http://{self._config.server.host}:{self.port}/v1",
            "uptime_s": round(time.time() - self._started_at, 1),
            "generation": snapshot.generation,
            "in_flight": self._relay.in_flight,
            "offline": self._cloud.presence.reason,
            "rules": len(snapshot.rules.rules),
            "upstreams": len(snapshot.upstreams),
            "client_keys": len(snapshot.clients),
            "problems": list(self._store.problems),
            "read_only": self._store.read_only,
            "cooling": standings.cooling(self.standings(), snapshot),
            "local": self._pool.stats() if self._pool is not None else None,
        }

    def standings(self) -> list[Standing]:
        return self._memory.standings()

    async def reset(self, backend: str, credential_id: int | None) -> int:
        return await self._memory.reset(backend, credential_id)

    def local_models(self) -> list[dict[str, Any]]:
        return self._stock.listed()

    async def show_model(self, name: str) -> dict[str, Any]:
        return await self._stock.show(name)

    async def load_model(self, name: str) -> dict[str, Any]:
        return await self._stock.load(name)

    async def unload_model(self, name: str) -> dict[str, Any]:
        return await self._stock.unload(name)

    async def bench_model(self, name: str) -> dict[str, Any]:
        return await self._stock.bench(name)

    async def look(self) -> None:
        """Have the pool read the disk again: a model came or went."""
        if self._pool is not None:
            await self._pool.look()

    async def explain(self, model: str, body: dict[str, Any] | None, path: str) -> dict[str, Any]:
        """The answer of the store alone, plus the plan that such a request would get right now."""
        snapshot = self._store.snapshot
        plans = await outlook(self._planner, snapshot, model, body, path)
        return {**explain(snapshot, model), "plans": plans}

    async def test_upstream(self, name: str) -> dict[str, Any]:
        """Ask an upstream for its models with our credential; a failure is a result, not an error."""
        upstream = self._store.snapshot.upstreams.get(name)
        if upstream is None:
            raise MissingError(f"there is no upstream {name!r}")
        began = asyncio.get_running_loop().time()
        try:
            names = await self._cloud.list_models(
                upstream, self._first_credential(name), deadline=began + _LIST_S
            )
        except AttemptFailed as failed:
            return {**_result(name, began, failed.failure), "models": []}
        return {**_result(name, began, None), "models": names}

    def _first_credential(self, upstream: str) -> Credential | None:
        held = self._store.snapshot.credentials.get(upstream, ())
        return next((credential for credential in held if credential.enabled), None)


def _result(name: str, began: float, failure: Failure | None) -> dict[str, Any]:
    took = asyncio.get_running_loop().time() - began
    return {
        "upstream": name,
        "ok": failure is None,
        "outcome": str(failure.outcome if failure is not None else Outcome.OK),
        "message": failure.message if failure is not None else "",
        "ms": round(took * 1000, 1),
    }
