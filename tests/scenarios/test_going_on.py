"""Local models that are waited for or not, and answers that go on where somebody broke off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.local.catalog import read_folder
from tests import canned
from tests.lab import Lab
from tests.scenarios.conftest import SETTINGS
from tests.scenarios.daemon import Daemon, run_command
from tests.scenarios.parrots import BEGIN, make_parrot
from tests.scenarios.talk import CHAT, JSON, content, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count to 300"}],
    "temperature": 0,
    "max_tokens": 2000,
}
LONG = "many words " * 3000


@pytest.fixture(scope="module")
def settings() -> str:
    return f'{SETTINGS}\n[local]\nisolation = "process"\nhub_cache = false\n'


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    """Two of them are known to take a minute to load, which is not so, but who knows?"""

    def make(models: Path) -> None:
        speeds = {}
        for name in ("large", "alone"):
            folder = make_parrot(models / name, {BEGIN: [f"I am {name}"]})
            found = read_folder(name, folder, root=models)
            assert found is not None
            speeds[found.fingerprint] = {"load_s": 60.0}
        (models.parent / "speeds.json").write_text(json.dumps(speeds))
        # What it says hangs on the last token that it was given.
        make_parrot(models / "heir", {BEGIN: ["from the start"], " ": ["other side", "."]}, context=64)

    return make


async def asked(daemon: Daemon, body: dict[str, Any]) -> tuple[str, dict[str, str]]:
    async with daemon.http() as http, http.post(CHAT, data=json.dumps(body), headers=JSON) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.text(), dict(reply.headers)


def text_of(data: str) -> str:
    """What a stream says, as a client reads it."""
    events = [json.loads(line[6:]) for line in data.splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices", ()))


# --- foreseen


async def test_a_model_that_loads_for_long_is_not_waited_for(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule("local:large", cloud := await daemon.upstream(lab))
    _, headers = await asked(daemon, {"model": model, "messages": [{"role": "user", "content": "hi"}]})
    assert headers["x-gateway-served-by"] == f"{cloud}/{model}"
    assert "local/large=slow;dur=0;skipped" in headers["x-gateway-attempts"]
    # Meanwhile it is loaded, for whoever comes next.
    async with asyncio.timeout(20):
        while (await daemon.admin("models.show", model="large"))["state"] != "ready":
            await asyncio.sleep(0.02)
    data, headers = await asked(daemon, {"model": model, "messages": [{"role": "user", "content": "hi"}]})
    assert headers["x-gateway-served-by"] == "local/large"
    assert content(json.loads(data)) == "I am large"
    assert lab.hits == 1


async def test_who_has_nothing_else_waits(daemon: Daemon) -> None:
    plan = (await daemon.admin("explain", model="alone"))["plans"][CHAT]
    assert plan["try"][0]["prediction"]["load_s"] >= 60
    assert content(await whole(daemon, "alone", "hi")) == "I am alone"


async def test_a_prompt_that_is_too_long_is_not_even_tried(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule("local:heir", cloud := await daemon.upstream(lab))
    body = {"model": model, "messages": [{"role": "user", "content": LONG}]}
    for _ in ("not loaded", "loaded"):
        _, headers = await asked(daemon, body)
        assert headers["x-gateway-served-by"] == f"{cloud}/{model}"
        assert "local/heir=context_too_long;dur=0;skipped" in headers["x-gateway-attempts"]
        await daemon.admin("models.load", model="heir")
    told = await asyncio.to_thread(
        run_command, daemon.home, "explain", model, "--path", CHAT, "--body", "-", typed=json.dumps(body)
    )
    assert told.returncode == 0, told.stderr
    assert "tokens > 64, which is this model's maximum context length" in told.stdout
    assert f"1  {cloud}/{model}" in told.stdout
    body["messages"] = [{"role": "user", "content": "hi"}]
    assert (await asked(daemon, body))[1]["x-gateway-served-by"] == "local/heir"


# --- gone on with


async def test_a_worker_that_dies_is_gone_on_with_exactly(daemon: Daemon, lab: Lab) -> None:
    """What another worker of the same model says is what the first one would have said."""
    policy = await daemon.policy(mid_stream="continue", stay_local=True)
    model = await daemon.rule("local:demo", await daemon.upstream(lab), policy=policy)
    unbroken, _ = await asked(daemon, COUNT | {"model": model, "stream": True})
    data = await _killed(daemon, model)
    assert text_of(data) == text_of(unbroken)
    assert data.count("data: [DONE]") == 1
    assert data.endswith(": continued-by local/demo\n\n")
    assert '"error"' not in data
    assert lab.accepted == 0, "what stays here stays here when it breaks, too"
    line = (await daemon.said(rf"model={model} .*local_fault")).string
    assert "local/demo=local_fault" in line
    assert "local/demo=ok" in line


async def test_without_being_told_to_nobody_goes_on(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule("local:demo", await daemon.upstream(lab))
    data = await _killed(daemon, model)
    assert data.count('"error"') == 1
    assert "[DONE]" not in data
    assert lab.hits == 0


async def _killed(daemon: Daemon, model: str) -> str:
    """A stream whose worker is killed when its first words are out."""
    body = json.dumps(COUNT | {"model": model, "stream": True})
    for _ in range(10):
        await daemon.admin("models.load", model="demo")
        pids = (await daemon.admin("status"))["local"]["worker_pids"]
        async with daemon.http() as http, http.post(CHAT, data=body, headers=JSON) as reply:
            data = b""
            while b"data: " not in data:
                data += await reply.content.readany()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # of one that was killed the last time
                    os.kill(pid, signal.SIGKILL)
            data += await reply.read()
        if b"[DONE]" not in data or b"continued-by" in data:
            return data.decode()
        # It had said everything already: that proves nothing.
    raise AssertionError("the worker was always faster")


async def test_a_local_model_goes_on_from_what_a_cloud_has_said(daemon: Daemon, lab: Lab) -> None:
    cloud = await daemon.upstream(lab)
    model = await daemon.rule(cloud, "local:heir", policy=await daemon.policy(mid_stream="continue"))
    events = canned.chat_stream("Hello from the lab")
    lab.script(CHAT, lab.sse(events[:4], framing="close", cut="fin"))
    async with daemon.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": "hi"}], temperature=0, stream=True
        )
        chunks = [chunk async for chunk in raw.parse()]
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello from the other side."
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    [entry] = [each for each in await daemon.admin("db.requests") if each["model"] == model]
    assert entry["served_by"] == "local/heir"
    assert f"{cloud}/{model}=server_fault" in entry["attempts"]


def _call() -> list[bytes]:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at'}}
    return [canned.chat_role(), canned.chat_chunk({"tool_calls": [call]})]


def _thought() -> list[bytes]:
    return [canned.chat_role(), canned.chat_chunk({"reasoning_content": "let me see "})]


@pytest.mark.parametrize(
    ("events", "more"),
    [
        (_call(), {}),
        (_thought(), {}),
        (canned.chat_stream()[:3], {"response_format": {"type": "json_object"}}),
    ],
    ids=["in a call", "in a thought", "JSON mode"],
)
async def test_what_can_not_be_gone_on_with_ends_with_an_error(
    daemon: Daemon, lab: Lab, events: list[bytes], more: dict[str, Any]
) -> None:
    model = await daemon.rule(
        await daemon.upstream(lab), "local:heir", policy=await daemon.policy(mid_stream="continue")
    )
    lab.script(CHAT, lab.sse(events, cut="rst"))
    async with daemon.openai() as client:
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], stream=True, **more
        )
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
    [entry] = [each for each in await daemon.admin("db.requests") if each["model"] == model]
    assert "local/heir" not in entry["attempts"]
