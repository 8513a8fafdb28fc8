"""Replies that break after their head: what came before is whole, and the break is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.backend import AttemptFailed
from gateway.cloud.client import CloudClient
from gateway.cloud.reply import CloudReply
from gateway.failover.outcome import Failure, Outcome
from tests import canned
from tests.behaviours import Behaviour
from tests.cloud.conftest import CHAT, call_to, now, upstream_at, whole
from tests.lab import Lab

EVENTS = [b"data: one\n\n", b"data: two\n\n"]
TEXT = b"".join(EVENTS)


async def begin(client: CloudClient, lab: Lab, behaviour: Behaviour) -> CloudReply:
    lab.script(CHAT, behaviour)
    return await client.open(call_to(upstream_at(lab.base_url)), deadline=now() + 5)


async def until_broken(reply: CloudReply) -> tuple[bytes, Failure]:
    got = bytearray()
    with pytest.raises(AttemptFailed) as caught:
        async for chunk in reply.chunks():
            got += chunk
    await reply.aclose()
    return bytes(got), caught.value.failure


@pytest.mark.parametrize("cut", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_cut_is_told_and_what_came_before_it_is_whole(
    lab: Lab, client: CloudClient, framing: str, cut: str
) -> None:
    """aiohttp raises before it hands out what it had read: text that the client paid for was lost."""
    for at in range(len(TEXT)):
        reply = await begin(client, lab, lab.sse(EVENTS, framing=framing, cut=cut, cut_at=at))
        got, failure = await until_broken(reply)
        assert got == TEXT[:at]
        assert (failure.outcome, failure.code) == (Outcome.SERVER_FAULT, "upstream_stream_interrupted")


async def test_what_came_in_the_same_moment_as_the_cut_is_not_lost(lab: Lab, client: CloudClient) -> None:
    done = asyncio.Event()

    async def cut(exchange: Any) -> None:
        try:
            await lab.sse(EVENTS, cut="fin")(exchange)
        finally:
            done.set()

    reply = await begin(client, lab, cut)
    await done.wait()
    for _ in range(5):
        await asyncio.sleep(0)  # the end has been read as well before the first chunk is asked for
    got, _failure = await until_broken(reply)
    assert got == TEXT


async def test_a_body_until_close_ends_with_fin_and_breaks_with_rst(lab: Lab, client: CloudClient) -> None:
    """A cut by FIN can't be told from the end here; that is for the terminal event to tell."""
    assert await whole(await begin(client, lab, lab.sse(EVENTS, framing="close"))) == TEXT
    reply = await begin(client, lab, lab.sse(EVENTS, framing="close", cut="rst", cut_at=15))
    got, failure = await until_broken(reply)
    assert got == TEXT[:15]
    assert failure.outcome is Outcome.SERVER_FAULT


async def test_a_compressed_stream_flows_and_its_missing_end_is_told(lab: Lab, client: CloudClient) -> None:
    plain = b"".join(canned.chat_stream())
    for encoding in ("gzip", "deflate"):
        reply = await begin(client, lab, lab.compressed(plain, encoding=encoding, segment=7))
        assert await whole(reply) == plain
        assert "content-encoding" not in dict(reply.headers)
    reply = await begin(client, lab, lab.compressed(plain, truncate=9))
    got, failure = await until_broken(reply)
    assert plain.startswith(got) and got
    assert "compressed" in failure.message


async def test_a_compressed_reply_that_is_cut_keeps_what_had_come(lab: Lab, client: CloudClient) -> None:
    plain = b"".join(canned.chat_stream("many words " * 200))
    reply = await begin(client, lab, lab.compressed(plain, cut="rst"))
    got, failure = await until_broken(reply)
    assert got == plain
    assert failure.code == "upstream_stream_interrupted"


async def test_junk_that_says_it_is_gzip(lab: Lab, client: CloudClient) -> None:
    reply = await begin(client, lab, lab.body(b"junk", headers=[("content-encoding", "gzip")]))
    got, failure = await until_broken(reply)
    assert (got, failure.outcome) == (b"", Outcome.SERVER_FAULT)


async def test_an_encoding_that_nobody_asked_for_and_knows_is_a_server_fault(
    lab: Lab, client: CloudClient
) -> None:
    with pytest.raises(AttemptFailed, match="'br'"):
        await begin(client, lab, lab.compressed(b"{}", encoding="br"))


@pytest.mark.parametrize("bomb", [False, True])
async def test_a_whole_reply_larger_than_will_be_held_is_cut_off(
    lab: Lab, connect: Callable[..., CloudClient], bomb: bool
) -> None:
    client = connect(max_reply_mb=1)
    huge = bytes(3 << 20)
    reply = await begin(client, lab, lab.compressed(huge) if bomb else lab.body(huge))
    got, failure = await until_broken(reply)
    assert len(got) <= 1 << 20
    assert (failure.outcome, "too large" in failure.message) == (Outcome.SERVER_FAULT, True)


async def test_a_file_may_be_larger_than_a_reply_that_is_held(
    lab: Lab, connect: Callable[..., CloudClient]
) -> None:
    client = connect(max_reply_mb=1)
    audio = lab.body(bytes(3 << 20), content_type="audio/mpeg")
    assert len(await whole(await begin(client, lab, audio))) == 3 << 20


async def test_closing_early_stops_the_upstream_at_once(lab: Lab, client: CloudClient) -> None:
    reply = await begin(client, lab, lab.sse([EVENTS[0]], cut="stall"))
    assert await anext(reply.chunks()) == EVENTS[0]
    await reply.aclose()
    await lab.seen[0].gone(within=0.2)
    await reply.aclose()


async def test_a_reader_is_woken_when_another_closes(lab: Lab, client: CloudClient) -> None:
    reply = await begin(client, lab, lab.sse([], cut="stall"))
    reading = asyncio.ensure_future(anext(reply.chunks()))
    await asyncio.sleep(0)
    await reply.aclose()
    with pytest.raises(AttemptFailed) as caught:
        await asyncio.wait_for(reading, 1)
    assert caught.value.failure.outcome is Outcome.CLIENT_LEFT


async def test_closing_a_complete_reply_keeps_its_connection(lab: Lab, client: CloudClient) -> None:
    await whole(await begin(client, lab, lab.sse(EVENTS)))
    await whole(await begin(client, lab, lab.sse(EVENTS)))
    assert lab.accepted == 1


async def test_a_slow_reader_holds_the_upstream_back(lab: Lab, client: CloudClient) -> None:
    """64 MB are offered, nobody reads: the upstream must not get rid of them."""
    reply = await begin(client, lab, lab.sse([bytes(1 << 20)] * 64))
    await anext(reply.chunks())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not lab.seen[0].answered
    await reply.aclose()
    await lab.seen[0].gone()
