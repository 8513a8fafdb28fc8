"""What the system before this one got wrong, where no other scenario tells the story."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from tests import canned
from tests.lab import Lab
from tests.scenarios.daemon import Daemon, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"


async def _targets(daemon: Daemon, name: str) -> list[str]:
    return [target["target"] for target in (await daemon.admin("explain", model=name))["targets"]]


async def test_ties_go_to_the_older_rule(daemon: Daemon) -> None:
    """The result depended on the order of rows (D2)."""
    await daemon.rule("local:older", pattern="tie-a*")
    await daemon.rule("local:newer", pattern="tie-*a")
    assert await _targets(daemon, "tie-aa") == ["local/older"]
    await daemon.admin("rules.set", rule="tie-*a", note="an edit makes it no older")
    assert await _targets(daemon, "tie-aa") == ["local/older"]


async def test_case_counts_on_every_machine(daemon: Daemon) -> None:
    """fnmatch folded case on some systems (D3)."""
    await daemon.rule("local:upper", pattern="Case-*")
    assert await _targets(daemon, "Case-x") == ["local/upper"]
    assert await _targets(daemon, "case-x") == ["local/case-x"]


async def test_brackets_are_a_class_unless_escaped(daemon: Daemon) -> None:
    """`m[1]` also matched `m1`, and nobody said so (D4)."""
    added = await daemon.admin("rules.add", pattern="cls-[12]", to=["local:class"])
    assert any("class" in warning for warning in added["warnings"])
    assert await _targets(daemon, "cls-1") == ["local/class"]
    assert await _targets(daemon, "cls-3") == ["local/cls-3"]


async def test_a_cloud_that_fails_may_be_followed_by_the_local_model(daemon: Daemon, lab: Lab) -> None:
    """There was one fallback, and only from local to cloud (D10)."""
    upstream = await daemon.upstream(lab)
    model = await daemon.rule(f"{upstream}:gpt-cloud", "local:demo")
    await lab.refuse()
    async with daemon.openai() as client:
        for stream in (False, True):
            raw = await client.chat.completions.with_raw_response.create(
                model=model,
                messages=[{"role": "user", "content": "Count to 3"}],
                temperature=0,
                stream=stream,
            )
            assert raw.headers["x-gateway-served-by"] == "local/demo"
            answer = raw.parse()
            if stream:
                assert "".join([c.choices[0].delta.content or "" async for c in answer]) == "1 2 3"
            else:
                assert answer.choices[0].message.content == "1 2 3"


async def test_a_cloud_only_rule_never_runs_a_local_model(daemon: Daemon, lab: Lab) -> None:
    """Any failure of the cloud ran local by accident: 500 "failed to load model" (D11)."""
    upstream = await daemon.upstream(lab)
    model = await daemon.rule(upstream)
    lab.always(CHAT, lab.error(500))
    async with daemon.openai() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=model, messages=[])
    assert "local" not in caught.value.message
    assert "local" not in caught.value.response.headers["x-gateway-attempts"]


async def test_rules_that_cannot_work_are_refused_when_written(daemon: Daemon, lab: Lab) -> None:
    """`fallback_backend=local` was accepted and died as "no credentials for local" (D14)."""
    upstream = await daemon.upstream(lab)
    for to in (
        ["local:demo", "local:demo"],
        [upstream, upstream],
        ["local:"],
        [":x"],
        ["anthropic-not-here"],
    ):
        with pytest.raises(Refused):
            await daemon.admin("rules.add", pattern="cannot-work", to=to)


async def test_a_post_is_tried_again(daemon: Daemon, lab: Lab) -> None:
    """The retry library left POST out, so the promised three tries never happened (D20)."""
    model = await daemon.rule(await daemon.upstream(lab))
    lab.script(CHAT, lab.error(500), lab.chat("the second try"))
    async with daemon.openai() as client:
        answer = await client.chat.completions.create(model=model, messages=[])
    assert answer.choices[0].message.content == "the second try"
    assert lab.hits == 2


async def test_two_upstreams_of_one_kind_live_side_by_side(daemon: Daemon, lab: Lab, second: Lab) -> None:
    """Two rows of one provider made every request fail (D23)."""
    first, other = (
        await daemon.upstream(lab, key="sk-one-000001"),
        await daemon.upstream(second, key="sk-two-000002"),
    )
    models = [await daemon.rule(first), await daemon.rule(other)]
    async with daemon.openai() as client:
        for model in models:
            await client.chat.completions.create(model=model, messages=[])
    assert lab.seen[0].header("authorization") == "Bearer sk-one-000001"
    assert second.seen[0].header("authorization") == "Bearer sk-two-000002"


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_base_urls_are_understood_with_and_without_v1(daemon: Daemon, lab: Lab, ending: str) -> None:
    """A base_url that ended in /v1 became /v1/v1/chat/completions (D28)."""
    name = f"base{len(ending)}{ending.endswith('/')}".lower()
    await daemon.admin(
        "upstreams.add",
        name=name,
        dialect="openai",
        base_url=lab.url + ending,
        auth="none",
        list_models=False,
    )
    model = await daemon.rule(name)
    async with daemon.openai() as client:
        await client.chat.completions.create(model=model, messages=[])
    assert lab.seen[0].path == "/v1/chat/completions"


async def test_azure_style_keys_and_queries(daemon: Daemon, lab: Lab) -> None:
    """Azure was named as a use, but its path, its header and its api-version were not supported (D28)."""
    await daemon.admin(
        "upstreams.add",
        name="azure-like",
        dialect="openai",
        base_url=f"{lab.url}/openai/v1",
        auth="api-key",
        query={"api-version": "preview"},
        list_models=False,
    )
    await daemon.admin("credentials.add", upstream="azure-like", secret="azure-key-1")
    lab.always("/openai/v1/chat/completions", lab.chat())
    model = await daemon.rule("azure-like")
    async with daemon.openai() as client:
        await client.chat.completions.create(model=model, messages=[])
    assert lab.seen[0].target == "/openai/v1/chat/completions?api-version=preview"
    assert lab.seen[0].header("api-key") == "azure-key-1"
    assert lab.seen[0].header("authorization") is None


async def test_nothing_of_a_reply_is_lost(daemon: Daemon, lab: Lab) -> None:
    """tool_calls became null, all choices but the first vanished, and usage lost its details (D31)."""
    model = await daemon.rule(await daemon.upstream(lab))
    reply = canned.chat_whole() | {"system_fingerprint": "fp", "novelty": [1, {"a": None}]}
    reply["choices"] = [
        {
            "index": n,
            "finish_reason": "tool_calls",
            "logprobs": {"content": []},
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        }
        for n in range(2)
    ]
    lab.script(CHAT, lab.json(reply))
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as answer:
        assert await answer.json() == reply


async def test_the_log_tells_who_answered_and_what_it_cost(daemon: Daemon, lab: Lab) -> None:
    """Every row said "local", and the tokens of streams were null (D17)."""
    upstream = await daemon.upstream(lab)
    model = await daemon.rule("local:not-on-this-disk", upstream)
    async with daemon.openai() as client:
        stream = await client.chat.completions.create(
            model=model, messages=[], stream=True, stream_options={"include_usage": True}
        )
        assert [chunk async for chunk in stream]
    line = (await daemon.said(f"model={model} ")).string
    assert f"by={upstream}/{model}" in line
    assert "=ok;dur=" in line
    assert " in=" in line
    assert " out=" in line


async def test_concurrent_requests_share_steps(daemon: Daemon) -> None:
    """ "Continuous batching" ran one request after the other, a thread for each token (D38)."""

    async def one() -> int:
        async with daemon.openai() as client:
            answer = await client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "Count to 20"}], temperature=0
            )
            return answer.usage.completion_tokens

    await one()
    before = (await daemon.admin("status"))["local"]["steps"]
    tokens = await asyncio.gather(*(one() for _ in range(8)))
    steps = (await daemon.admin("status"))["local"]["steps"] - before
    assert steps < sum(tokens) * 0.7
