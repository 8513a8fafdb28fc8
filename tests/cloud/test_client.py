"""The client against an upstream that behaves and one that doesn't: each fault is one failure, told truly."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.backend import AttemptFailed, Framing
from gateway.cloud.client import CloudClient
from gateway.cloud.credentials import Credentials
from gateway.cloud.offline import Answer
from gateway.config import Cloud
from gateway.errors import ConfigError, RequestError, SecretError
from gateway.failover.outcome import Outcome
from gateway.snapshot import AuthStyle, Upstream
from gateway.wire.dialect import Dialect
from tests import canned
from tests.cloud.conftest import (
    CHAT,
    SECRET,
    Body,
    call_to,
    credential_for,
    failure_of,
    now,
    upstream_at,
    whole,
)
from tests.cloud.network import Network
from tests.lab import Lab

Connect = Callable[..., CloudClient]


async def ask(client: CloudClient, lab: Lab, body: bytes | Body | None = b"{}", **call: Any) -> bytes:
    reply = await client.open(call_to(upstream_at(lab.base_url), body, **call), deadline=now() + 5)
    return await whole(reply)


# --- what goes out and comes back


async def test_bodies_are_the_same_bytes_on_both_sides(lab: Lab, client: CloudClient) -> None:
    sent = b'{ "model":"m","n":1.0000000000000000001, "z":"\\u00e9 \xc3\xa9", "stream" : true}\r\n'
    events = [b'data: {"a":1}\r\n\r\n', b": comment\n\n", b"event: x\rdata: y\r\r", b"data: [DONE]\n\n"]
    lab.script(CHAT, lab.sse(events, segment=3))
    reply = await client.open(call_to(upstream_at(lab.base_url), sent), deadline=now() + 5)
    assert (reply.status, reply.framing) == (200, Framing.RAW)
    assert await whole(reply) == b"".join(events)
    assert lab.seen[0].body == sent
    assert lab.seen[0].header("content-length") == str(len(sent))


async def test_path_and_query_are_the_same_bytes(lab: Lab, client: CloudClient) -> None:
    await ask(client, lab, None, path="/v1/files/a%2Fb%20c", query="x=%2f&y=a+b&z")
    assert lab.seen[0].target == "/v1/files/a%2Fb%20c?x=%2f&y=a+b&z"


async def test_the_upstream_sees_our_key_and_nothing_of_the_clients(lab: Lab, client: CloudClient) -> None:
    upstream = upstream_at(lab.base_url, auth=AuthStyle.BEARER)
    headers = (("Authorization", "Bearer client"), ("Cookie", "c=1"), ("X-Forwarded-For", "1.2.3.4"))
    call = call_to(upstream, headers=headers, credential=credential_for(upstream))
    await whole(await client.open(call, deadline=now() + 5))
    seen = lab.seen[0]
    assert [value for name, value in seen.headers if name == "authorization"] == [f"Bearer {SECRET}"]
    assert seen.header("accept-encoding") == "identity"
    assert seen.header("host") == f"127.0.0.1:{lab.port}"
    assert not {"cookie", "x-forwarded-for"} & {name.lower() for name, _ in seen.headers}


async def test_a_reply_shows_what_a_client_may_see(lab: Lab, client: CloudClient) -> None:
    fields = [("Set-Cookie", "a=b"), ("X-Request-ID", "up"), ("X-RateLimit-Limit", "3"), ("Server", "lab")]
    lab.script(CHAT, lab.json({}, headers=fields))
    reply = await client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5)
    assert reply.headers == (
        ("content-type", "application/json"),
        ("x-upstream-request-id", "up"),
        ("x-ratelimit-limit", "3"),
    )
    await reply.aclose()


async def test_connections_are_used_again(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.chat(), lab.error(500), lab.chat(framing="chunked"))
    upstream = upstream_at(lab.base_url)
    await ask(client, lab)
    await failure_of(client, call_to(upstream))
    for _ in range(2):
        await ask(client, lab)
    assert [seen.connection for seen in lab.seen] == [1, 1, 1, 1]


async def test_the_first_event_is_there_while_the_second_is_held(lab: Lab, client: CloudClient) -> None:
    gate = asyncio.Event()
    lab.script(CHAT, lab.sse([b"data: 1\n\n", gate, b"data: 2\n\n"]))
    reply = await client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5)
    chunks = reply.chunks()
    assert await anext(chunks) == b"data: 1\n\n"
    gate.set()
    assert await anext(chunks) == b"data: 2\n\n"
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_an_event_line_of_four_megabytes_passes(lab: Lab, client: CloudClient) -> None:
    event = b"data: " + b"x" * (4 << 20) + b"\n\n"
    lab.script(CHAT, lab.sse([event]))
    assert hashlib.sha256(await ask(client, lab)).digest() == hashlib.sha256(event).digest()


async def test_a_streamed_upload_is_chunked_or_of_the_announced_size(lab: Lab, client: CloudClient) -> None:
    piece = bytes(range(256)) * 1024

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield piece

    digest = hashlib.sha256(piece * 40).hexdigest()
    for announced in (None, 40 * len(piece)):
        body = Body(pieces=pieces, announced=announced)
        assert json.loads(await ask(client, lab, body, path="/v1/files"))["sha256"] == digest
    assert lab.seen[0].header("transfer-encoding") == "chunked"
    assert lab.seen[1].header("content-length") == str(40 * len(piece))
    assert lab.seen[0].connection == lab.seen[1].connection


async def test_a_large_body_in_memory_arrives_whole(lab: Lab, client: CloudClient) -> None:
    body = b"[" + b"7," * (2 << 20) + b"7]"
    assert (
        json.loads(await ask(client, lab, body, path="/v1/x"))["sha256"] == hashlib.sha256(body).hexdigest()
    )


async def test_head_and_no_content_have_no_body(lab: Lab, client: CloudClient) -> None:
    lab.script("/v1/x", lab.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", then=None))
    lab.script("/v1/x", lab.raw(b"HTTP/1.1 204 No Content\r\n\r\n", then=None))
    assert await ask(client, lab, None, path="/v1/x", method="HEAD") == b""
    assert await ask(client, lab, None, path="/v1/x", method="DELETE") == b""
    assert await ask(client, lab)
    assert {seen.connection for seen in lab.seen} == {1}


async def test_an_interim_reply_is_not_the_reply(lab: Lab, client: CloudClient) -> None:
    wire = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    lab.script(CHAT, lab.raw(wire, then=None))
    assert await ask(client, lab) == b"ok"


# --- no connection


async def test_a_closed_port_is_a_connect_fault(lab: Lab, client: CloudClient) -> None:
    await lab.refuse()
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert (failure.outcome, failure.code) == (Outcome.CONNECT_FAULT, "upstream_unreachable")
    assert "refused" in failure.message and not failure.stale


NOWHERE = upstream_at("http://nowhere.invalid/v1")


async def test_a_name_that_does_not_exist_is_a_connect_fault(connect: Connect) -> None:
    network = Network()
    network.default = Answer.MISSING
    failure = await failure_of(connect(network=network), call_to(NOWHERE))
    assert (failure.outcome, failure.code) == (Outcome.CONNECT_FAULT, "upstream_dns_error")
    assert not failure.offline


async def test_a_name_is_reached_as_soon_as_it_appears(
    lab: Lab, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed look-up is not remembered."""
    network = Network()
    network.default = Answer.MISSING
    client = connect(network=network)
    upstream = upstream_at(f"http://nowhere.invalid:{lab.port}/v1")
    for _ in range(2):
        assert (await failure_of(client, call_to(upstream))).code == "upstream_dns_error"
    loop, asked = asyncio.get_running_loop(), asyncio.get_running_loop().getaddrinfo

    async def appeared(host: str, *args: Any, **more: Any) -> Any:
        return await asked("127.0.0.1" if host == "nowhere.invalid" else host, *args, **more)

    monkeypatch.setattr(loop, "getaddrinfo", appeared)
    assert await whole(await client.open(call_to(upstream), deadline=now() + 5))


