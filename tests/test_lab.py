"""The lab does what it promises: judged by a plain socket, because clients smooth things over."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests import canned
from tests.lab import Lab

CHAT = "/v1/chat/completions"


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab() as lab:
        yield lab


@asynccontextmanager
async def dial(lab: Lab) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def post(path: str = CHAT, body: bytes = b"{}", fields: Iterable[str] = ()) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: lab", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


async def talk(lab: Lab, request: bytes) -> tuple[bytes, bool]:
    """Send, read until the lab ends the connection; was it a reset?"""
    got = b""
    async with dial(lab) as (reader, writer):
        writer.write(request)
        try:
            while data := await reader.read(65536):
                got += data
        except ConnectionResetError:
            return got, True
    return got, False


@pytest.fixture
def sdks() -> tuple[Any, Any]:
    """Imported late: they take seconds, and nothing else here needs them."""
    import anthropic
    import openai

    return openai, anthropic


async def test_every_default_is_what_its_sdk_can_read(sdks: tuple[Any, Any], lab: Lab) -> None:
    openai, anthropic = sdks
    async with openai.AsyncOpenAI(api_key="k", base_url=lab.base_url, max_retries=0) as client:
        ask = [{"role": "user", "content": "hi"}]
        whole = await client.chat.completions.create(model="m", messages=ask)
        assert whole.choices[0].message.content == canned.TEXT
        stream = await client.chat.completions.create(
            model="m", messages=ask, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == canned.TEXT
        assert chunks[-1].usage is not None
        assert (await client.responses.create(model="m", input="hi")).output_text == canned.TEXT
        kinds = [e.type async for e in await client.responses.create(model="m", input="hi", stream=True)]
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
        assert len((await client.embeddings.create(model="m", input=["a", "b"])).data) == 2
        assert [model.id async for model in client.models.list()] == [canned.MODEL]
        assert (await client.completions.create(model="m", prompt="x")).choices[0].text == canned.TEXT
    async with anthropic.AsyncAnthropic(api_key="k", base_url=lab.url, max_retries=0) as client:
        message = await client.messages.create(model="m", max_tokens=9, messages=ask)
        assert message.content[0].text == canned.TEXT
        async with client.messages.stream(model="m", max_tokens=9, messages=ask) as stream:
            assert (await stream.get_final_message()).stop_reason == "end_turn"
        assert [model.id async for model in client.models.list()] == [canned.MODEL]


async def test_a_queue_is_used_up_and_then_the_default_holds(lab: Lab) -> None:
    lab.script(CHAT, lab.error(429, retry_after=3), lab.json({"second": True}))
    lab.always(CHAT, lab.json({"default": True}))
    async with aiohttp.ClientSession() as client:
        for status, key in ((429, "error"), (200, "second"), (200, "default"), (200, "default")):
            async with client.post(lab.url + CHAT, json={}) as reply:
                assert reply.status == status
                assert key in await reply.json()
    assert lab.hits == 4
    assert {seen.connection for seen in lab.seen} == {1}, "kept alive, errors too"


async def test_it_records_what_came(lab: Lab) -> None:
    wire = post("/v1/files?a=%2F&b", b'{"x": 1}', ["X-Odd-CASE: yes", "x-odd-case: twice"])
    async with dial(lab) as (_, writer):
        writer.write(wire)
        seen = await lab.arrived()
    assert (seen.method, seen.target) == ("POST", "/v1/files?a=%2F&b")
    assert (seen.path, seen.query) == ("/v1/files", "a=%2F&b")
    assert ("X-Odd-CASE", "yes") in seen.headers and ("x-odd-case", "twice") in seen.headers
    assert seen.json == {"x": 1} and seen.sha256 == hashlib.sha256(b'{"x": 1}').hexdigest()
    await seen.gone()


async def test_a_large_upload_is_hashed_and_not_held() -> None:
    piece = b"0123456789abcdef" * 4096

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield piece

    async with Lab(keep=1000) as lab, aiohttp.ClientSession() as client:
        async with client.post(lab.base_url + "/files", data=upload()) as reply:
            told = await reply.json()
        seen = lab.seen[0]
    assert seen.header("transfer-encoding") == "chunked"
    assert told["size"] == seen.size == 64 * len(piece)
    assert told["sha256"] == seen.sha256 == hashlib.sha256(piece * 64).hexdigest()
    with pytest.raises(AssertionError, match="only its hash"):
        _ = seen.body


async def test_the_time_at_which_the_peer_leaves_is_known_in_a_silence(lab: Lab) -> None:
    lab.script(CHAT, lab.sse([canned.chat_role()], cut="stall"))
    async with dial(lab) as (reader, writer):
        writer.write(post())
        await reader.readuntil(b"\n\n")
        seen = await lab.arrived()
        assert not seen.left
        before = asyncio.get_running_loop().time()
    assert await seen.gone() >= before
    assert not seen.answered


async def test_gates_hold_a_stream(lab: Lab) -> None:
    gate = asyncio.Event()
    lab.script(CHAT, lab.sse([b"data: 1\n\n", gate, b"data: 2\n\n"]))
    async with dial(lab) as (reader, writer):
        writer.write(post())
        await reader.readuntil(b"data: 1\n\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.02)
        gate.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_cut_leaves_exactly_the_bytes_before_it(lab: Lab, framing: str, how: str) -> None:
    events = [b"data: one\n\n", b"data: two\n\n"]
    lab.script(CHAT, lab.sse(events, framing=framing, cut=how, cut_at=15))
    wire, was_reset = await talk(lab, post())
    head, _, body = wire.partition(b"\r\n\r\n")
    expected = b"b\r\ndata: one\n\n\r\nb\r\ndata" if framing == "chunked" else b"data: one\n\ndata"
    assert body == expected
    assert was_reset == (how == "rst")
    if framing == "length":
        assert b"content-length: 22\r\n" in head + b"\r\n"


async def test_a_cut_at_the_end_leaves_the_body_unfinished(lab: Lab) -> None:
    lab.script(CHAT, lab.json({}, cut="fin"), lab.sse([b"data: x\n\n"], cut="fin"))
    assert (await talk(lab, post()))[0].endswith(b"content-length: 3\r\n\r\n{}")
    assert (await talk(lab, post()))[0].endswith(b"data: x\n\n\r\n")


async def test_segments_cut_the_writes_and_not_the_bytes(lab: Lab) -> None:
    text = "größer ✓"
    lab.script(CHAT, lab.sse(canned.chat_stream(text), segment=1, framing="close"))
    wire, _ = await talk(lab, post())
    assert wire.partition(b"\r\n\r\n")[2] == b"".join(canned.chat_stream(text))


async def test_ends_without_an_answer(lab: Lab) -> None:
    lab.script(CHAT, lab.drop(), lab.reset(), lab.raw(b"SPAM 200\r\n\r\n"))
    assert await talk(lab, post()) == (b"", False)
    assert await talk(lab, post()) == (b"", True)
    assert await talk(lab, post()) == (b"SPAM 200\r\n\r\n", False)
    assert lab.hits == 3


async def test_a_closed_port_refuses_and_opens_again(lab: Lab) -> None:
    port = lab.port
    await lab.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await lab.accept()
    async with dial(lab):
        assert lab.port == port


async def test_a_mute_lab_accepts_and_says_nothing(lab: Lab) -> None:
    lab.mute = True
    async with dial(lab) as (reader, writer):
        writer.write(post())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
    assert (lab.accepted, lab.hits) == (1, 0)


async def test_early_answers_before_the_body(lab: Lab) -> None:
    lab.script(CHAT, lab.early(lab.error(413)))
    wire, _ = await talk(
        lab, post(fields=["Content-Type: text/plain"]).replace(b"Length: 2", b"Length: 9999")
    )
    assert wire.startswith(b"HTTP/1.1 413 ")
    assert not lab.seen[0].read_whole


async def test_compressed_replies_can_lack_their_end(lab: Lab) -> None:
    plain = canned.dump(canned.chat_whole())
    lab.script(CHAT, lab.compressed(plain, keep_alive=False))
    lab.script(CHAT, lab.compressed(plain, truncate=20, keep_alive=False))
    full, _ = await talk(lab, post())
    assert gzip.decompress(full.partition(b"\r\n\r\n")[2]) == plain
    cut, _ = await talk(lab, post())
    assert full.endswith(cut.partition(b"\r\n\r\n")[2] + full[-20:])


async def test_errors_speak_the_dialect_of_the_path(lab: Lab) -> None:
    lab.script(CHAT, lab.error(529, keep_alive=False))
    lab.script("/v1/messages", lab.error(529, keep_alive=False))
    openai = json.loads((await talk(lab, post()))[0].partition(b"\r\n\r\n")[2])
    anthropic = json.loads((await talk(lab, post("/v1/messages")))[0].partition(b"\r\n\r\n")[2])
    assert set(openai) == {"error"}
    assert anthropic["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("fault", ["", "wrong name", "expired", "unknown authority"])
async def test_certificates(fault: str) -> None:
    shown = "good" if fault in ("", "unknown authority") else fault
    async with Lab(tls=shown) as lab:  # type: ignore[arg-type]
        trust = ssl.create_default_context(cafile=None if fault == "unknown authority" else lab.ca_file)
        async with aiohttp.ClientSession() as client:
            if fault:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await client.get(lab.base_url + "/models", ssl=trust)
                assert lab.hits == 0
            else:
                async with client.get(lab.base_url + "/models", ssl=trust) as reply:
                    assert reply.status == 200


async def test_a_fault_in_a_tests_own_behaviour_is_not_swallowed() -> None:
    async def wrong(exchange: object) -> None:
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        async with Lab() as lab:
            lab.script(CHAT, wrong)
            await talk(lab, post())
