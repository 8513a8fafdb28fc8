"""A network that a test switches: its routes, its name server, and what was asked of them."""

from __future__ import annotations

import asyncio

from gateway.cloud.look import Found, System
from gateway.cloud.offline import Answer


class Network:
    """All routes are there and each name is found at 10.0.0.1, until the test says otherwise."""

    def __init__(self) -> None:
        self.routes = True
        self.outside: bool | None = None  # like `routes`, unless it is set
        self.broken: Exception | None = None  # what looking a name up raises
        self.answers: dict[str, Answer] = {}  # of names; else `default`
        self.default = Answer.FOUND
        self.held: asyncio.Event | None = None  # while set to one, a name that is silent hangs on it
        self.asked: list[str] = []
        self.routed: list[str] = []

    @property
    def system(self) -> System:
        return System(has_route=self._has_route, has_outside=self._has_outside, look_up=self._look_up)

    def down(self, *, silent: bool = True) -> None:
        """The cable is out."""
        self.routes = False
        self.default = Answer.SILENT if silent else Answer.MISSING

    def up(self) -> None:
        self.routes, self.default = True, Answer.FOUND

    def _has_outside(self) -> bool:
        return self.routes if self.outside is None else self.outside

    def _has_route(self, address: str) -> bool:
        self.routed.append(address)
        return self.routes

    async def _look_up(self, host: str) -> Found:
        self.asked.append(host)
        if self.broken is not None:
            raise self.broken
        answer = self.answers.get(host, self.default)
        if answer is Answer.SILENT and self.held is not None:
            await self.held.wait()
        return answer, ("10.0.0.1",) if answer is Answer.FOUND else ()
