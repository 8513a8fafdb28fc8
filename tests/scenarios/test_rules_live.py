"""Rules, upstreams and keys change while requests run; /v1/models and explain tell the truth of it."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.lab import Lab
from tests.scenarios.daemon import Daemon, Refused, run_command

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"


async def test_a_changed_rule_counts_for_the_next_request(daemon: Daemon, lab: Lab, second: Lab) -> None:
    first, other = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(first)
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http:
        for upstream in (first, other, first):
            await daemon.admin("rules.set", rule=model, to=[upstream])
            async with http.post(CHAT, data=body, headers=JSON) as reply:
                assert reply.headers["x-gateway-served-by"] == f"{upstream}/{model}"
        await daemon.admin("rules.disable", rule=model)
        async with http.post(CHAT, data=body, headers=JSON) as reply:
            assert reply.status == 404


async def test_no_request_fails_while_rules_change(daemon: Daemon, lab: Lab, second: Lab) -> None:
    """refresh_rules() closed live clients and reset every breaker (D22)."""
    first, other = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(first)
    body = json.dumps({"model": model, "messages": [], "stream": True})

    async def one(http: aiohttp.ClientSession) -> None:
        async with http.post(CHAT, data=body, headers=JSON) as reply:
            assert reply.status == 200
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")

    async with daemon.http() as http:
        for edit in range(12):
            asking = [asyncio.ensure_future(one(http)) for _ in range(10)]
            await daemon.admin("rules.set", rule=model, to=[other if edit % 2 else first], priority=edit % 5)
            await asyncio.gather(*asking)


async def test_exact_beats_wildcard_and_priority_the_rest(daemon: Daemon) -> None:
    """`gpt-*` at priority 10 beat an exact `gpt-4` at 0 (D1)."""
    await daemon.admin("rules.add", pattern="order-*", to=["local:one"], priority=10)
    await daemon.admin("rules.add", pattern="order-4", to=["local:two"])
    await daemon.admin("rules.add", pattern="order-4*", to=["local:three"], priority=10)
    for name, wanted in (("order-4", "local/two"), ("order-4o", "local/three"), ("order-x", "local/one")):
        told = await daemon.admin("explain", model=name)
        assert [t["target"] for t in told["targets"]] == [wanted]
        async with daemon.http() as http:
            body = json.dumps({"model": name, "messages": []})
            async with http.post(CHAT, data=body, headers=JSON) as reply:
                assert wanted.removeprefix("local/") in await reply.text()


async def test_bad_rules_are_refused_whole(daemon: Daemon) -> None:
    before = await daemon.admin("rules.list")
    for args, said in (
        ({"pattern": "", "to": ["local:demo"]}, "pattern"),
        ({"pattern": "x", "to": []}, "target"),
        ({"pattern": "x", "to": ["nowhere:gpt"]}, "nowhere"),
        ({"pattern": "x", "to": ["local:demo"], "policy": "nope"}, "nope"),
        ({"pattern": "x", "to": ["local:{3}"]}, "3"),
        ({"pattern": "x", "to": ["local:demo"], "colour": 1}, "colour"),
        ({"pattern": 7, "to": ["local:demo"]}, "pattern"),
    ):
        with pytest.raises(Refused) as caught:
            await daemon.admin("rules.add", **args)
        assert caught.value.status in (400, 409), args
        assert said in caught.value.message
    assert await daemon.admin("rules.list") == before


async def test_command_works_the_same_with_a_running_gateway(daemon: Daemon) -> None:
    done = await asyncio.to_thread(
        run_command, daemon.home, "rules", "add", "by-command-*", "--to", "local:demo", "--json"
    )
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    assert added["pattern"] == "by-command-*"
    async with daemon.http() as http:
        body = json.dumps(
            {"model": "by-command-1", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        )
        async with http.post(CHAT, data=body, headers=JSON) as reply:
            assert reply.status == 200
    told = await asyncio.to_thread(run_command, daemon.home, "explain", "by-command-1")
    assert "by-command-*" in told.stdout
    removed = await asyncio.to_thread(run_command, daemon.home, "rules", "remove", str(added["id"]))
    assert removed.returncode == 0


async def test_models_lists_what_can_be_asked_for(daemon: Daemon, lab: Lab) -> None:
    """Whatever was not local was a 404 before routing, and /v1/models listed no routed name (D37)."""
    upstream = await daemon.upstream(lab)
    await daemon.admin("upstreams.set", name=upstream, list_models=True)
    lab.always("/v1/models", lab.models("listed-a", "listed/b", "unreachable-c"))
    exact = await daemon.rule(upstream)
    await daemon.rule(upstream, pattern="listed*")
    async with daemon.openai() as client:
        names = [model.id for model in (await client.models.list()).data]
        one = await client.models.retrieve("listed/b")
    assert {"demo", exact, "listed-a", "listed/b"} <= set(names)
    assert "unreachable-c" not in names
    assert "listed*" not in names
    assert one.id == "listed/b"
    async with daemon.anthropic() as client:
        page = await client.models.list()
        assert "demo" in [model.id for model in page.data]


async def test_requests_without_a_model_need_a_default_upstream(daemon: Daemon) -> None:
    async with daemon.http() as http, http.get("/v1/files") as reply:
        assert reply.status == 400
        assert "routing.default_upstream" in (await reply.json())["error"]["message"]


async def test_metrics_count_what_happened(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    body = json.dumps({"model": model, "messages": []})
    async with daemon.http() as http:
        async with http.post(CHAT, data=body, headers=JSON):
            pass
        async with http.get("/metrics") as reply:
            text = await reply.text()
    assert "mlx_gateway_requests_total" in text
    assert 'outcome="ok"' in text
    assert model not in text, "names that clients choose would make endless series"
