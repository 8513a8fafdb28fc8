"""Whether this machine has a network: knows of each upstream whether it can be reached in principle.

While all is well nothing is done but to ask the kernel for a route, at most once a second and only
when a request wants to go there. A doubt (a connection that did not come to be, a route that is gone)
has the names of all upstreams looked up, and while one of them is offline that is repeated each
second, so that it comes back by itself. What is decided from it is in `offline`.

Upstreams on this machine are never offline. Not handled: a network that answers names and carries
nothing else; its targets fail like any others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

from gateway.cloud.look import Look, System
from gateway.cloud.offline import NO_ROUTE, is_here, is_literal
from gateway.snapshot import Upstream

_log = logging.getLogger(__name__)

_LOOK_S = 1.0  # between two looks, or two questions for the same route
_FRESH_S = 0.2  # so long a look answers all who have the same doubt
_AT_A_TIME = 3  # names that are asked while none is answered: such a question hangs for long


class _Host(NamedTuple):
    name: str
    here: bool
    literal: bool


class Presence:
    """See above; it belongs to one event loop. `changed` is called with the reason when something went
    offline, and with None when all is back.
    """

    def __init__(
        self,
        upstreams: Callable[[], Iterable[Upstream]] = tuple,
        *,
        system: System | None = None,
        look_s: float = _LOOK_S,
    ) -> None:
        self.changed: Callable[[str | None], None] = lambda _: None
        self._upstreams = upstreams
        self._system = system or System()
        self._look_s = look_s
        self._addresses: dict[str, tuple[str, ...]] = {}  # of names, as far as they are known
        self._routed_at: dict[str, float] = {}
        self._reasons: dict[str, str] = {}  # of each host that is offline
        self._told: str | None = None
        self._look: Look | None = None  # the present one, or the last
        self._looked_at = 0.0  # when that one was over
        self._doubted: set[str] = set()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._turn = 0

    @property
    def reason(self) -> str | None:
        """Which host can't be reached, and why; None when all can, as far as anybody knows."""
        return next((f"{host}: {reason}" for host, reason in self._reasons.items()), None)

    def offline(self, upstream: Upstream) -> str | None:
        """Why `upstream` can't be reached from here, None when nothing is known against it."""
        host = _host(upstream.base_url)
        if host.here:
            return None
        now = asyncio.get_running_loop().time()
        if now - self._routed_at.get(host.name, -math.inf) >= self._look_s:
            self._routed_at[host.name] = now
            self._ask_route(host)
        return self._reasons.get(host.name)

    def met(self, upstream: Upstream, address: str) -> None:
        """A new connection to `upstream` has come to be, at `address`."""
        host = _host(upstream.base_url)
        if not host.here:
            self._addresses[host.name] = (address,)
            if self._reasons.pop(host.name, None) is not None:
                self._tell()

    def doubt(self, upstream: Upstream) -> None:
        """`upstream` was not reached, and the network may be why: look, without anybody waiting."""
        host = _host(upstream.base_url)
        if not host.here:
            self._look_soon(host.name)

    async def confirm(self, upstream: Upstream) -> str | None:
        """Why `upstream` was not reached a moment ago, if the network is why; takes a second at most."""
        host = _host(upstream.base_url)
        if host.here:
            return None
        reason = await self._look_soon(host.name).reason(host.name)
        if reason is not None and self._task is not None and not self._task.done():
            self._reasons[host.name] = reason  # the next request need not find it out again
            self._tell()
        return reason

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _ask_route(self, host: _Host) -> None:
        """Is the way still there that was known? Asked before a request waits for it in vain."""
        addresses = (host.name,) if host.literal else self._addresses.get(host.name, ())
        if not addresses or any(map(self._system.has_route, addresses)):
            return
        # Its name may lead elsewhere by now, unless there is nowhere to go.
        if host.literal or not self._system.has_outside():
            self._reasons[host.name] = NO_ROUTE
            self._tell()
        self._look_soon(host.name)

    def _look_soon(self, host: str) -> Look:
        """A look that knows, or will know, of `host`."""
        look, now = self._look, asyncio.get_running_loop().time()
        if look is not None and (not look.over or (host in look.sights and now - self._looked_at < _FRESH_S)):
            return look
        self._doubted.add(host)
        self._look = look = Look(self._system, self._addresses)
        self._wanted.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="presence")
        return look

    async def _watch(self) -> None:
        """Look, and again as long as something is offline or somebody wants it."""
        loop = asyncio.get_running_loop()
        look, before = self._look, None
        try:
            while look is not None:
                self._wanted.clear()
                began = loop.time()
                await self._take(look, before)
                look, before = None, look
                if self._reasons:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(began + self._look_s):
                            await self._wanted.wait()
                    if self._look is before:
                        self._look = Look(self._system, self._addresses)
                if self._look is not before:
                    look = self._look
        finally:
            self._reasons = {}  # nobody looks any more, so nothing may stay out

    async def _take(self, look: Look, before: Look | None) -> None:
        known = (_host(each.base_url) for each in self._upstreams() if each.enabled)
        hosts = sorted(self._doubted.union(host.name for host in known if not host.here))
        self._doubted.clear()
        unasked: list[str] = []
        if before is not None and before.all_silent:
            names = [host for host in hosts if not is_literal(host)]
            self._turn += _AT_A_TIME
            turned = [names[(self._turn + each) % len(names)] for each in range(len(names))]
            unasked = turned[_AT_A_TIME:]
        await look.take([host for host in hosts if host not in unasked], unasked=unasked)
        self._addresses.update(look.addresses)
        self._looked_at = asyncio.get_running_loop().time()
        self._reasons = look.reasons()
        self._tell()

    def _tell(self) -> None:
        """Say it once, when the first goes or the last is back."""
        reason = self.reason
        if (reason is None) is (self._told is None):
            return
        self._told = reason
        if reason is not None:
            _log.warning("offline: %s; what needs the network is skipped until it is back", reason)
        else:
            _log.warning("online again")
        self.changed(reason)


@lru_cache(maxsize=1024)
def _host(base_url: str) -> _Host:
    name = (URL(base_url, encoded=True).host or "").lower().rstrip(".")
    return _Host(name, is_here(name), is_literal(name))
