"""What goes to an upstream is what came, and what comes back is what it sent: to the byte."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json

import aiohttp
import pytest

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
# Odd on purpose: order, spaces, big and odd numbers, escapes, unicode, unknown fields, `model` elsewhere.
ODD = (
    '{ "zeta":1.0e+2,"metadata" : {"model":"not this","n":12345678901234567890123}, "messages":[{"role":"user",'
    '"content":"say \\"model\\": \\u0022x\\u0022 \\ud83d\\ude00 ünïcode"}],\r\n\t"model" :  "MODEL","unknown_field":[1e-7,-0.0],'
    '"temperature":0 }'
).encode()


async def test_body_reaches_the_upstream_byte_for_byte(daemon: Daemon, lab: Lab) -> None:
    """The system before this one re-serialised a narrow schema and lost what it did not know (D30)."""
    model = await daemon.rule(await daemon.upstream(lab))
    sent = ODD.replace(b"MODEL", model.encode())
    async with daemon.http() as http, http.post("/v1/chat/completions", data=sent, headers=JSON) as reply:
        received = await reply.read()
        assert reply.status == 200
    assert lab.seen[0].body == sent
    assert json.loads(received)["choices"][0]["message"]["content"] == canned.TEXT


async def test_a_rename_changes_only_the_value_of_model(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab)
    model = await daemon.rule(f"{upstream}:other/name-1")
    sent = ODD.replace(b"MODEL", model.encode())
    async with daemon.http() as http, http.post("/v1/chat/completions", data=sent, headers=JSON) as reply:
        assert reply.status == 200
    assert lab.seen[0].body == ODD.replace(b"MODEL", b"other/name-1")


async def test_captures_fill_the_name_at_the_target(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab)
    await daemon.rule(f"{upstream}:big-{{1}}", pattern=f"{upstream}/*-chat")
    async with daemon.http() as http:
        body = json.dumps({"model": f"{upstream}/seven-chat", "messages": []})
        async with http.post("/v1/chat/completions", data=body, headers=JSON) as reply:
            assert reply.status == 200
            assert reply.headers["x-gateway-served-by"] == f"{upstream}/big-seven"
            assert reply.headers["x-gateway-rule"] == f"{upstream}/*-chat"
    assert lab.seen[0].json["model"] == "big-seven"


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("segment", [None, 1, 7])
async def test_stream_comes_back_byte_for_byte(
    daemon: Daemon, lab: Lab, separator: bytes, segment: int | None
) -> None:
    """Unknown events, comments, ids and line ends survive, however the bytes were cut on their way."""
    model = await daemon.rule(await daemon.upstream(lab))
    events = [
        b": a comment\n\n",
        canned.chat_role(),
        b'id: 7\nevent: message\nretry: 100\ndata: {"choices":[{"index":0,"delta":{"content":"h\xc3\xa9 \xf0\x9f\x98\x80"}}],"x":[1.50]}\n\n',
        b'event: unknown.thing\ndata: {"what": "is this",\ndata: "two": "lines"}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
    wire = b"".join(events).replace(b"\n", separator)
    lab.script("/v1/chat/completions", lab.sse([wire], segment=segment))
    body = json.dumps({"model": model, "stream": True, "messages": []})
    async with daemon.http() as http, http.post("/v1/chat/completions", data=body, headers=JSON) as reply:
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert await reply.read() == wire


async def test_events_are_flushed_one_by_one(daemon: Daemon, lab: Lab) -> None:
    """An event is with the client before the next one exists (a gate holds the upstream)."""
    model = await daemon.rule(await daemon.upstream(lab))
    events = canned.chat_stream("one two three")
    gates = [asyncio.Event() for _ in events]
    pieces = [piece for gate, event in zip(gates, events, strict=True) for piece in (gate, event)]
    lab.script("/v1/chat/completions", lab.sse(pieces))
    body = json.dumps({"model": model, "stream": True, "messages": []})
    async with daemon.http() as http:
        gates[0].set()
        gates[1].set()  # the role, then the first content
        async with http.post("/v1/chat/completions", data=body, headers=JSON) as reply:
            assert await _events(reply, 2) == b"".join(events[:2])
            for number in range(2, len(events)):
                gates[number].set()
                assert await _events(reply, 1) == events[number]


async def _events(reply: aiohttp.ClientResponse, count: int) -> bytes:
    data = b""
    while data.count(b"\n\n") < count:
        async with asyncio.timeout(5):
            data += await reply.content.readany()
    return data


async def test_only_allowed_headers_cross(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab, key="sk-the-real-key-000")
    model = await daemon.rule(upstream)
    lab.script(
        "/v1/chat/completions",
        lab.json(
            canned.chat_whole(),
            headers=[
                ("x-ratelimit-remaining-requests", "9"),
                ("openai-processing-ms", "12"),
                ("openai-organization", "org-secret"),
                ("set-cookie", "a=b"),
                ("x-request-id", "theirs"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
            ],
        ),
    )
    sent = {
        "content-type": "application/json",
        "authorization": "Bearer sk-of-the-client",
        "x-api-key": "also-of-the-client",
        "cookie": "session=1",
        "x-forwarded-for": "1.2.3.4",
        "referer": "http://somewhere.example/",
        "user-agent": "MyApp/2",
        "openai-beta": "assistants=v2",
        "x-stainless-lang": "python",
        "idempotency-key": "once",
        "traceparent": "00-1-2-01",
        "x-unknown": "no",
    }
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http, http.post("/v1/chat/completions", data=body, headers=sent) as reply:
        assert reply.status == 200
        seen = {name.lower(): value for name, value in lab.seen[0].headers}
        assert seen["authorization"] == "Bearer sk-the-real-key-000"
        assert seen["user-agent"] == "MyApp/2"
        assert seen["openai-beta"] == "assistants=v2"
        assert seen["x-stainless-lang"] == "python"
        assert seen["idempotency-key"] == "once"
        assert seen["traceparent"] == "00-1-2-01"
        assert not {"cookie", "x-api-key", "x-forwarded-for", "referer", "x-unknown"} & seen.keys()
        assert reply.headers["x-ratelimit-remaining-requests"] == "9"
        assert reply.headers["openai-processing-ms"] == "12"
        assert reply.headers["x-request-id"] != "theirs"
        assert not {"set-cookie", "openai-organization", "x-hop"} & {k.lower() for k in reply.headers}
        assert reply.headers["server"] == "mlx-gateway"
        assert reply.headers["x-gateway-attempts"].startswith(f"{upstream}/{model}=ok;dur=")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/images/generations",
        "/v1/moderations",
        "/v1/something/quite/new",
    ],
)
async def test_any_path_below_v1_is_routed_by_its_model(daemon: Daemon, lab: Lab, path: str) -> None:
    """Embeddings, responses and completions were not routed at all (D33)."""
    model = await daemon.rule(await daemon.upstream(lab))
    lab.always("/v1/something/quite/new", lab.json({"ok": True}))
    lab.always("/v1/moderations", lab.json({"results": []}))
    lab.always("/v1/images/generations", lab.json({"data": []}))
    body = json.dumps({"model": model, "input": "x", "prompt": "x"})
    async with daemon.http() as http, http.post(f"{path}?a=b%20c&d", data=body, headers=JSON) as reply:
        assert reply.status == 200, await reply.text()
        assert json.loads(await reply.read())
    assert lab.seen[0].target == f"{path}?a=b%20c&d"


@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.parametrize("rename", [True, False])
async def test_multipart_goes_through_unchanged(
    daemon: Daemon, lab: Lab, model_first: bool, rename: bool
) -> None:
    """The documented order of an upload is file first, model last."""
    upstream = await daemon.upstream(lab)
    model = await daemon.rule(f"{upstream}:whisper-large" if rename else upstream)
    lab.always("/v1/audio/transcriptions", lab.json({"text": "hello"}))
    audio = bytes(range(256)) * 12_000  # 3 MB
    file = (
        b'--B0\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        + audio
    )
    field = b'--B0\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b' % model.encode()
    parts = [field, file] if model_first else [file, field]
    sent = b"\r\n".join(parts) + b"\r\n--B0--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=B0"}
    async with (
        daemon.http() as http,
        http.post("/v1/audio/transcriptions", data=io.BytesIO(sent), headers=headers) as reply,
    ):
        assert reply.status == 200, await reply.text()
        assert await reply.json() == {"text": "hello"}
    wanted = sent.replace(b"\r\n\r\n" + model.encode(), b"\r\n\r\nwhisper-large") if rename else sent
    assert lab.seen[0].size == len(wanted)
    assert lab.seen[0].sha256 == hashlib.sha256(wanted).hexdigest()


async def test_audio_upload_with_the_sdk(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    lab.always("/v1/audio/transcriptions", lab.json({"text": "hello"}))
    async with daemon.openai() as client:
        heard = await client.audio.transcriptions.create(model=model, file=("a.wav", b"RIFF" * 1000))
    assert heard.text == "hello"


async def test_speech_comes_back_as_bytes(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    audio = bytes(range(256)) * 1000
    lab.script("/v1/audio/speech", lab.body([audio], content_type="audio/mpeg", framing="chunked"))
    async with daemon.openai() as client:
        spoken = await client.audio.speech.create(model=model, voice="alloy", input="hi")
        assert await spoken.aread() == audio


async def test_request_for_one_upstream_goes_to_no_other(daemon: Daemon, lab: Lab, second: Lab) -> None:
    """/upstreams/NAME is a base_url of its own: the rule of that name does not count."""
    wanted, other = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(other)
    lab.script("/v1/chat/completions", lab.error(500))
    lab.always("/v1/files", lab.json({"data": []}))
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http:
        async with http.post(f"/upstreams/{wanted}/v1/chat/completions", data=body, headers=JSON) as reply:
            assert reply.status == 200  # the second try of the same target
        async with http.get(f"/upstreams/{wanted}/v1/files?limit=1") as reply:
            assert await reply.json() == {"data": []}
        async with http.get("/upstreams/nowhere/v1/files") as reply:
            assert reply.status == 404
    assert second.hits == 0
    assert lab.seen[-1].target == "/v1/files?limit=1"


async def test_anthropic_messages_pass_with_their_headers(daemon: Daemon, lab: Lab) -> None:
    """cache_control, thinking, beta headers and unknown fields were lost (D32)."""
    model = await daemon.rule(await daemon.upstream(lab, dialect="anthropic", key="sk-ant-real-1"))
    async with daemon.anthropic() as client:
        message = await client.messages.create(
            model=model,
            max_tokens=16,
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}],
                }
            ],
            extra_headers={"anthropic-beta": "something-2026"},
            extra_body={"novelty": {"kept": True}},
        )
        assert message.content[0].text == canned.TEXT
        async with client.messages.stream(
            model=model, max_tokens=16, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            assert await stream.get_final_text() == canned.TEXT
    seen = lab.seen[0]
    assert seen.header("x-api-key") == "sk-ant-real-1"
    assert seen.header("authorization") is None
    assert seen.header("anthropic-beta") == "something-2026"
    assert seen.json["novelty"] == {"kept": True}
    assert seen.json["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}


async def test_openai_sdk_streams_and_whole(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    async with daemon.openai() as client:
        whole = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}]
        )
        assert whole.choices[0].message.content == canned.TEXT
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        assert text == canned.TEXT
        response = await client.responses.create(model=model, input="hi")
        assert response.output_text == canned.TEXT
        async with client.responses.stream(model=model, input="hi") as events:
            assert (await events.get_final_response()).output_text == canned.TEXT
        vectors = await client.embeddings.create(model=model, input="hi", encoding_format="float")
        assert vectors.data[0].embedding


async def test_gzip_reply_is_decoded_or_refused_when_cut(daemon: Daemon, lab: Lab) -> None:
    """An upstream that compresses although it was asked not to; a cut gzip body is silent in aiohttp."""
    model = await daemon.rule(await daemon.upstream(lab))
    whole = json.dumps(canned.chat_whole()).encode()
    lab.script(
        "/v1/chat/completions",
        lab.compressed(whole),
        lab.compressed(whole, truncate=60, framing="close"),
        lab.chat("the second try"),
    )
    async with daemon.openai() as client:
        first = await client.chat.completions.create(model=model, messages=[])
        assert first.choices[0].message.content == canned.TEXT
        second = await client.chat.completions.create(model=model, messages=[])
        assert second.choices[0].message.content == "the second try"
    assert lab.hits == 3


async def test_redirects_are_not_followed(daemon: Daemon, lab: Lab, second: Lab) -> None:
    """aiohttp forwards x-api-key and the prompt across a 307."""
    model = await daemon.rule(await daemon.upstream(lab))
    lab.always("/v1/chat/completions", lab.redirect(f"{second.base_url}/chat/completions"))
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http, http.post("/v1/chat/completions", data=body, headers=JSON) as reply:
        assert reply.status == 502
    assert second.hits == 0


async def test_other_bodies_are_streamed_to_the_upstream_that_was_named(daemon: Daemon, lab: Lab) -> None:
    upstream = await daemon.upstream(lab)
    part = bytes(range(256)) * 9000
    lab.always("/v1/uploads/up_1/parts", lab.json({"ok": True}))
    headers = {"content-type": "application/octet-stream"}
    async with daemon.http() as http:
        path = f"/upstreams/{upstream}/v1/uploads/up_1/parts"
        async with http.put(path, data=io.BytesIO(part), headers=headers) as reply:
            assert reply.status == 200, await reply.text()
        async with http.post("/v1/chat/completions", data=b"x", headers=headers) as reply:
            assert reply.status == 415
    assert lab.seen[0].sha256 == hashlib.sha256(part).hexdigest()


async def test_who_names_an_upstream_knows_what_it_speaks(daemon: Daemon, lab: Lab) -> None:
    """Anthropic has files and an OpenAI-like path; Ollama and vLLM have /v1/messages."""
    theirs = await daemon.upstream(lab, dialect="anthropic")
    ours = await daemon.upstream(lab)
    body = json.dumps({"model": "m", "messages": [], "max_tokens": 1})
    async with daemon.http() as http:
        for path in (f"/upstreams/{theirs}/v1/chat/completions", f"/upstreams/{ours}/v1/messages"):
            async with http.post(path, data=body, headers=JSON) as reply:
                assert reply.status == 200, await reply.text()
        lab.always("/v1/files", lab.json({"data": []}))
        async with http.get(f"/upstreams/{theirs}/v1/files") as reply:
            assert reply.status == 200
