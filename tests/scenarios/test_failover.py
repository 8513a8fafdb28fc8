"""Before the first content every failure is invisible to the client, unless nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import anthropic
import openai
import pytest

from tests import canned
from tests.behaviours import Behaviour
from tests.lab import Lab
from tests.scenarios.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
ERROR_EVENT = b'data: {"error":{"message":"out of luck","type":"server_error","code":null}}\n\n'
ANTHROPIC_ERROR = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
)

Make = Callable[[Lab], Behaviour]

# What a target can do wrong before its first content, and the word that the trace has for it.
FAULTS: dict[str, tuple[Make, str]] = {
    "reset": (lambda lab: lab.reset(), "server_fault"),
    "dropped": (lambda lab: lab.drop(), "server_fault"),
    "hang before headers": (lambda lab: lab.hang(), "slow"),
    "401": (lambda lab: lab.error(401), "auth"),
    "403": (lambda lab: lab.error(403), "auth"),
    "404 model": (
        lambda lab: lab.error(404, "the model `x` does not exist", code="model_not_found"),
        "model_missing",
    ),
    "402": (lambda lab: lab.error(402), "billing"),
    "quota": (lambda lab: lab.error(429, kind="insufficient_quota", code="insufficient_quota"), "billing"),
    "429": (lambda lab: lab.error(429, retry_after=30), "rate_limited"),
    "500": (lambda lab: lab.error(500), "server_fault"),
    "502 html": (
        lambda lab: lab.body(b"<html>bad gateway</html>", status=502, content_type="text/html"),
        "server_fault",
    ),
    "503": (lambda lab: lab.error(503), "overloaded"),
    "529": (lambda lab: lab.error(529), "overloaded"),
    "garbage": (lambda lab: lab.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "server_fault"),
    "huge headers": (lambda lab: lab.huge_headers(), "server_fault"),
}
STREAM_FAULTS: dict[str, tuple[Make, str]] = {
    "hang before content": (lambda lab: lab.sse([canned.chat_role(), asyncio.Event()]), "slow"),
    "pings only": (lambda lab: lab.sse([b": ping\n\n", asyncio.Event()]), "slow"),
    "error as the first event": (lambda lab: lab.sse([ERROR_EVENT]), "server_fault"),
    "error after the role": (lambda lab: lab.sse([canned.chat_role(), ERROR_EVENT]), "server_fault"),
    "malformed event": (lambda lab: lab.sse([b'data: {"choices": [\n\n']), "server_fault"),
    "end after the role": (lambda lab: lab.sse([canned.chat_role()]), "server_fault"),
    "empty 200": (lambda lab: lab.sse([]), "server_fault"),
    "cut after the role": (lambda lab: lab.sse([canned.chat_role()], cut="rst"), "server_fault"),
}
WHOLE_FAULTS: dict[str, tuple[Make, str]] = {
    "cut whole reply": (lambda lab: lab.body(b'{"choices": [', framing="close"), "server_fault"),
    "not JSON": (lambda lab: lab.body(b"hello"), "server_fault"),
    "error in a 200": (lambda lab: lab.json({"error": {"message": "no", "code": 500}}), "server_fault"),
}


IN_BOTH_MODES = [
    *((fault, stream) for fault in FAULTS for stream in (False, True)),
    *((fault, True) for fault in STREAM_FAULTS),
    *((fault, False) for fault in WHOLE_FAULTS),
]


@pytest.mark.parametrize(
    ("fault", "stream"), IN_BOTH_MODES, ids=[f"{f}-{'stream' if s else 'whole'}" for f, s in IN_BOTH_MODES]
)
async def test_a_failing_target_is_replaced_before_the_client_notices(
    daemon: Daemon, lab: Lab, second: Lab, fault: str, stream: bool
) -> None:
    """Stream failover never fired: the failure came on first iteration, outside the try (D6, D8)."""
    make, outcome = (FAULTS | STREAM_FAULTS | WHOLE_FAULTS)[fault]
    policy = await daemon.policy(first_token_s=0.2)
    bad, good = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(bad, good, policy=policy)
    lab.always(CHAT, make(lab))
    async with daemon.openai() as client:
        answer = await client.chat.completions.with_raw_response.create(
            model=model, messages=[], stream=stream
        )
        if stream:
            chunks = [c async for c in await _parsed(answer)]
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        else:
            text = (await _parsed(answer)).choices[0].message.content
    assert text == canned.TEXT
    assert answer.headers["x-gateway-served-by"] == f"{good}/{model}"
    attempts = answer.headers["x-gateway-attempts"].split(", ")
    assert attempts[0].startswith(f"{bad}/{model}={outcome};dur=")
    assert attempts[-1].startswith(f"{good}/{model}=ok;dur=")
    assert second.hits == 1


async def _parsed(answer: object) -> object:
    parsed = answer.parse()  # type: ignore[attr-defined]
    return await parsed if asyncio.iscoroutine(parsed) else parsed


async def test_refused_primary_costs_next_to_nothing(daemon: Daemon, lab: Lab, second: Lab) -> None:
    bad, good = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(bad, good)
    await lab.refuse()
    async with daemon.openai() as client:
        for _ in range(3):
            whole = await client.chat.completions.create(model=model, messages=[])
            assert whole.choices[0].message.content == canned.TEXT


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_fault_is_relayed_as_it_is(
    daemon: Daemon, lab: Lab, second: Lab, status: int, stream: bool
) -> None:
    """A bad request also shipped the prompt to a cloud (D9), and five 400s opened the breaker (D24)."""
    model = await daemon.rule(await daemon.upstream(lab), await daemon.upstream(second))
    lab.always(CHAT, lab.error(status, "your request is wrong"))
    body = json.dumps({"model": model, "messages": [], "stream": stream})
    async with daemon.http() as http:
        for _ in range(7):
            async with http.post(CHAT, data=body, headers=JSON) as reply:
                assert reply.status == status
                assert (await reply.json())["error"]["message"] == "your request is wrong"
    assert lab.hits == 7
    assert second.hits == 0


async def test_anthropic_errors_fail_over_in_streams_too(daemon: Daemon, lab: Lab, second: Lab) -> None:
    bad, good = (
        await daemon.upstream(lab, dialect="anthropic"),
        await daemon.upstream(second, dialect="anthropic"),
    )
    model = await daemon.rule(bad, good)
    lab.script(
        MESSAGES,
        lab.error(529),
        lab.sse([canned.message_start(), b'event: ping\ndata: {"type": "ping"}\n\n', ANTHROPIC_ERROR]),
    )
    async with daemon.anthropic() as client:
        for _ in range(2):
            async with client.messages.stream(
                model=model, max_tokens=9, messages=[{"role": "user", "content": "hi"}]
            ) as stream:
                assert await stream.get_final_text() == canned.TEXT


@pytest.mark.parametrize(
    ("fault", "status", "hits"),
    [("401", 502, 1), ("403", 502, 1), ("quota", 429, 1), ("500", 502, 2)],
)
async def test_nothing_left_is_one_error_that_names_every_attempt(
    daemon: Daemon, lab: Lab, fault: str, status: int, hits: int
) -> None:
    """The client saw only the second error (D15); an upstream's 401 is never the client's."""
    upstream = await daemon.upstream(lab)
    model = await daemon.rule(upstream)
    lab.always(CHAT, FAULTS[fault][0](lab))
    async with daemon.openai(max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model=model, messages=[])
    assert caught.value.status_code == status
    assert f"{upstream}/{model}" in caught.value.message
    assert FAULTS[fault][1] in caught.value.message
    headers = caught.value.response.headers
    assert headers["x-gateway-attempts"].count("=") == hits * 2
    assert headers["x-should-retry"] == "false"
    assert lab.hits == hits


async def test_missing_model_of_a_sole_target_is_the_providers_own_404(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    lab.always(CHAT, FAULTS["404 model"][0](lab))
    async with daemon.openai(max_retries=2) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=model, messages=[])
    assert caught.value.code == "model_not_found"
    assert lab.hits == 1


async def test_sdk_retries_do_not_multiply_ours(daemon: Daemon, lab: Lab, second: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab), await daemon.upstream(second))
    lab.always(CHAT, lab.error(500))
    second.always(CHAT, second.error(500))
    async with daemon.openai(max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=model, messages=[])
    assert lab.hits + second.hits == 3


async def test_retry_after_keeps_the_target_out(daemon: Daemon, lab: Lab, second: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab), await daemon.upstream(second))
    lab.always(CHAT, lab.error(429, retry_after=30))
    async with daemon.openai() as client:
        for _ in range(4):
            await client.chat.completions.create(model=model, messages=[])
    assert lab.hits == 1
    assert second.hits == 4


async def test_a_long_retry_after_does_not_freeze_the_client(daemon: Daemon, lab: Lab) -> None:
    """A provider's Retry-After of an hour froze every client of the Anthropic SDK for an hour."""
    model = await daemon.rule(await daemon.upstream(lab, dialect="anthropic"))
    lab.always(MESSAGES, lab.error(429, retry_after=3600))
    async with daemon.anthropic(max_retries=2) as client:
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client.messages.create(
                model=model, max_tokens=1, messages=[{"role": "user", "content": "x"}]
            )
    headers = caught.value.response.headers
    assert headers.get("x-should-retry") == "false" or int(headers["retry-after"]) <= 60
    assert caught.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]


