"""What the system itself says of routes and names; what can't be had everywhere is in `scenarios/unplugged`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.cloud import routes
from gateway.cloud.offline import Answer


def test_there_is_a_route_to_this_machine() -> None:
    assert routes.has_route("127.0.0.1")


def test_what_is_refused_for_other_reasons_says_nothing_of_the_route() -> None:
    assert routes.has_route("255.255.255.255")  # a broadcast wants to be asked for


def test_names_of_this_machine() -> None:
    answer, addresses = routes.resolve("localhost")
    assert answer is Answer.HERE
    assert set(addresses) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("name", ["nowhere.invalid", "a" * 300, "nul\0.test"])
def test_names_that_nobody_has(name: str) -> None:
    answer, addresses = routes.resolve(name)
    assert answer in (Answer.MISSING, Answer.SILENT), "silent where there is no name server"
    assert addresses == ()


async def test_a_look_up_leaves_the_loop_free_and_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, told = threading.Event(), (Answer.FOUND, ("10.0.0.1",))

    def held(_: str) -> tuple[Answer, tuple[str, ...]]:
        gate.wait(5)
        return told

    monkeypatch.setattr(routes, "resolve", held)
    monkeypatch.setattr(routes, "_MOST", 2)
    resolver = routes.Resolver()
    given_up = asyncio.ensure_future(resolver.look_up("a.test"))
    kept = asyncio.ensure_future(resolver.look_up("b.test"))
    await asyncio.sleep(0)
    assert await resolver.look_up("c.test") == (Answer.SILENT, ()), "as many as may hang do"
    given_up.cancel()
    gate.set()
    assert await kept == told
    async with asyncio.timeout(2):
        while await resolver.look_up("d.test") != told:
            await asyncio.sleep(0.001)