async def test_a_fault_while_the_machine_is_offline_is_not_the_upstreams(connect: Connect) -> None:
    network = Network()
    network.down()
    client = connect(network=network)
    for _ in range(2):
        failure = await failure_of(client, call_to(NOWHERE))
        assert (failure.outcome, failure.code, failure.offline) == (Outcome.CONNECT_FAULT, "offline", True)
        assert failure.message == "this machine is offline: there is no route to the internet"


async def test_what_has_no_route_is_not_even_tried(connect: Connect) -> None:
    network = Network()
    network.down()
    failure = await failure_of(connect(network=network), call_to(upstream_at("http://10.0.0.7/v1")))
    assert (failure.code, failure.offline) == ("offline", True)


async def test_who_loses_patience_while_connecting_raises_a_doubt(lab: Lab, connect: Connect) -> None:
    """With a first-token limit below the connect limit no connect fault ever comes to be."""
    network = Network()
    client = connect(network=network)
    lab.mute = True
    upstream = upstream_at(f"https://mute.test:{lab.port}/v1", connect_s=30)
    loop = asyncio.get_running_loop()
    here = asyncio.ensure_future(loop.getaddrinfo("127.0.0.1", lab.port, type=socket.SOCK_STREAM))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "getaddrinfo", lambda *_, **__: here)
        task = asyncio.ensure_future(client.open(call_to(upstream), deadline=now() + 5))
        while not lab.peers:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(2):
        while network.asked != ["mute.test"]:
            await asyncio.sleep(0.001)


