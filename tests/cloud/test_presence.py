"""When the machine goes offline, how that is noticed, and how soon it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.cloud.offline import NO_ROUTE, Answer
from gateway.cloud.presence import Presence
from gateway.snapshot import Upstream
from tests.cloud.conftest import upstream_at
from tests.cloud.network import Network

A, B = upstream_at("https://a.test/v1", name="a"), upstream_at("https://b.test/v1", name="b")
BOX = upstream_at("http://10.0.0.7:8000/v1", name="box")
OWN = upstream_at("http://localhost:11434/v1", name="own")


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def meet(network: Network) -> AsyncIterator[Callable[..., Presence]]:
    made: list[Presence] = []

    def make(*upstreams: Upstream) -> Presence:
        made.append(Presence(lambda: upstreams, system=network.system, look_s=0.01))
        return made[-1]

    yield make
    for presence in made:
        await presence.close()


async def changes_to(presence: Presence, *, offline: bool) -> None:
    async with asyncio.timeout(2):
        while (presence.reason is not None) is not offline:
            await asyncio.sleep(0.002)


Meet = Callable[..., Presence]


async def test_while_all_is_well_nobody_is_asked(network: Network, meet: Meet) -> None:
    presence = meet(A, BOX, OWN)
    for _ in range(100):
        assert [presence.offline(each) for each in (A, BOX, OWN)] == [None] * 3
    assert network.asked == []
    assert set(network.routed) == {"10.0.0.7"}, "of a name no address is known yet"
    assert presence.reason is None


async def test_a_route_is_asked_for_once_in_a_while(network: Network) -> None:
    presence = Presence(lambda: [BOX], system=network.system)
    presence.met(A, "10.1.1.1")
    for _ in range(100):
        presence.offline(BOX)
        presence.offline(A)
    assert network.routed == ["10.0.0.7", "10.1.1.1"]


async def test_an_upstream_on_this_machine_needs_no_network(network: Network, meet: Meet) -> None:
    network.down()
    presence = meet(OWN, upstream_at("http://127.0.0.1:1/v1"))
    presence.met(OWN, "127.0.0.1")
    presence.doubt(OWN)
    assert await presence.confirm(OWN) is None
    assert presence.offline(OWN) is None
    assert network.asked == network.routed == []


async def test_a_fault_while_the_cable_is_out_is_the_networks(network: Network, meet: Meet) -> None:
    presence = meet(A, B, BOX)
    network.down()
    assert await presence.confirm(A) == "there is no route to the internet"
    assert presence.offline(A) == "there is no route to the internet"
    async with asyncio.timeout(2):
        while presence.offline(B) is None:
            await asyncio.sleep(0.002)
    assert presence.offline(BOX) == NO_ROUTE


async def test_it_comes_back_by_itself(
    network: Network, meet: Meet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    presence = meet(A, BOX)
    told: list[str | None] = []
    presence.changed = told.append
    network.down(silent=False)
    presence.doubt(A)
    await changes_to(presence, offline=True)
    looks = len(network.asked)
    network.up()
    await changes_to(presence, offline=False)
    assert presence.offline(A) is presence.offline(BOX) is None
    assert len(told) == 2 and told[0] is not None and told[1] is None
    assert [record.message.partition(":")[0] for record in caplog.records] == ["offline", "online again"]
    asked = len(network.asked)
    assert asked > looks
    await asyncio.sleep(0.03)
    assert len(network.asked) == asked, "nobody looks while all is well"


async def test_a_known_way_that_is_gone_is_noticed_before_a_request_goes_it(
    network: Network, meet: Meet
) -> None:
    presence = meet(A, BOX)
    presence.met(A, "10.1.1.1")
    network.down()
    assert presence.offline(A) == NO_ROUTE
    assert presence.offline(BOX) == NO_ROUTE


async def test_a_name_that_moved_to_another_family_is_looked_up_first(network: Network, meet: Meet) -> None:
    presence = meet(A)
    presence.met(A, "2001:db8::1")
    network.routes, network.outside = False, True
    assert presence.offline(A) is None
    assert await presence.confirm(A) == NO_ROUTE
    assert network.asked == ["a.test"]


async def test_a_mac_with_a_route_that_leads_nowhere_is_offline(network: Network, meet: Meet) -> None:
    """Its resolver says of every name that it is missing, and tunnels keep a default route of their own."""
    presence = meet(A)
    presence.met(A, "10.1.1.1")
    network.down(silent=False)
    network.outside = True
    assert await presence.confirm(A) == NO_ROUTE
    assert await presence.confirm(B) is None, "of this one nothing is known but that nobody has it"
    network.up()
    await changes_to(presence, offline=False)


@pytest.mark.parametrize("upstreams", [(A,), (A, B), (A, BOX)], ids=["alone", "with another", "with a box"])
async def test_a_mistyped_name_is_no_fault_of_the_network(
    network: Network, meet: Meet, upstreams: tuple[Upstream, ...]
) -> None:
    network.answers["a.test"] = Answer.MISSING
    presence = meet(*upstreams)
    assert await presence.confirm(A) is None
    assert presence.reason is None


async def test_one_name_without_an_answer_is_that_domains_fault(network: Network, meet: Meet) -> None:
    network.answers["a.test"] = Answer.SILENT
    presence = meet(A, B)
    assert await presence.confirm(A) is None
    assert presence.offline(A) is None


async def test_a_name_server_that_says_nothing_is_offline(
    network: Network, meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cloud.look.PATIENCE_S", 0.02)
    network.default, network.held = Answer.SILENT, asyncio.Event()
    presence = meet(A, B, BOX)
    assert await presence.confirm(A) == "no name server answers"
    assert presence.offline(BOX) is None
    network.up()
    await changes_to(presence, offline=False)


async def test_a_host_that_answers_late_holds_up_no_other(network: Network, meet: Meet) -> None:
    network.answers["b.test"], network.held = Answer.SILENT, asyncio.Event()
    presence = meet(A, B)
    async with asyncio.timeout(0.5):
        assert await presence.confirm(A) is None


async def test_one_look_answers_all_who_doubt(network: Network, meet: Meet) -> None:
    presence = meet(A)
    network.answers["a.test"] = Answer.MISSING
    assert await asyncio.gather(*(presence.confirm(A) for _ in range(50))) == [None] * 50
    assert network.asked == ["a.test"]


async def test_of_many_silent_names_few_are_asked_in_turn(
    network: Network, meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each such question hangs in a thread of its own for as long as the system likes."""
    monkeypatch.setattr("gateway.cloud.look.PATIENCE_S", 0.005)
    many = [upstream_at(f"https://n{number}.test/v1") for number in range(10)]
    network.default, network.held = Answer.SILENT, asyncio.Event()
    presence = meet(*many)
    assert await presence.confirm(many[0]) == "no name server answers"
    assert len(network.asked) == 10
    async with asyncio.timeout(2):
        while len(network.asked) < 25:
            await asyncio.sleep(0.002)
    assert all(presence.offline(each) for each in many)
    assert len(set(network.asked[10:22])) == 10, "each has its turn"
    network.answers["n4.test"] = Answer.FOUND
    await changes_to(presence, offline=False)


async def test_a_connection_is_the_best_proof(network: Network, meet: Meet) -> None:
    network.down()
    presence = meet(A)
    await presence.confirm(A)
    assert presence.reason is not None
    presence.met(A, "10.1.1.1")
    assert presence.reason is None


async def test_a_look_that_fails_keeps_nobody_out(network: Network, meet: Meet) -> None:
    presence = meet(A)
    network.down()
    assert await presence.confirm(A)

    network.broken = RuntimeError("no more memory")
    await changes_to(presence, offline=False)
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await presence._task  # type: ignore[misc]


async def test_who_is_disabled_or_gone_is_not_looked_up(network: Network, meet: Meet) -> None:
    presence = meet(A, upstream_at("https://off.test/v1", enabled=False))
    await presence.confirm(B)
    assert sorted(network.asked) == ["a.test", "b.test"]