async def test_a_dead_key_is_not_shown_again_until_it_changes(daemon: Daemon, lab: Lab) -> None:
    """Rotated keys were cached for ever (D21); others ask a dead key on every request."""
    upstream = await daemon.upstream(lab, key="sk-dead-key-0001")
    model = await daemon.rule(upstream)
    lab.always(CHAT, lab.error(401))
    async with daemon.openai() as client:
        for _ in range(3):
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model=model, messages=[])
        assert lab.hits == 1
        lab.always(CHAT, lab.chat("back again"))
        await daemon.admin("credentials.set", upstream=upstream, name="default", secret="sk-live-key-0002")
        answer = await client.chat.completions.create(model=model, messages=[])
    assert answer.choices[0].message.content == "back again"
    assert lab.seen[-1].header("authorization") == "Bearer sk-live-key-0002"


async def test_the_next_credential_is_tried_before_the_next_target(
    daemon: Daemon, lab: Lab, second: Lab
) -> None:
    upstream = await daemon.upstream(lab, key="sk-first-00001")
    await daemon.admin("credentials.add", upstream=upstream, name="spare", secret="sk-second-00002")
    model = await daemon.rule(upstream, await daemon.upstream(second))
    lab.script(CHAT, lab.error(401), lab.chat())
    async with daemon.openai() as client:
        await client.chat.completions.create(model=model, messages=[])
    assert [seen.header("authorization") for seen in lab.seen] == [
        "Bearer sk-first-00001",
        "Bearer sk-second-00002",
    ]
    assert second.hits == 0


