"""A laptop that goes offline keeps answering from what it has, and says why the rest is left out."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.failover.outcome import Outcome
from gateway.snapshot import Upstream
from tests.cloud.network import Network
from tests.house import House, chat, rule, running, snapshot, upstream
from tests.lab import Lab
from tests.relay.test_planner import inbound

CHAT = "/v1/chat/completions"


def away(name: str, host: str = "10.0.0.7") -> Upstream:
    """An upstream somewhere in the network, where nobody listens."""
    return replace(upstream(name), base_url=f"http://{host}/v1")


def healthy(house: House) -> bool:
    return house.breakers.cooling(asyncio.get_running_loop().time()) == []


async def test_what_is_out_of_reach_is_skipped_at_once_and_without_a_mark() -> None:
    network = Network()
    async with Lab() as lab, running(network=network.system) as house:
        house.snapshot = snapshot(
            rules=[rule("m", "cloud", "near")], upstreams=[away("cloud"), upstream("near", lab)]
        )
        network.down()
        for _ in range(6):
            async with house.http.post(CHAT, json=chat("m")) as reply:
                assert reply.status == 200
                assert reply.headers["x-gateway-served-by"] == "near/m"
                assert reply.headers["x-gateway-attempts"].startswith(
                    "cloud/m=connect_fault;dur=0;skipped, near/m=ok;dur="
                )
        assert lab.hits == 6
        assert healthy(house)
        way = await house.relay.planner.way(inbound(), house.snapshot)
        assert [(each.label, each.reason, each.outcome) for each in way.plan.skipped] == [
            ("cloud/m", "this machine is offline: there is no route to this upstream", Outcome.CONNECT_FAULT)
        ]
        network.up()
        async with asyncio.timeout(2):
            while house.cloud.presence.reason is not None:
                await asyncio.sleep(0.002)
        way = await house.relay.planner.way(inbound(), house.snapshot)
        assert [each.label for each in way.plan.candidates] == ["cloud/m", "near/m"]


async def test_the_first_request_that_meets_it_moves_on_too() -> None:
    """Of a name no route is known before: its fault is explained afterwards, and asked for once."""
    network = Network()
    async with Lab() as lab, running(network=network.system) as house:
        house.snapshot = snapshot(
            rules=[rule("m", "cloud", "near")], upstreams=[away("cloud", "a.invalid"), upstream("near", lab)]
        )
        network.down()
        for skipped in (False, True):
            async with house.http.post(CHAT, json=chat("m")) as reply:
                assert reply.status == 200
                attempts = reply.headers["x-gateway-attempts"].split(", ")
                assert [each.partition(";")[0] for each in attempts] == ["cloud/m=connect_fault", "near/m=ok"]
                assert attempts[0].endswith(";skipped") is skipped
        assert healthy(house)


async def test_with_nothing_left_the_client_hears_that_the_machine_is_offline() -> None:
    network = Network()
    async with running(network=network.system) as house:
        house.snapshot = snapshot(rules=[rule("m", "cloud")], upstreams=[away("cloud", "a.invalid")])
        network.down()
        for _ in range(6):
            async with house.http.post(CHAT, json=chat("m")) as reply:
                assert reply.status == 503
                assert reply.headers["retry-after"] == "2"
                assert reply.headers["x-should-retry"] == "false"
                assert reply.headers["x-gateway-attempts"].count("cloud/m=connect_fault") == 1
                error = (await reply.json())["error"]
                assert error["code"] == "offline"
                assert "this machine is offline: there is no route to the internet" in error["message"]
        assert healthy(house)
