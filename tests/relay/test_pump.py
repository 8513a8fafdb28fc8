"""What a committed attempt sends, on a real connection: each part at once, and never a silent end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.failover.outcome import Failure, Outcome
from gateway.relay.pump import ClientStuck, Pump, RawResponse, _beat, event_response, is_over
from gateway.wire.api import Api
from tests import canned
from tests.relay.puppet import CHAT, Answer, Puppet, events, failure, local_stream
from tests.relay.test_attempt import attempt

Client = Callable[..., Awaitable[Any]]


@dataclass
class Carried:
    """What became of one `carry`."""

    pump: Pump | None = None
    result: Failure | type[BaseException] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    before: Callable[[Pump], object] = lambda _: None
    linger: bool = False

    async def done(self) -> Failure | type[BaseException] | None:
        async with asyncio.timeout(2):
            await self.over.wait()
        return self.result


def app(answer: Answer, carried: Carried, *, api: Api = Api.CHAT, **limits: float) -> web.Application:
    async def handle(request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        tried = attempt(Puppet(answer))
        await tried.until_content(api, deadline=loop.time() + 5)
        response = event_response() if tried.is_events else RawResponse()
        await response.prepare(request)
        knobs = {"idle_s": 5.0, "heartbeat_s": 5.0, "write_s": 5.0, "deadline_s": 5.0} | limits
        deadline = loop.time() + knobs.pop("deadline_s")
        carried.pump = pump = Pump(request, deadline=deadline, supervise=carried.tasks.append, **knobs)
        carried.before(pump)
        try:
            carried.result = await pump.carry(tried, response)
        except Exception as error:
            carried.result = type(error)
        finally:
            carried.over.set()
            if tried.is_events:
                response.stop_streaming()  # type: ignore[attr-defined]
        return response

    made = web.Application()
    made.router.add_get("/", handle)
    return made


@pytest.mark.parametrize("answer", [Answer(), local_stream(), Answer([b"".join(CHAT)])])
async def test_all_of_it_arrives(aiohttp_client: Client, answer: Answer) -> None:
    carried = Carried()
    client = await aiohttp_client(app(answer, carried))
    async with client.get("/") as reply:
        assert await reply.read() == b"".join(CHAT)
    assert await carried.done() is None


async def test_each_part_goes_out_at_once(aiohttp_client: Client) -> None:
    gates = [asyncio.Event() for _ in CHAT]
    pieces = [piece for pair in zip(CHAT, gates, strict=True) for piece in pair]
    client = await aiohttp_client(app(Answer(pieces), Carried()))
    gates[0].set()
    async with client.get("/") as reply:
        got = b""
        for number in range(1, len(CHAT)):
            while got != b"".join(CHAT[: number + 1]):
                got += await reply.content.readany()
            gates[number].set()


async def test_a_break_is_returned_and_what_came_before_is_out(aiohttp_client: Client) -> None:
    carried = Carried()
    told = failure(message="it burns")
    client = await aiohttp_client(app(Answer([*CHAT[:3], told]), carried))
    async with client.get("/") as reply:
        assert await reply.read() == b"".join(CHAT[:3])
    assert await carried.done() is told


async def test_a_quiet_stream_gets_comments_and_then_ends(aiohttp_client: Client) -> None:
    carried = Carried()
    answer = Answer([*CHAT[:3], asyncio.Event()])
    client = await aiohttp_client(app(answer, carried, idle_s=0.2, heartbeat_s=0.06))
    async with client.get("/") as reply:
        data = await reply.read()
    result = await carried.done()
    assert isinstance(result, Failure)
    assert result.outcome is Outcome.SLOW
    assert data.removeprefix(b"".join(CHAT[:3])).count(b": keep-alive\n\n") in (2, 3)
    assert all(task.done() for task in carried.tasks)


@pytest.mark.parametrize(
    ("answer", "api"),
    [
        (Answer([b"ID3", asyncio.Event()], kind="audio/mpeg"), Api.OTHER),
        (Answer([b"id: 7\n" + CHAT[0], *CHAT[1:3], asyncio.Event()]), Api.CHAT),
    ],
    ids=["no events", "events with ids"],
)
async def test_no_comments_where_they_would_do_harm(aiohttp_client: Client, answer: Answer, api: Api) -> None:
    carried = Carried()
    client = await aiohttp_client(app(answer, carried, api=api, idle_s=0.15, heartbeat_s=0.05))
    async with client.get("/") as reply:
        assert b"keep-alive" not in await reply.read()


async def test_the_deadline_ends_a_busy_stream(aiohttp_client: Client) -> None:
    async def pause() -> None:
        await asyncio.sleep(0.01)

    endless = [piece for _ in range(500) for piece in (CHAT[1], pause)]
    carried = Carried()
    client = await aiohttp_client(app(Answer([CHAT[0], *endless]), carried, deadline_s=0.1))
    async with client.get("/") as reply:
        await reply.read()
    result = await carried.done()
    assert isinstance(result, Failure)
    assert "deadline" in result.message


async def test_interrupted_before_it_begins(aiohttp_client: Client) -> None:
    carried = Carried(before=lambda pump: pump.interrupt("going down"))
    client = await aiohttp_client(app(Answer([*CHAT[:3], asyncio.Event()]), carried))
    async with client.get("/") as reply:
        await reply.read()
    result = await carried.done()
    assert isinstance(result, Failure)
    assert result.message == "going down"


async def test_interrupted_on_its_way_and_again(aiohttp_client: Client) -> None:
    carried = Carried()
    client = await aiohttp_client(app(Answer([*CHAT[:3], asyncio.Event()]), carried))
    async with client.get("/") as reply:
        await reply.content.readany()
        assert carried.pump is not None
        carried.pump.interrupt("going down")
        carried.pump.interrupt("twice")
        await reply.read()
    result = await carried.done()
    assert isinstance(result, Failure)
    assert result.message == "going down"


@pytest.mark.parametrize("answer", [Answer(), local_stream(), Answer([*CHAT[:3], failure()])])
async def test_interrupted_when_it_is_over(aiohttp_client: Client, answer: Answer) -> None:
    """It raised, so the drain ended there: the other streams were cut without a word."""
    carried = Carried()
    client = await aiohttp_client(app(answer, carried))
    async with client.get("/") as reply:
        await reply.read()
    before = await carried.done()
    assert carried.pump is not None
    carried.pump.interrupt("going down")
    assert carried.result is before


@pytest.mark.parametrize("local", [False, True])
async def test_interrupted_while_the_client_takes_the_last_of_it(aiohttp_client: Client, local: bool) -> None:
    """Behind the end of an answer came an error, on a connection that might be used again."""
    wire = [
        *[canned.chat_chunk({"content": "x" * 1_000_000})] * 8,
        canned.chat_chunk({}, finish="stop"),
        canned.DONE,
    ]
    carried = Carried()
    answer = local_stream(*events(wire)) if local else Answer([b"".join(wire)])
    client = await aiohttp_client(app(answer, carried))
    async with client.get("/") as reply:
        async with asyncio.timeout(2):
            while carried.pump is None or carried.pump._pulse is None:
                await asyncio.sleep(0)
        carried.pump.interrupt("going down")
        result = await carried.done()
        if local:
            assert isinstance(result, Failure)  # its events go one by one, so the last was not written yet
        else:
            assert result is ClientStuck
            assert await reply.read() == b"".join(wire)


async def test_a_client_that_takes_nothing_is_cut_off(aiohttp_client: Client) -> None:
    part = canned.chat_chunk({"content": "x" * 1_000_000})
    carried = Carried()
    client = await aiohttp_client(app(Answer([*[part] * 30, canned.DONE]), carried, write_s=0.1))
    reply = await client.get("/")
    assert await carried.done() is ClientStuck
    with pytest.raises(aiohttp.ClientError):
        await reply.read()


async def test_a_heartbeat_that_comes_too_late_does_no_harm(aiohttp_client: Client) -> None:
    """Its task ran after the end: an exception that nobody retrieved."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = RawResponse()
        await response.prepare(request)
        await response.write_eof(b"all")
        assert is_over(response)
        await _beat(response)
        return response

    made = web.Application()
    made.router.add_get("/", handle)
    client = await aiohttp_client(made)
    async with client.get("/") as reply:
        assert await reply.read() == b"all"


async def test_local_events_are_framed_as_the_cloud_frames_them(aiohttp_client: Client) -> None:
    client = await aiohttp_client(app(local_stream(), Carried()))
    async with client.get("/") as reply:
        assert reply.content_type == "text/event-stream"
        assert "keep-alive" not in reply.headers.get("connection", "")
        assert await reply.read() == b"".join(CHAT)