async def test_going_offline_closes_idle_connections(lab: Lab, connect: Connect) -> None:
    network = Network()
    client = connect(network=network)
    await ask(client, lab)
    network.down()
    client.presence.doubt(upstream_at("http://a.test/v1"))
    await asyncio.wait_for(lab.peers[0].gone.wait(), 1)


async def test_a_request_that_must_stay_here_does_not_pass_the_door(lab: Lab, client: CloudClient) -> None:
    """The plan leaves nothing of the kind; should it ever, this is the second lock."""
    failure = await failure_of(client, call_to(upstream_at(lab.base_url), local_only=True))
    assert (failure.outcome, failure.code) == (Outcome.UNSUPPORTED, "local_only")
    assert lab.accepted == 0


@pytest.mark.parametrize("fault", ["wrong name", "expired", "unknown authority"])
async def test_a_certificate_that_is_not_trusted_is_a_connect_fault(fault: str, connect: Connect) -> None:
    shown = "good" if fault == "unknown authority" else fault
    async with Lab(tls=shown) as lab:  # type: ignore[arg-type]
        client = connect(ca_file="" if shown != fault else lab.ca_file)
        failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
        assert (failure.outcome, failure.code) == (Outcome.CONNECT_FAULT, "upstream_tls_error")
        assert lab.hits == 0


async def test_a_private_authority_can_be_trusted(connect: Connect) -> None:
    async with Lab(tls="good") as lab:
        client = connect(ca_file=lab.ca_file)
        assert await ask(client, lab)
        assert await ask(client, lab)
        assert lab.accepted == 1


def test_a_bad_ca_file_is_told_at_the_start(tmp_path: Any) -> None:
    path = tmp_path / "ca.pem"
    for text in (None, "not a certificate"):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=r"cloud\.ca_file"):
            CloudClient(replace(Cloud(), ca_file=str(path)), Credentials(lambda _: None))  # type: ignore[arg-type,return-value]


