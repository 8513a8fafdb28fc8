"""One request from its plan to its last byte, over real sockets, with a backend that has gates."""

from __future__ import annotations

import asyncio
import json as _json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gateway.config import Server
from gateway.failover.breaker import Key, State
from gateway.failover.outcome import Outcome
from gateway.failover.policy import Policy
from gateway.relay import downstream
from gateway.relay.exchange import Limits
from gateway.relay.pump import Pump
from gateway.wire.dialect import Dialect
from tests import canned
from tests.house import House, chat, rule, running, snapshot, upstream
from tests.relay.puppet import CHAT, Answer, Puppet, events, failure, json, local_stream, whole

PATH = "/v1/chat/completions"
FAST = Limits(heartbeat_s=0.05, write_s=60.0, reply_limit=1 << 26)


@asynccontextmanager
async def house_of(
    puppet: Puppet, *targets: str, policy: Policy | None = None, **how: Any
) -> AsyncIterator[House]:
    """Rule `m` leads to `targets`, each an upstream of its own or `local`, all of them the puppet."""
    names = targets or ("a",)
    async with running(local=puppet, cloud=puppet, **how) as house:
        house.snapshot = snapshot(
            rules=[rule("m", *names, policy="p" if policy is not None else "default")],
            upstreams=[upstream(name) for name in names if name != "local"],
            policies=[policy] if policy is not None else [],
        )
        yield house


async def asked(house: House, *, stream: bool = True, **how: Any) -> tuple[int, bytes]:
    async with house.http.post(PATH, json=chat("m", stream=stream), **how) as reply:
        return reply.status, await reply.read()


def events_of(data: bytes) -> list[Any]:
    return [_json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]


def comments_before(data: bytes, mark: bytes) -> int:
    return sum(line.startswith(b":") for line in data.partition(mark)[0].splitlines())


def attempts_left() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("attempt")]


