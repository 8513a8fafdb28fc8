"""After the first content: never a silent end, never a repeated word, never half an event."""

from __future__ import annotations

import asyncio
import json

import anthropic
import openai
import pytest

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"


async def _openai_text(daemon: Daemon, model: str) -> tuple[str, Exception | None]:
    """The text that the SDK yields, and what it raised at the end."""
    text = ""
    async with daemon.openai() as client:
        try:
            stream = await client.chat.completions.create(model=model, messages=[], stream=True)
            async for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            return text, error
    return text, None


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_a_cut_stream_ends_with_an_error(daemon: Daemon, lab: Lab, framing: str, cut: str) -> None:
    """200, half an answer, no error: what clients took for the whole answer (D7)."""
    model = await daemon.rule(await daemon.upstream(lab))
    events = canned.chat_stream(canned.TEXT)
    lab.script(CHAT, lab.sse(events[:4], framing=framing, cut=cut))
    text, error = await _openai_text(daemon, model)
    assert text
    assert canned.TEXT.startswith(text)
    assert isinstance(error, openai.APIError), error


async def test_every_place_of_a_cut_ends_with_an_error(daemon: Daemon, lab: Lab) -> None:
    """Cut at each byte: the SDK raises its own error, the text so far is a prefix, nothing is repeated."""
    model = await daemon.rule(await daemon.upstream(lab), policy=await daemon.policy(attempts=1))
    wire = b"".join(canned.chat_stream("one two three"))
    first = wire.index(b"one") + 30
    for at in range(first, len(wire) - 1, 23):
        lab.script(CHAT, lab.sse([wire], framing="close", cut="fin", cut_at=at))
        text, error = await _openai_text(daemon, model)
        assert isinstance(error, openai.APIError), (at, error)
        assert "one two three".startswith(text)


async def test_anthropic_clients_get_an_error_event_of_their_own(daemon: Daemon, lab: Lab) -> None:
    """A data-only error is silently ignored by the Anthropic SDK: the event must be named."""
    model = await daemon.rule(await daemon.upstream(lab, dialect="anthropic"))
    events = canned.messages_stream(canned.TEXT)
    lab.script(MESSAGES, lab.sse(events[:5], framing="close", cut="fin"))
    async with daemon.anthropic() as client:
        with pytest.raises(anthropic.APIStatusError):
            async with client.messages.stream(
                model=model, max_tokens=9, messages=[{"role": "user", "content": "x"}]
            ) as stream:
                async for _ in stream.text_stream:
                    pass


async def test_an_error_event_is_passed_on_once_and_ends_the_stream(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    events = canned.chat_stream(canned.TEXT)
    broken = b'data: {"error":{"message":"the engine burst","type":"server_error"}}\n\n'
    lab.script(CHAT, lab.sse([*events[:3], broken, *events[3:]]))
    body = json.dumps({"model": model, "messages": [], "stream": True})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        data = await reply.read()
    assert data.startswith(b"".join(events[:3]))
    assert data.count(b'"error"') == 1
    assert b"the engine burst" in data
    assert b"[DONE]" not in data


async def test_a_malformed_event_never_reaches_the_client(daemon: Daemon, lab: Lab) -> None:
    """openai raises a bare JSONDecodeError on it."""
    model = await daemon.rule(await daemon.upstream(lab))
    events = canned.chat_stream(canned.TEXT)
    lab.script(CHAT, lab.sse([*events[:3], b'data: {"choices": [{"delta"\n\n', *events[3:]]))
    text, error = await _openai_text(daemon, model)
    assert text
    assert isinstance(error, openai.APIError)


async def test_a_silent_stream_is_kept_alive_and_then_ended(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab), policy=await daemon.policy(idle_s=1.0))
    events = canned.chat_stream(canned.TEXT)
    lab.script(CHAT, lab.sse([*events[:3], asyncio.Event()]))
    body = json.dumps({"model": model, "messages": [], "stream": True})
    began = asyncio.get_running_loop().time()
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        data = await reply.read()
    assert 0.9 <= asyncio.get_running_loop().time() - began < 3
    assert data.count(b":") > 2
    assert b": keep-alive\n\n" in data
    assert b'"error"' in data
    await lab.seen[0].gone(within=1.0)


async def test_a_waiting_stream_gets_comments_that_do_not_commit(
    daemon: Daemon, lab: Lab, second: Lab
) -> None:
    """Pings for ever, then nothing: the client is kept alive and the next target answers."""
    policy = await daemon.policy(first_token_s=0.8)
    model = await daemon.rule(await daemon.upstream(lab), await daemon.upstream(second), policy=policy)
    lab.always(CHAT, lab.sse([canned.chat_role(), asyncio.Event()]))
    body = json.dumps({"model": model, "messages": [], "stream": True})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        data = await reply.read()
    comments, _, events = data.partition(b"data:")
    assert comments.startswith(b": ")
    assert comments.count(b":") >= 2
    assert b"data:" + events == b"".join(canned.chat_stream(canned.TEXT, model=model))
    await lab.seen[0].gone(within=1.0)