async def test_a_dead_primary_is_soon_left_alone(daemon: Daemon, lab: Lab, second: Lab) -> None:
    """A breaker that let everyone probe (D25) or never counted streams (D26) is none."""
    model = await daemon.rule(await daemon.upstream(lab), await daemon.upstream(second))
    lab.always(CHAT, lab.error(500))
    async with daemon.openai() as client:
        for _ in range(30):
            answer = await client.chat.completions.create(model=model, messages=[], stream=True)
            assert [c async for c in answer]
    assert lab.hits <= 10
    assert second.hits == 30


async def test_whole_reply_waits_no_longer_than_the_deadline(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab), policy=await daemon.policy(deadline_s=0.6))
    lab.always(CHAT, lab.hang())
    async with daemon.openai() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=model, messages=[])
    assert caught.value.status_code == 504
    await lab.seen[0].gone(within=1.0)


async def test_a_stale_connection_is_the_fault_of_nobody(daemon: Daemon, lab: Lab) -> None:
    """A server that drops a kept-alive connection as the next request comes; aiohttp resends no POST."""
    model = await daemon.rule(await daemon.upstream(lab))
    lab.script(CHAT, lab.chat(), lab.drop(), lab.chat("fresh"))
    async with daemon.openai() as client:
        await client.chat.completions.create(model=model, messages=[])
        answer = await client.chat.completions.create(model=model, messages=[])
    assert answer.choices[0].message.content == "fresh"
    assert lab.seen[1].connection == lab.seen[0].connection
    assert lab.seen[2].connection != lab.seen[0].connection


async def test_policy_on_keeps_an_outcome_from_moving(daemon: Daemon, lab: Lab, second: Lab) -> None:
    policy = await daemon.policy(on=["connect_fault"])
    model = await daemon.rule(await daemon.upstream(lab), await daemon.upstream(second), policy=policy)
    lab.always(CHAT, lab.error(429, retry_after=20))
    async with daemon.openai() as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=model, messages=[])
    assert second.hits == 0


async def test_client_that_leaves_stops_the_upstream_call(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    lab.always(CHAT, lab.hang())
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http:
        asking = asyncio.ensure_future(http.post(CHAT, data=body, headers=JSON))
        seen = await lab.arrived()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await seen.gone(within=1.0)
