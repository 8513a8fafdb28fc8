"""A machine that sleeps and wakes, played on clocks of our own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import pytest

from gateway.cloud.client import CloudClient
from gateway.cloud.wake import Clocks, SleepWatch, Slept, system_clocks, watch
from gateway.failover.breaker import Breakers, Key
from gateway.failover.outcome import Failure, Outcome
from tests.cloud.conftest import CHAT, call_to, now, upstream_at, whole
from tests.lab import Lab

KEY = Key("lab", None, "m")
FAULT = Failure(outcome=Outcome.CONNECT_FAULT, message="no route")


class Machine:
    """Its clocks; `sleep` lets the one go on that counts a sleep."""

    def __init__(self) -> None:
        self.boot = self.awake = 1000.0

    @property
    def clocks(self) -> Clocks:
        return Clocks(boot=lambda: self.boot, awake=lambda: self.awake)

    def work(self, seconds: float) -> None:
        self.boot += seconds
        self.awake += seconds

    def sleep(self, seconds: float) -> None:
        self.boot += seconds


def test_time_that_passes_is_no_sleep() -> None:
    machine = Machine()
    sleeps = SleepWatch(machine.clocks, 5.0)
    machine.work(3600)  # the process was stopped
    assert sleeps.tick(3605.0) is None
    machine.sleep(10)  # too short to hurt a connection
    assert sleeps.tick(3605.0) is None


@pytest.mark.parametrize("counts", [False, True], ids=["a loop that stood still", "a loop that went on"])
def test_a_sleep_is_what_one_clock_did_not_count(counts: bool) -> None:
    machine = Machine()
    sleeps = SleepWatch(machine.clocks, 5.0)
    machine.sleep(3600)
    machine.work(1)
    assert sleeps.tick(3606.0 if counts else 6.0) == Slept(3600.0, 0.0 if counts else 3600.0, 5.0)
    machine.work(1)
    assert sleeps.tick(3607.0 if counts else 7.0) is None, "it is told once"


def test_the_clocks_of_this_system_agree_while_it_is_awake() -> None:
    sleeps = SleepWatch(system_clocks(), 0.0)
    assert sleeps.tick(0.0) is None
    clocks = system_clocks()
    assert clocks.boot() >= clocks.awake() - 1.0


async def test_after_a_sleep_connections_and_breakers_start_afresh(
    lab: Lab, client: CloudClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    upstream = upstream_at(lab.base_url)
    await whole(await client.open(call_to(upstream), deadline=now() + 5))
    breakers, machine = Breakers(), Machine()
    watching = asyncio.create_task(watch(client, breakers, machine.clocks, tick_s=0.005))
    await asyncio.sleep(0.02)
    assert not lab.peers[0].gone.is_set()
    for _ in range(5):
        breakers.record(KEY, FAULT, now())
    assert not breakers.judge(KEY, now()).ready
    machine.sleep(8 * 3600)
    await asyncio.wait_for(lab.peers[0].gone.wait(), 1)
    assert breakers.judge(KEY, now()).ready
    await whole(await client.open(call_to(upstream), deadline=now() + 5))
    assert lab.seen[-1].connection == 2
    assert [record.message for record in caplog.records if "awake" in record.message] == [
        "awake after 28800 s of sleep; connections to upstreams start afresh"
    ]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_an_answer_in_flight_goes_on_where_its_upstream_is_still_there(
    lab: Lab, client: CloudClient
) -> None:
    """It may only have thought for long. The system asks the peer; one that is gone would be reset."""
    gate = asyncio.Event()
    lab.script(CHAT, lab.sse([b"data: 1\n\n", gate, b"data: [DONE]\n\n"]))
    reply = await client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5)
    chunks = reply.chunks()
    assert await anext(chunks) == b"data: 1\n\n"
    client.awoke()
    probed = _socket_of(client)
    assert probed(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert (
        0
        < probed(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) * probed(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        < 5
    )
    gate.set()
    assert [chunk async for chunk in chunks] == [b"data: [DONE]\n\n"]


def _socket_of(client: CloudClient) -> Callable[[int, int], int]:
    assert client._pool is not None
    (protocol,) = client._pool._acquired
    assert protocol.transport is not None
    option: Callable[[int, int], int] = protocol.transport.get_extra_info("socket").getsockopt
    return option


async def test_a_client_that_was_never_used_wakes_too(client: CloudClient) -> None:
    client.awoke()
    client.close_idle()