LIFECYCLE = [
    canned.named({"type": kind, "response": canned.responses_whole(status="in_progress")})
    for kind in ("response.created", "response.in_progress")
]


@pytest.mark.parametrize(
    ("path", "dialect", "events", "error"),
    [
        (CHAT, "openai", [canned.chat_role(), b": ping\n\n"], b'data: {"error": {"message": "no"}}\n\n'),
        (
            MESSAGES,
            "anthropic",
            [canned.message_start(), canned.PING],
            canned.named(canned.anthropic_error(529, "Overloaded")),
        ),
        (
            RESPONSES,
            "openai",
            LIFECYCLE,
            canned.named({"type": "error", "code": "server_error", "message": "no", "param": None}),
        ),
    ],
)
async def test_all_that_comes_before_the_content_commits_nothing(
    daemon: Daemon, lab: Lab, second: Lab, path: str, dialect: str, events: list[bytes], error: bytes
) -> None:
    """Signs of life for longer than a heartbeat, then an error: one clean stream of the next target."""
    names = [await daemon.upstream(each, dialect=dialect) for each in (lab, second)]
    model = await daemon.rule(*names)
    gate = asyncio.Event()
    lab.always(path, lab.sse([*events, gate, events[-1], error]))
    body = json.dumps({"model": model, "messages": [], "input": "hi", "stream": True, "max_tokens": 9})
    async with daemon.http() as http, http.post(path, data=body, headers=JSON) as reply:
        assert reply.status == 200
        data = b""
        while data.count(b": ") < 2:
            data += await reply.content.readany()
        assert not [line for line in data.splitlines() if line and not line.startswith(b":")]
        gate.set()
        data += await reply.read()
    stream = {CHAT: canned.chat_stream, MESSAGES: canned.messages_stream, RESPONSES: canned.responses_stream}
    clean = b"".join(stream[path](model=model))
    assert data.endswith(clean)
    assert all(line.startswith(b":") for line in data.removesuffix(clean).splitlines() if line)
    [entry] = [each for each in await daemon.admin("db.requests") if each["model"] == model]
    assert entry["served_by"] == f"{names[1]}/{model}"
    assert entry["attempts"].startswith(f"{names[0]}/{model}=")


async def test_total_failure_after_heartbeats_is_an_error_event(daemon: Daemon, lab: Lab) -> None:
    """The 200 is out already, so the error goes in band, once, without [DONE]."""
    policy = await daemon.policy(first_token_s=0.7, attempts=1)
    model = await daemon.rule(await daemon.upstream(lab), policy=policy)
    lab.always(CHAT, lab.hang())
    text, error = await _openai_text(daemon, model)
    assert text == ""
    assert isinstance(error, openai.APIError)


async def test_a_socket_kept_open_after_the_end_does_not_hold_the_client(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    lab.script(CHAT, lab.sse([*canned.chat_stream(canned.TEXT), asyncio.Event()]))
    async with asyncio.timeout(2):
        text, error = await _openai_text(daemon, model)
    assert (text, error) == (canned.TEXT, None)
    await lab.seen[0].gone(within=1.0)


async def test_client_that_leaves_mid_stream_stops_the_upstream(daemon: Daemon, lab: Lab) -> None:
    """The producer ran on for everybody else's time (D18)."""
    model = await daemon.rule(await daemon.upstream(lab))
    events = canned.chat_stream(canned.TEXT)
    lab.script(CHAT, lab.sse([*events[:3], asyncio.Event()]))
    body = json.dumps({"model": model, "messages": [], "stream": True})
    async with daemon.http() as http:
        reply = await http.post(CHAT, data=body, headers=JSON)
        await reply.content.readany()
        reply.close()
        await lab.seen[0].gone(within=1.0)


async def test_very_long_events_pass(daemon: Daemon, lab: Lab) -> None:
    """aiohttp's own line reader gives up at 512 KiB."""
    model = await daemon.rule(await daemon.upstream(lab))
    text = "x" * 4_000_000
    wire = [canned.chat_chunk({"content": text}), canned.chat_chunk({}, finish="stop"), b"data: [DONE]\n\n"]
    lab.script(CHAT, lab.sse(wire))
    body = json.dumps({"model": model, "messages": [], "stream": True})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
        assert await reply.read() == b"".join(wire)


async def test_a_cut_download_does_not_look_whole(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    lab.script(
        "/v1/audio/speech", lab.body([b"x" * 1000], content_type="audio/mpeg", framing="chunked", cut="fin")
    )
    body = json.dumps({"model": model, "input": "x"})
    async with daemon.http() as http, http.post("/v1/audio/speech", data=body, headers=JSON) as reply:
        with pytest.raises(Exception, match=r"payload|closed|Connection"):
            await reply.read()