async def test_a_network_that_swallows_everything_ends_at_the_connect_limit(client: CloudClient) -> None:
    """No refusal comes back, as from a firewall: here from a queue that takes no more."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        upstream = upstream_at(f"http://127.0.0.1:{full.getsockname()[1]}/v1", connect_s=0.2)
        began = now()
        failure = await failure_of(client, call_to(upstream))
        assert (failure.outcome, failure.code) == (Outcome.CONNECT_FAULT, "upstream_unreachable")
        assert "within 0.2 s" in failure.message
        assert not failure.offline
        assert now() - began < 0.7
        for each in waiting:
            each.close()


async def test_tls_to_a_port_that_says_nothing_ends_at_the_connect_limit(
    lab: Lab, client: CloudClient
) -> None:
    lab.mute = True
    upstream = upstream_at(lab.base_url.replace("http:", "https:"), connect_s=0.1)
    began = now()
    failure = await failure_of(client, call_to(upstream))
    assert (failure.outcome, failure.code) == (Outcome.CONNECT_FAULT, "upstream_unreachable")
    assert now() - began < 0.5
    await asyncio.wait_for(lab.peers[0].gone.wait(), 1)


async def test_a_client_that_leaves_during_the_handshake_leaves_no_connection(
    lab: Lab, client: CloudClient
) -> None:
    lab.mute = True
    upstream = upstream_at(lab.base_url.replace("http:", "https:"))
    task = asyncio.ensure_future(client.open(call_to(upstream), deadline=now() + 5))
    while not lab.peers:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(lab.peers[0].gone.wait(), 1)


async def test_a_full_pool_is_no_fault_of_the_target(lab: Lab, connect: Connect) -> None:
    client = connect(max_connections=1)
    lab.script(CHAT, lab.hang())
    upstream = upstream_at(lab.base_url, connect_s=0.05)
    held = asyncio.ensure_future(client.open(call_to(upstream), deadline=now() + 5))
    await lab.arrived()
    failure = await failure_of(client, call_to(upstream))
    assert (failure.outcome, failure.code) == (Outcome.OVERLOADED, "connections_in_use")
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert await ask(client, lab), "a cancelled call gives its place back"


# --- no head


async def test_no_head_by_the_deadline_is_slow_and_the_upstream_sees_us_leave(
    lab: Lab, client: CloudClient
) -> None:
    lab.script(CHAT, lab.hang())
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)), within=0.05)
    assert (failure.outcome, failure.code) == (Outcome.SLOW, "upstream_timeout")
    await lab.seen[0].gone()


async def test_a_client_that_leaves_before_the_head_stops_the_upstream(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.hang())
    task = asyncio.ensure_future(client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5))
    seen = await lab.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await seen.gone()


@pytest.mark.parametrize("end", ["drop", "reset"])
async def test_a_fresh_connection_that_ends_without_a_reply_is_a_server_fault(
    lab: Lab, client: CloudClient, end: str
) -> None:
    lab.script(CHAT, getattr(lab, end)())
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert (failure.outcome, failure.stale) == (Outcome.SERVER_FAULT, False)


@pytest.mark.parametrize("end", ["drop", "reset"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_kept_connection_that_was_dead_already_is_stale(
    lab: Lab, client: CloudClient, end: str, method: str
) -> None:
    await ask(client, lab)
    lab.script(CHAT, getattr(lab, end)())
    call = call_to(upstream_at(lab.base_url), None if method == "GET" else b"{}")
    failure = await failure_of(client, call)
    assert (failure.outcome, failure.stale) == (Outcome.CONNECT_FAULT, True)
    assert lab.hits == 2, "not sent again behind our back"


async def test_after_a_stale_connection_the_next_try_gets_a_fresh_one(lab: Lab, client: CloudClient) -> None:
    gate = asyncio.Event()
    lab.script(CHAT, *[lab.body([gate, b"{}"], framing="chunked") for _ in range(3)])
    asks = [asyncio.ensure_future(ask(client, lab)) for _ in range(3)]
    await lab.arrived(3)
    gate.set()
    await asyncio.gather(*asks)
    lab.script(CHAT, lab.drop())
    assert (await failure_of(client, call_to(upstream_at(lab.base_url)))).stale
    await ask(client, lab)
    assert lab.seen[-1].connection == 4


async def test_what_came_unasked_on_an_idle_connection_answers_no_request(
    lab: Lab, client: CloudClient
) -> None:
    """A server may say 408 on an idle connection, or something worse: the next answer would be that."""
    gate, said = asyncio.Event(), asyncio.Event()

    async def then_more(exchange: Any) -> None:
        await lab.json({"asked": True})(exchange)
        await exchange.wait(gate)
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked")
        said.set()

    lab.script(CHAT, then_more)
    assert await ask(client, lab) == b'{"asked": true}'
    gate.set()
    await said.wait()
    for _ in range(5):
        await asyncio.sleep(0)  # what crosses our request on the wire nobody can tell from its answer
    assert json.loads(await ask(client, lab))["object"] == "chat.completion"
    assert lab.seen[-1].connection == 2


@pytest.mark.parametrize(
    "wire",
    [
        b"SPAM\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"\x16\x03\x01\x00",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_garbage_is_a_server_fault_and_no_400(lab: Lab, client: CloudClient, wire: bytes) -> None:
    lab.script(CHAT, lab.raw(wire))
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert failure.outcome is Outcome.SERVER_FAULT
    assert failure.status != 400


async def test_endless_headers_are_a_server_fault(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.huge_headers())
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert (failure.outcome, failure.code) == (Outcome.SERVER_FAULT, "upstream_bad_reply")


async def test_a_long_policy_header_is_fine(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.huge_headers(20_000))
    assert await ask(client, lab) == b"{}"


# --- replies that are no answer


async def test_an_error_carries_status_body_and_headers(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.error(429, "slow down", retry_after=7, headers=[("set-cookie", "a=b")]))
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert (failure.outcome, failure.status, failure.retry_after_s) == (Outcome.RATE_LIMITED, 429, 7.0)
    assert failure.body == canned.dump(canned.openai_error(429, "slow down"))
    assert failure.headers == (("content-type", "application/json"), ("retry-after", "7"))


async def test_a_compressed_error_is_read(lab: Lab, client: CloudClient) -> None:
    plain = canned.dump(canned.openai_error(401, "bad key"))
    lab.script(CHAT, lab.compressed(plain, status=401))
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert (failure.outcome, failure.body) == (Outcome.AUTH, plain)


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_an_error_that_breaks_off_is_still_that_error(lab: Lab, client: CloudClient, cut: str) -> None:
    lab.script(CHAT, lab.error(503, cut=cut, cut_at=10))
    assert (await failure_of(client, call_to(upstream_at(lab.base_url)))).status == 503


async def test_an_error_whose_body_never_ends_does_not_hold_the_request(
    lab: Lab, client: CloudClient
) -> None:
    lab.script(CHAT, lab.error(500, cut="stall", cut_at=10))
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)), within=0.1)
    assert failure.status == 500
    await lab.seen[0].gone()


async def test_a_huge_error_is_read_to_its_bound(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.body(b"x" * (1 << 20), status=500, content_type="text/html"))
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert failure.body == b"x" * (1 << 16)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(lab: Lab, client: CloudClient, status: int) -> None:
    async with Lab() as elsewhere:
        lab.script(CHAT, lab.redirect(elsewhere.url + CHAT, status))
        failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
        assert (failure.outcome, failure.status) == (Outcome.SERVER_FAULT, status)
        assert elsewhere.accepted == 0
    await ask(client, lab)


async def test_a_key_that_cannot_be_opened_is_an_auth_failure_and_nothing_is_sent(lab: Lab) -> None:
    def unseal(_: object) -> Any:
        raise SecretError("the credential lab/default can't be opened; enter it again")

    client = CloudClient(Cloud(), Credentials(unseal))
    upstream = upstream_at(lab.base_url, auth=AuthStyle.BEARER)
    failure = await failure_of(client, call_to(upstream, credential=credential_for(upstream)))
    assert failure.outcome is Outcome.AUTH
    assert lab.accepted == 0
    await client.close()


# --- the client's own body


async def test_what_the_clients_body_raises_comes_out_as_it_is(lab: Lab, client: CloudClient) -> None:
    for error in (RequestError("too slow", status=408), ConnectionResetError("client left")):

        async def pieces(error: Exception = error) -> AsyncIterator[bytes]:
            yield b"first"
            raise error

        with pytest.raises(type(error)) as caught:
            await ask(client, lab, Body(pieces=pieces))
        assert caught.value is error


@pytest.mark.parametrize("announced", [3, 9])
async def test_a_body_of_another_size_than_announced_is_not_passed_on(
    lab: Lab, client: CloudClient, announced: int
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"12345"

    with pytest.raises(ValueError, match="were announced"):
        await ask(client, lab, Body(pieces=pieces, announced=announced))
    assert lab.hits == 0


async def test_an_answer_before_the_end_of_the_upload_is_the_answer(lab: Lab, client: CloudClient) -> None:
    stopped = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            stopped.set()

    lab.script("/v1/files", lab.early(lab.error(413)))
    call = call_to(upstream_at(lab.base_url), Body(pieces=pieces), path="/v1/files")
    assert (await failure_of(client, call)).status == 413
    await asyncio.wait_for(stopped.wait(), 1)


async def test_a_good_answer_before_the_end_of_the_upload_is_whole(lab: Lab, client: CloudClient) -> None:
    gate = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"12"
        await gate.wait()
        yield b"345"

    for announced in (5, None):
        lab.script("/v1/files", lab.early(lab.json({"early": True})))
        body = Body(pieces=pieces, announced=announced)
        call = call_to(upstream_at(lab.base_url), body, path="/v1/files")
        reply = await client.open(call, deadline=now() + 5)
        for _ in range(5):
            await asyncio.sleep(0)
        assert await whole(reply) == b'{"early": true}'
    assert await ask(client, lab)
    assert lab.accepted == 3, "a connection that still waits for the rest of a body takes no other request"


async def test_an_upload_that_nobody_takes_ends_with_the_client(lab: Lab, client: CloudClient) -> None:
    """Aborted, not closed: closing would first try to write what the upstream does not take."""
    lab.mute = True
    body = bytes(32 << 20)
    task = asyncio.ensure_future(client.open(call_to(upstream_at(lab.base_url), body), deadline=now() + 9))
    while not lab.accepted:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(client.close(), 0.5)


# --- lists of models


async def test_models_of_an_openai_upstream(lab: Lab, client: CloudClient) -> None:
    lab.script("/v1/models", lab.models("a", "b"))
    upstream = upstream_at(lab.base_url, auth=AuthStyle.BEARER)
    names = await client.list_models(upstream, credential_for(upstream), deadline=now() + 5)
    assert names == ["a", "b"]
    assert lab.seen[0].header("authorization") == f"Bearer {SECRET}"


def anthropic(lab: Lab) -> Upstream:
    return upstream_at(lab.base_url, dialect=Dialect.ANTHROPIC)


async def test_models_of_an_anthropic_upstream_come_in_pages_but_not_for_ever(
    lab: Lab, client: CloudClient
) -> None:
    for number in range(9):
        lab.script("/v1/models", lab.json(canned.anthropic_models([f"m{number}"], has_more=True)))
    assert await client.list_models(anthropic(lab), None, deadline=now() + 5) == [f"m{n}" for n in range(5)]
    assert lab.seen[0].query == "limit=1000"
    assert lab.seen[1].query == "limit=1000&after_id=m0"
    assert lab.seen[0].header("anthropic-version") == "2023-06-01"


async def test_a_list_that_is_none_is_a_failure(lab: Lab, client: CloudClient) -> None:
    lab.script("/v1/models", lab.body(b"<html>"), lab.error(401), lab.json([], cut="stall"))
    for outcome, within in ((Outcome.SERVER_FAULT, 5.0), (Outcome.AUTH, 5.0), (Outcome.SLOW, 0.1)):
        with pytest.raises(AttemptFailed) as caught:
            await client.list_models(upstream_at(lab.base_url), None, deadline=now() + within)
        assert caught.value.failure.outcome is outcome


# --- its life


async def test_idle_connections_can_be_dropped_while_others_go_on(lab: Lab, client: CloudClient) -> None:
    gate = asyncio.Event()
    await ask(client, lab)
    first = lab.seen[0]
    lab.script(CHAT, lab.chat(), lab.sse([b"1", gate, b"2"]))
    running, idle = await asyncio.gather(
        client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5),
        client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5),
    )
    await whole(running)
    client.close_idle()
    await first.gone()
    gate.set()
    assert await whole(idle) == b"12"


async def test_a_closed_client_answers_nothing_and_leaves_nothing(lab: Lab, client: CloudClient) -> None:
    lab.script(CHAT, lab.sse([b"1"], cut="stall"))
    reply = await client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5)
    await client.close()
    await lab.seen[0].gone()
    await reply.aclose()
    failure = await failure_of(client, call_to(upstream_at(lab.base_url)))
    assert failure.outcome is Outcome.CLIENT_LEFT


async def test_without_keep_alive_every_call_has_its_own_connection(lab: Lab, connect: Connect) -> None:
    client = connect(keepalive_s=0.0)
    await ask(client, lab)
    await ask(client, lab)
    assert lab.accepted == 2


async def test_a_changed_upstream_is_used_at_once(lab: Lab, client: CloudClient) -> None:
    await ask(client, lab)
    async with Lab() as other:
        await ask(client, other)
        assert other.hits == 1
