"""What telemetry is told of a request: once, and what the client saw."""

from __future__ import annotations

import asyncio

from gateway.failover.outcome import Outcome
from tests import canned
from tests.house import chat, client_key, rule, running, snapshot, upstream
from tests.relay.puppet import CHAT, Answer, Puppet, failure, json

PATH = "/v1/chat/completions"


async def test_a_stream_with_its_tokens_and_its_first_content() -> None:
    wire = [*CHAT[:-1], canned.chat_usage(), canned.DONE]
    async with running(cloud=Puppet(Answer(head=[failure()]), Answer(wire))) as house:
        house.snapshot = snapshot(
            rules=[rule("m*", "a", "b:other")],
            upstreams=[upstream("a"), upstream("b")],
            clients=[client_key("mlxg_app")],
        )
        before = {
            "fault": house.counted("attempts_total", backend="a", outcome="server_fault"),
            "ok": house.counted("attempts_total", backend="b", outcome="ok"),
            "first": house.counted("first_content_seconds_count", backend="b"),
            "tokens": house.counted("tokens_total", backend="b", kind="output"),
        }
        async with house.http.post(
            PATH, json=chat("m1", stream=True), headers={"x-api-key": "mlxg_app"}
        ) as reply:
            await reply.read()
        line = await house.logged()
        assert line.text == f"POST {PATH} 200"
        assert line["id"] == reply.headers["x-request-id"]
        assert {name: line[name] for name in ("model", "rule", "by", "in", "out", "client")} == {
            "model": "m1",
            "rule": "m*",
            "by": "b/other",
            "in": 7,
            "out": 4,
            "client": "app",
        }
        assert line["ttft_ms"] <= line["ms"]
        assert house.counted("attempts_total", backend="a", outcome="server_fault") == before["fault"] + 1
        assert house.counted("attempts_total", backend="b", outcome="ok") == before["ok"] + 1
        assert house.counted("first_content_seconds_count", backend="b") == before["first"] + 1
        assert house.counted("tokens_total", backend="b", kind="output") == before["tokens"] + 4


async def test_a_broken_stream_keeps_its_tokens() -> None:
    wire = [*CHAT[:3], canned.chat_usage(), failure(message="it burns")]
    async with running(cloud=Puppet(Answer(wire))) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        before = house.counted("broken_streams_total", backend="a")
        async with house.http.post(PATH, json=chat("m", stream=True)) as reply:
            await reply.read()
        line = await house.logged()
        assert (line.status, line["in"], line["broken"]) == (200, 7, "it burns")
        assert house.counted("broken_streams_total", backend="a") == before + 1


async def test_nobody_answered() -> None:
    puppet = Puppet(Answer(head=[failure(Outcome.OVERLOADED)]))
    async with running(cloud=puppet) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        before = house.counted("requests_total", backend="none", status="503")
        async with house.http.post(PATH, json=chat("m")) as reply:
            assert reply.status == 503
        line = await house.logged()
        assert "by" not in line
        assert "ttft_ms" not in line
        assert line["attempts"].count("a/m=overloaded") == 3
        assert house.counted("requests_total", backend="none", status="503") == before + 1


async def test_a_client_that_left_with_half_an_answer() -> None:
    wire = [*CHAT[:3], canned.chat_usage(), asyncio.Event()]
    async with running(cloud=Puppet(Answer(wire))) as house:
        house.snapshot = snapshot(rules=[rule("m", "a")], upstreams=[upstream("a")])
        reply = await house.http.post(PATH, json=chat("m", stream=True))
        await reply.content.readuntil(b'"usage"')
        reply.close()
        line = await house.logged()
        assert (line.status, line["in"], line["by"]) == (499, 7, "a/m")
        assert "broken" not in line


async def test_a_request_without_a_rule_says_so() -> None:
    async with running(cloud=Puppet(json(b"{}")), default_upstream="a") as house:
        house.snapshot = snapshot(upstreams=[upstream("a")])
        async with house.http.get("/v1/files?limit=3&key=secret") as reply:
            assert reply.status == 200
        line = await house.logged()
        assert line.text == "GET /v1/files 200"
        assert (line["rule"], line["by"]) == ("-", "a")
        assert "model" not in line
