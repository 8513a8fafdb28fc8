"""One look at the network: what the kernel and the resolver say of some hosts, as it comes in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.cloud import routes
from gateway.cloud.offline import Answer, Sight, is_literal, is_settled, why_offline

PATIENCE_S = 1.0  # so long may a name server take

Found = tuple[Answer, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Whom a look asks; a test has a network of its own."""

    has_route: Callable[[str], bool] = routes.has_route
    has_outside: Callable[[], bool] = routes.has_outside
    look_up: Callable[[str], Awaitable[Found]] = field(default_factory=lambda: routes.Resolver().look_up)


class Look:
    """See above. `known` are the addresses that names had before. `sights` and `addresses` grow while it
    is `take`n; `over` says that it is complete.
    """

    def __init__(self, system: System, known: Mapping[str, tuple[str, ...]]) -> None:
        self.sights: dict[str, Sight] = {}
        self.addresses: dict[str, tuple[str, ...]] = {}
        self.outside = True
        self.over = False
        self._system = system
        self._known = known
        self._news = asyncio.Event()

    async def take(self, hosts: Iterable[str], *, unasked: Iterable[str] = ()) -> None:
        """Look at `hosts`; of those that are `unasked` it is taken for known that no answer would come."""
        try:
            self.outside = self._system.has_outside()
            self.sights = {host: Sight(Answer.SILENT) for host in unasked}
            async with asyncio.TaskGroup() as group:
                for host in hosts:
                    if is_literal(host):
                        self._see(host, Answer.FOUND, (host,))
                    else:
                        group.create_task(self._ask(host), name=f"look-up-{host}")
        finally:
            self.over = True
            self._news.set()

    async def reason(self, host: str) -> str | None:
        """Why `host` is offline, as soon as that can be said."""
        while not self.over and not is_settled(host, self.sights, outside=self.outside):
            self._news.clear()
            await self._news.wait()
        return why_offline(host, self.sights, outside=self.outside)

    def reasons(self) -> dict[str, str]:
        """Every host that is offline, and why."""
        said = {host: why_offline(host, self.sights, outside=self.outside) for host in self.sights}
        return {host: reason for host, reason in said.items() if reason is not None}

    @property
    def all_silent(self) -> bool:
        """Did no name server answer, although some were asked?"""
        names = [sight for host, sight in self.sights.items() if not is_literal(host)]
        return bool(names) and all(sight.answer is Answer.SILENT for sight in names)

    async def _ask(self, host: str) -> None:
        answer: Answer = Answer.SILENT
        addresses: tuple[str, ...] = ()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                answer, addresses = await self._system.look_up(host)
        self._see(host, answer, addresses)

    def _see(self, host: str, answer: Answer, addresses: tuple[str, ...]) -> None:
        if addresses:
            self.addresses[host] = addresses
        before = self._known.get(host, ())
        lost = not addresses and bool(before) and not any(map(self._system.has_route, before))
        self.sights[host] = Sight(answer, any(map(self._system.has_route, addresses)), lost)
        self._news.set()