async def raw_reply(house: House, head: str, *, within: float = 2.0) -> bytes:
    """Say it as it is written here and read until the gateway closes."""
    body = _json.dumps(chat("m", stream=True)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        writer.write(
            f"{head}\r\nhost: 127.0.0.1:{house.port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        async with asyncio.timeout(within):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_failed_target_is_closed_before_the_next_is_opened() -> None:
    closed: list[bool] = []
    second = Answer(head=[lambda: closed.append(puppet.all_closed)])
    puppet = Puppet(Answer([CHAT[0], failure()]), second)
    async with house_of(puppet, "a", "b") as house:
        assert await asked(house) == (200, b"".join(CHAT))
    assert closed == [True]
    assert puppet.all_closed


async def test_a_target_that_is_too_slow_is_closed_before_the_next_is_opened() -> None:
    closed: list[bool] = []
    second = Answer(head=[lambda: closed.append(puppet.all_closed)])
    puppet = Puppet(Answer([CHAT[0], asyncio.Event()]), second)
    async with house_of(puppet, "a", "b", policy=Policy(name="p", first_token_s=0.05)) as house:
        assert await asked(house) == (200, b"".join(CHAT))
        line = await house.logged()
    assert closed == [True]
    assert line["attempts"].startswith("a/m=slow")
    assert line["by"] == "b/m"


WAITING: dict[str, tuple[Callable[[], Answer], bool]] = {
    "before the head": (lambda: Answer(head=[asyncio.Event()]), True),
    "before the content": (lambda: Answer([CHAT[0], asyncio.Event()]), True),
    "in the stream": (lambda: Answer([*CHAT[:3], asyncio.Event()]), True),
    "in a local stream": (lambda: local_stream(*events()[:3], asyncio.Event()), True),
    "in a whole reply": (lambda: json(whole()[:9], asyncio.Event()), False),
    "in a download": (lambda: Answer([b"ID3", asyncio.Event()], kind="audio/mpeg"), False),
    "between attempts": (lambda: Answer(head=[failure()]), False),
}


@pytest.mark.parametrize("when", WAITING)
async def test_a_client_that_leaves_leaves_nothing_behind(when: str) -> None:
    make, stream = WAITING[when]
    puppet = Puppet(make())
    target = "local" if "local" in when else "a"
    policy = Policy(name="p", retry_base_s=8.0)
    async with house_of(puppet, target, policy=policy, jitter=1.0) as house:
        before = house.counted("requests_in_flight")
        asking = asyncio.create_task(asked(house, stream=stream))
        await puppet.called()
        if "in a" in when or "in the" in when:
            async with asyncio.timeout(2):
                while not puppet.replies:
                    await asyncio.sleep(0)
        asking.cancel()
        line = await house.logged()
        await asyncio.sleep(0)
        assert line.status == 499
        assert puppet.all_closed
        assert attempts_left() == []
        assert house.relay.in_flight == 0
        assert house.counted("requests_in_flight") == before
        assert len(house.lines) == 1
        now = asyncio.get_running_loop().time()
        assert house.breakers.judge(Key(target, None, "m"), now).state is State.HEALTHY


async def test_a_client_that_leaves_while_an_attempt_is_being_stopped() -> None:
    """The attempt was out of the book already, so nobody closed its reply."""
    stopping = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopping.set()
            await asyncio.Event().wait()

    puppet = Puppet(Answer([CHAT[0], stubborn]))
    async with house_of(puppet, "a", "b", policy=Policy(name="p", first_token_s=0.02)) as house:
        asking = asyncio.create_task(asked(house))
        async with asyncio.timeout(2):
            await stopping.wait()
        asking.cancel()
        assert (await house.logged()).status == 499
        assert puppet.all_closed
        assert attempts_left() == []


@pytest.mark.parametrize("local", [True, False])
async def test_a_connection_that_closes_at_the_first_content(
    local: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The head could not be written; the clean-up failed over that and left the upstream open."""

    def hang_up() -> None:
        assert house.runner.server is not None
        for connection in house.runner.server.connections:
            assert connection.transport is not None
            connection.transport.close()

    pieces = events() if local else list(CHAT)
    answer = local_stream(pieces[0], hang_up, *pieces[1:]) if local else Answer([CHAT[0], hang_up, *CHAT[1:]])
    puppet = Puppet(answer)
    async with house_of(puppet, "local" if local else "a") as house:
        with pytest.raises(aiohttp.ClientError):
            await asked(house)
        assert (await house.logged()).status == 499
        assert puppet.all_closed
    assert "failed inside" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_heartbeats_go_on_while_targets_fail() -> None:
    """Each event began the waiting anew: three targets that fail in time made a silent minute."""

    def late() -> Answer:
        return Answer(head=[lambda: asyncio.sleep(0.09), failure()])

    puppet = Puppet(late(), late(), Answer())
    limits = Limits(heartbeat_s=0.12, write_s=60.0, reply_limit=1 << 20)
    async with house_of(puppet, "a", "b", "c", limits=limits) as house:
        _, data = await asked(house)
    assert data.count(b": waiting") == 1
    assert b": served-by c/m\n\n" in data
    assert data.endswith(b"".join(CHAT))


async def test_no_heartbeats_for_who_asked_for_no_stream() -> None:
    puppet = Puppet(json(lambda: asyncio.sleep(0.12), whole()))
    async with house_of(puppet, limits=FAST) as house:
        assert await asked(house, stream=False) == (200, whole())


@pytest.mark.parametrize(
    "answer",
    [
        json(lambda: asyncio.sleep(0.12), whole()),
        Answer([lambda: asyncio.sleep(0.12), b"ID3\x00\x01"], kind="audio/mpeg"),
    ],
    ids=["whole", "binary"],
)
async def test_after_a_heartbeat_only_events_can_follow(answer: Answer) -> None:
    """The client was promised events; a target that ignores `stream` must not be poured into them."""
    async with house_of(Puppet(answer), limits=FAST) as house:
        status, data = await asked(house)
        line = await house.logged()
    assert status == 200
    assert comments_before(data, b"data:") >= 1
    (event,) = events_of(data)
    assert "error" in event
    assert b"ID3" not in data
    assert "broken" in line


async def test_total_failure_after_a_heartbeat_is_told_in_the_log_too() -> None:
    """The status is 200 all the same, and nothing said that there was no answer."""
    puppet = Puppet(Answer(head=[lambda: asyncio.sleep(0.12), failure(message="it burns")]))
    async with house_of(puppet, limits=FAST, policy=Policy(name="p", attempts=1)) as house:
        status, data = await asked(house)
        line = await house.logged()
    assert status == 200
    (event,) = events_of(data)
    assert "it burns" in event["error"]["message"]
    assert b"[DONE]" not in data
    assert "it burns" in line["broken"]


async def test_anthropic_heartbeats_and_their_error() -> None:
    puppet = Puppet(Answer(head=[lambda: asyncio.sleep(0.12), failure(Outcome.OVERLOADED)]))
    async with running(cloud=puppet, limits=FAST) as house:
        house.snapshot = snapshot(
            rules=[rule("m", "a", policy="p")],
            upstreams=[upstream("a", dialect=Dialect.ANTHROPIC)],
            policies=[Policy(name="p", attempts=1)],
        )
        async with house.http.post("/v1/messages", json=chat("m", stream=True)) as reply:
            data = await reply.read()
    assert comments_before(data, b"event:") >= 1
    assert data.count(b"event: error\ndata: ") == 1
    (event,) = events_of(data)
    assert event["error"]["type"] == "overloaded_error"
    assert event["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("kind", ["raw", "local", "heartbeat", "whole", "refusal"])
async def test_allowed_origins_may_read_every_kind_of_answer(kind: str) -> None:
    """Streams went out without the header, so the browser kept them from the page that had asked."""
    answers = {
        "raw": Answer(),
        "local": local_stream(),
        "heartbeat": Answer(head=[lambda: asyncio.sleep(0.12)]),
        "whole": json(),
        "refusal": Answer(head=[failure(Outcome.CLIENT_FAULT)]),
    }
    server = Server(allowed_origins=("http://app.local",))
    puppet = Puppet(answers[kind])
    async with house_of(puppet, "local" if kind == "local" else "a", server=server, limits=FAST) as house:
        async with house.http.post(
            PATH, json=chat("m", stream=kind != "whole"), headers={"origin": "http://app.local"}
        ) as reply:
            await reply.read()
        assert reply.headers["access-control-allow-origin"] == "http://app.local"
        assert reply.headers["vary"] == "origin"
        assert reply.headers["server"] == "mlx-gateway"
        async with house.http.post(PATH, json=chat("m", stream=kind != "whole")) as reply:
            assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("target", ["a", "local", "heartbeat"])
async def test_http_1_0_streams_end_with_the_connection(connection: str, target: str) -> None:
    """Without chunks the end of the connection is the end of the body: kept alive, it never came."""
    answer = local_stream() if target == "local" else Answer()
    if target == "heartbeat":
        answer = Answer(head=[lambda: asyncio.sleep(0.12)])
    async with house_of(Puppet(answer), "local" if target == "local" else "a", limits=FAST) as house:
        data = await raw_reply(house, f"POST {PATH} HTTP/1.0\r\nconnection: {connection}")
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"keep-alive" not in head.lower()
    assert b"chunked" not in head.lower()
    assert body.endswith(b"".join(CHAT))


async def test_http_1_1_streams_keep_the_connection() -> None:
    async with house_of(Puppet(local_stream()), "local") as house:
        for _ in range(3):
            assert await asked(house) == (200, b"".join(CHAT))
        assert house.runner.server is not None
        assert len(house.runner.server.connections) == 1


async def test_a_bug_after_the_head_is_one_error_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second head was written into the running answer."""

    async def carry(_: Pump, attempt: Any, response: Any) -> None:
        await response.write(attempt.held[0])
        raise RuntimeError("a bug")

    monkeypatch.setattr(Pump, "carry", carry)
    async with house_of(Puppet()) as house:
        with caplog.at_level(logging.ERROR):
            status, data = await asked(house)
        line = await house.logged()
    assert status == 200
    assert b"HTTP/1.1" not in data
    assert data.startswith(CHAT[0])
    assert "the gateway failed" in events_of(data)[-1]["error"]["message"]
    assert data.count(b'"error"') == 1
    assert "a bug" in caplog.text
    assert line["broken"]


async def test_a_bug_in_a_download_is_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def carry(_: Pump, attempt: Any, response: Any) -> None:
        await response.write(attempt.held[0])
        raise RuntimeError("a bug")

    monkeypatch.setattr(Pump, "carry", carry)
    puppet = Puppet(Answer([b"ID3"], kind="audio/mpeg"))
    async with house_of(puppet) as house, house.http.post("/v1/audio/speech", json=chat("m")) as reply:
        with pytest.raises(aiohttp.ClientError):
            await reply.read()


async def test_a_bug_before_the_head_is_a_500_and_booked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was booked as a client that had left, and its target was never probed again."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(downstream, "put_head", broken)
    async with house_of(Puppet()) as house:
        now = asyncio.get_running_loop().time()
        key = Key("a", None, "m")
        for at in range(5):
            house.breakers.record(key, failure(), now - 100 + at, started=now - 101)
        status, data = await asked(house)
        assert status == 500
        assert b"a bug" not in data
        line = await house.logged()
        assert line.status == 500
        assert house.breakers.judge(key, asyncio.get_running_loop().time()).state is not State.PROBING
        assert house.relay.in_flight == 0


async def test_interrupt_ends_who_waits() -> None:
    puppet = Puppet(Answer(head=[asyncio.Event()]))
    async with house_of(puppet) as house:
        asking = asyncio.create_task(asked(house, stream=False))
        await puppet.called()
        house.relay.interrupt("going down")
        status, data = await asking
        assert status == 503
        error = _json.loads(data)["error"]
        assert (error["code"], error["message"]) == ("shutting_down", "going down")
        assert attempts_left() == []


async def test_interrupt_after_a_heartbeat_is_an_event() -> None:
    puppet = Puppet(Answer(head=[asyncio.Event()]))
    async with house_of(puppet, limits=FAST) as house:
        reply = await house.http.post(PATH, json=chat("m", stream=True))
        await reply.content.readuntil(b"\n\n")
        house.relay.interrupt("going down")
        (event,) = events_of(await reply.read())
        assert event["error"]["message"] == "going down"


@pytest.mark.parametrize("target", ["a", "local"])
async def test_interrupt_in_the_moment_of_commit(target: str) -> None:
    """It came between the first content and the pump: neither heard of it, and the stream was cut."""

    def interrupt() -> None:
        house.relay.interrupt("going down")

    pieces = events() if target == "local" else list(CHAT)
    answer = (local_stream if target == "local" else lambda *p: Answer(list(p)))(
        pieces[0], interrupt, pieces[1], asyncio.Event()
    )
    async with house_of(Puppet(answer), target) as house:
        async with asyncio.timeout(2):
            status, data = await asked(house)
        assert status in (200, 503)
        assert data.count(b"going down") == 1


async def test_interrupt_mid_stream_is_one_event() -> None:
    puppet = Puppet(Answer([*CHAT[:3], asyncio.Event()]))
    async with house_of(puppet) as house:
        reply = await house.http.post(PATH, json=chat("m", stream=True))
        await reply.content.readany()
        house.relay.interrupt("going down")
        house.relay.interrupt("going down twice")
        data = await reply.read()
        assert data.count(b"going down") == 1
        assert b"[DONE]" not in data
        assert "going down" in (await house.logged())["broken"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_takes_nothing_is_cut_off(stream: bool) -> None:
    """Of a whole reply, and of a stream's end, nobody watched that the client takes it."""
    text = "x" * 20_000_000
    part = canned.chat_chunk({"content": "x" * 1_000_000})
    big = [*[part] * 20, canned.chat_chunk({}, finish="stop") + canned.DONE]
    answer = Answer(big) if stream else json(whole(text))
    limits = Limits(heartbeat_s=15.0, write_s=0.2, reply_limit=1 << 26)
    async with house_of(Puppet(answer), limits=limits) as house:
        body = _json.dumps(chat("m", stream=stream)).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=1)
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{house.port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        line = await house.logged()
        assert line.status == 499
        async with asyncio.timeout(2):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(20_000_000)
        writer.close()


async def test_interrupt_does_not_wait_for_a_client_that_takes_nothing() -> None:
    part = canned.chat_chunk({"content": "x" * 1_000_000})
    async with house_of(Puppet(Answer([*[part] * 20, canned.DONE]))) as house:
        reply = await house.http.post(PATH, json=chat("m", stream=True))
        house.relay.interrupt("going down")
        async with asyncio.timeout(2):
            line = await house.logged()
        assert "going down" in line["broken"]
        reply.close()


async def test_a_slow_client_gets_a_large_reply_whole() -> None:
    body = whole("x" * 3_000_000)
    limits = Limits(heartbeat_s=15.0, write_s=5.0, reply_limit=1 << 26)
    async with house_of(Puppet(json(body)), limits=limits) as house:
        async with house.http.post(PATH, json=chat("m")) as reply:
            assert reply.headers["content-length"] == str(len(body))
            assert await reply.read() == body
        line = await house.logged()
        assert line.status == 200
        assert line["out"] == 4 or line["out"] > 0


async def test_only_one_line_and_one_count_for_each_request() -> None:
    puppet = Puppet(Answer(head=[failure()]), Answer())
    async with house_of(puppet, "a", "b") as house:
        before = house.counted("requests_total", backend="b", status="200")
        moved = house.counted("failovers_total", backend="b")
        assert (await asked(house))[0] == 200
        await house.logged()
        assert house.counted("requests_total", backend="b", status="200") == before + 1
        assert house.counted("failovers_total", backend="b") == moved + 1
        assert len(house.lines) == 1


async def test_every_answer_says_where_it_came_from() -> None:
    puppet = Puppet(Answer(head=[failure()]), Answer())
    async with (
        house_of(puppet, "a", "b") as house,
        house.http.post(PATH, json=chat("m", stream=True)) as reply,
    ):
        await reply.read()
    assert reply.headers["x-gateway-served-by"] == "b/m"
    assert reply.headers["x-gateway-rule"] == "m"
    assert reply.headers["x-gateway-attempts"].startswith("a/m=server_fault;dur=")
    assert ", b/m=ok;dur=" in reply.headers["x-gateway-attempts"]
    assert reply.headers["server-timing"].startswith("gateway;dur=")
