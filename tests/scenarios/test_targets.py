"""Which of a rule's targets answers: the one that speaks first, one that can do it, one that can be mended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

from tests import canned
from tests.behaviours import Behaviour
from tests.lab import Lab
from tests.scenarios.daemon import Daemon, run_command

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASKED: list[Any] = [{"role": "user", "content": "hi"}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


async def told(daemon: Daemon, path: str, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of an answer."""
    async with daemon.http() as http, http.post(path, data=json.dumps(body), headers=JSON) as reply:
        data = await reply.read()
        kind = reply.headers["content-type"]
        return reply.status, json.loads(data) if "json" in kind else data, dict(reply.headers)


async def said(daemon: Daemon, dialect: str, model: str, **options: Any) -> tuple[str, Any]:
    """The text that an SDK streams, and the headers that came with it."""
    if dialect == "openai":
        async with daemon.openai(**options) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model=model, messages=ASKED, stream=True
            )
            chunks = [chunk async for chunk in raw.parse()]
            return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), raw.headers
    async with (
        daemon.anthropic(**options) as other,
        other.messages.stream(model=model, max_tokens=9, messages=ASKED) as stream,
    ):
        return await stream.get_final_text(), stream.response.headers


def beginning(dialect: str) -> list[bytes]:
    """What a provider sends before it has anything to say."""
    return [canned.chat_role()] if dialect == "openai" else [canned.message_start(), canned.PING]


# --- hedging


@pytest.mark.parametrize(("dialect", "path"), [("openai", CHAT), ("anthropic", MESSAGES)])
async def test_who_speaks_first_answers_and_the_slow_one_is_left(
    daemon: Daemon, lab: Lab, second: Lab, dialect: str, path: str
) -> None:
    slow, quick = [await daemon.upstream(each, dialect=dialect) for each in (lab, second)]
    model = await daemon.rule(slow, quick, policy=await daemon.policy(hedge_after_s=0.1))
    lab.always(path, lab.sse([*beginning(dialect), asyncio.Event()]))
    text, headers = await said(daemon, dialect, model)
    assert text == canned.TEXT
    assert headers["x-gateway-served-by"] == f"{quick}/{model}"
    assert f"{slow}/{model}=cancelled;dur=" in headers["x-gateway-attempts"]
    assert f"{quick}/{model}=ok;dur=" in headers["x-gateway-attempts"]
    assert await lab.seen[0].gone(within=1.0) - second.seen[0].at < 1.0
    [entry] = [each for each in await daemon.admin("db.requests") if each["model"] == model]
    assert entry["served_by"] == f"{quick}/{model}"
    assert f"{slow}/{model}=cancelled" in entry["attempts"]
    # Losing is no failure: it is asked first again.
    lab.always(path, lab.chat("now I am quick") if dialect == "openai" else lab.messages("now I am quick"))
    assert (await said(daemon, dialect, model))[0] == "now I am quick"


@pytest.mark.parametrize(("dialect", "path"), [("openai", CHAT), ("anthropic", MESSAGES)])
async def test_an_error_never_wins_a_race(
    daemon: Daemon, lab: Lab, second: Lab, dialect: str, path: str
) -> None:
    async with Lab() as third:
        names = [await daemon.upstream(each, dialect=dialect) for each in (lab, second, third)]
        model = await daemon.rule(*names, policy=await daemon.policy(hedge_after_s=0.1))
        gate = asyncio.Event()
        whole = (canned.chat_stream if dialect == "openai" else canned.messages_stream)("late but right")
        lab.always(path, lab.sse([*whole[:1], gate, *whole[1:]]))
        second.always(path, second.error(500))
        third.always(path, third.hang())
        asking = asyncio.ensure_future(said(daemon, dialect, model))
        await third.arrived()  # it is asked because the second one has failed
        gate.set()
        text, headers = await asking
        assert text == "late but right"
        assert headers["x-gateway-served-by"] == f"{names[0]}/{model}"
        assert f"{names[1]}/{model}=server_fault" in headers["x-gateway-attempts"]
        await third.seen[0].gone(within=1.0)
        assert (lab.hits, second.hits) == (1, 1)


# --- what a target can do


def image() -> dict[str, Any]:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    return {"messages": [{"role": "user", "content": parts}]}


def tools() -> dict[str, Any]:
    function = {"name": "look", "parameters": {"type": "object"}}
    return {"messages": ASKED, "tools": [{"type": "function", "function": function}]}


def schema() -> dict[str, Any]:
    return {"messages": ASKED, "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}


def long() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "many words " * 400}], "max_tokens": 50}


@pytest.mark.parametrize(
    ("ability", "asked", "outcome", "reason"),
    [
        ("vision=no", image, "unsupported", "does not take images"),
        ("tools=no", tools, "unsupported", "does not call tools"),
        ("json=no", schema, "unsupported", "does not keep answers to a JSON schema"),
        ("context=100", long, "context_too_long", "takes 100 tokens"),
    ],
)
async def test_a_target_that_can_not_do_it_is_not_asked(
    daemon: Daemon,
    lab: Lab,
    second: Lab,
    ability: str,
    asked: Callable[[], dict[str, Any]],
    outcome: str,
    reason: str,
) -> None:
    weak, able = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(f"{weak}:weak-1", able)
    words = ["upstreams", "set", weak, "--ability", f"weak-*: {ability}"]
    done = await asyncio.to_thread(run_command, daemon.home, *words)
    assert done.returncode == 0, done.stderr
    body = {"model": model, **asked()}
    status, _, headers = await told(daemon, CHAT, body)
    assert status == 200
    assert headers["x-gateway-served-by"] == f"{able}/{model}"
    assert headers["x-gateway-attempts"].startswith(f"{weak}/weak-1={outcome};dur=0;skipped, ")
    assert lab.hits == 0
    plan = (await daemon.admin("explain", model=model, body=body, path=CHAT))["plans"][CHAT]
    assert [each["target"] for each in plan["try"]] == [f"{able}/{model}"]
    assert reason in plan["skip"][0]["reason"]
    # What it can do it is asked for.
    assert (await told(daemon, CHAT, {"model": model, "messages": ASKED}))[0] == 200
    assert lab.hits == 1


async def test_what_a_target_refused_for_its_length_is_learnt(daemon: Daemon, lab: Lab, second: Lab) -> None:
    small, large = await daemon.upstream(lab), await daemon.upstream(second)
    model = await daemon.rule(small, large)
    words = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
    lab.script(CHAT, lab.error(400, words, code="context_length_exceeded"))
    body = {"model": model, "messages": ASKED, "max_tokens": 8990}
    for skipped in ("", ";dur=0;skipped"):
        status, _, headers = await told(daemon, CHAT, body)
        assert status == 200
        assert headers["x-gateway-served-by"] == f"{large}/{model}"
        assert f"{small}/{model}=context_too_long{skipped}" in headers["x-gateway-attempts"]
    assert lab.hits == 1
    plan = (await daemon.admin("explain", model=model, body=body, path=CHAT))["plans"][CHAT]
    assert "takes 8192 tokens" in plan["skip"][0]["reason"]
    status, _, headers = await told(daemon, CHAT, body | {"max_tokens": 100})
    assert headers["x-gateway-served-by"] == f"{small}/{model}", "a shorter one is its own"


# --- mending


def thinking(model: str) -> dict[str, Any]:
    """A conversation whose earlier thoughts were signed by somebody else."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "of another provider"}
    said = [thought, {"type": "text", "text": "Hello."}]
    messages = [*ASKED, {"role": "assistant", "content": said}, {"role": "user", "content": "and?"}]
    return {"model": model, "max_tokens": 9, "messages": messages}


async def test_what_only_another_provider_can_read_is_left_out(daemon: Daemon, lab: Lab, second: Lab) -> None:
    names = [await daemon.upstream(each, dialect="anthropic") for each in (lab, second)]
    model = await daemon.rule(*names)
    refused = lab.error(400, "messages.1.content.0: Invalid `signature` in `thinking` block")
    lab.script(MESSAGES, refused)
    body = thinking(model)
    async with daemon.anthropic() as client:
        raw = await client.messages.with_raw_response.create(**body)
    assert raw.headers["x-gateway-changed"] == "thinking blocks dropped"
    assert raw.headers["x-gateway-served-by"] == f"{names[0]}/{model}"
    assert second.hits == 0
    first, again = (each.json for each in lab.seen)
    assert first == body
    assert again["messages"][1]["content"] == body["messages"][1]["content"][1:]
    # The complaint was about the request: the target is asked first the next time too, with all of it.
    status, _, headers = await told(daemon, MESSAGES, body)
    assert (status, headers["x-gateway-served-by"]) == (200, f"{names[0]}/{model}")
    assert lab.seen[2].json == body
    assert "x-gateway-changed" not in headers


async def test_reasoning_that_another_key_has_sealed_is_left_out(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule(await daemon.upstream(lab))
    words = "The encrypted content for item rs_1 could not be verified."
    lab.script("/v1/responses", lab.error(400, words, code="invalid_encrypted_content"))
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
    turns: list[Any] = [*ASKED, thought, {"role": "assistant", "content": "Hello."}, *ASKED]
    async with daemon.openai() as client:
        raw = await client.responses.with_raw_response.create(model=model, input=turns)
    assert raw.parse().output_text == canned.TEXT
    assert raw.headers["x-gateway-changed"] == "reasoning items dropped"
    assert [each.json["input"] for each in lab.seen] == [turns, [turns[0], *turns[2:]]]


async def test_the_next_target_gets_the_request_as_it_was(daemon: Daemon, lab: Lab, second: Lab) -> None:
    names = [await daemon.upstream(each, dialect="anthropic") for each in (lab, second)]
    model = await daemon.rule(*names)
    refused = lab.error(400, "messages.1.content.0: Invalid `signature` in `thinking` block")
    lab.script(MESSAGES, refused, lab.error(529))
    status, _, headers = await told(daemon, MESSAGES, thinking(model))
    assert (status, headers["x-gateway-served-by"]) == (200, f"{names[1]}/{model}")
    assert "x-gateway-changed" not in headers
    assert lab.hits == 2
    assert second.seen[0].json == thinking(model)


# --- going on


@pytest.mark.parametrize(("dialect", "path"), [("openai", CHAT), ("anthropic", MESSAGES)])
async def test_a_cloud_that_takes_the_text_so_far_goes_on_with_it(
    daemon: Daemon, lab: Lab, second: Lab, dialect: str, path: str
) -> None:
    names = [await daemon.upstream(each, dialect=dialect) for each in (lab, second)]
    await daemon.admin("upstreams.set", name=names[1], abilities=[{"prefill": True}])
    model = await daemon.rule(*names, policy=await daemon.policy(mid_stream="continue"))
    spoken = canned.chat_stream if dialect == "openai" else canned.messages_stream
    events = spoken("Hello from the lab.")
    said_so_far = next(at for at, event in enumerate(events) if b"from " in event) + 1
    lab.script(path, lab.sse(events[:said_so_far], framing="close", cut="fin"))
    second.script(path, second.sse(spoken("the other side.")))
    text, _ = await said(daemon, dialect, model)
    assert text == "Hello from the other side."
    messages = second.seen[0].json["messages"]
    assert messages[-1]["role"] == "assistant"
    # Anthropic refuses a text that ends with a space, and so it is not sent.
    assert "Hello from" in json.dumps(messages[-1]["content"])
    [entry] = [each for each in await daemon.admin("db.requests") if each["model"] == model]
    assert entry["served_by"] == f"{names[1]}/{model}"
    assert f"{names[0]}/{model}=server_fault" in entry["attempts"]


# --- the tries of both together


@pytest.mark.parametrize(("dialect", "path"), [("openai", CHAT), ("anthropic", MESSAGES)])
@pytest.mark.parametrize(
    ("fault", "hits"),
    [
        (lambda lab: lab.error(500), 3),
        (lambda lab: lab.error(429, retry_after=1), 3),
        (lambda lab: lab.hang(), 2),
    ],
    ids=["500", "429", "timeout"],
)
async def test_an_sdk_that_tries_again_makes_no_more_calls(
    daemon: Daemon,
    lab: Lab,
    second: Lab,
    dialect: str,
    path: str,
    fault: Callable[[Lab], Behaviour],
    hits: int,
) -> None:
    names = [await daemon.upstream(each, dialect=dialect) for each in (lab, second)]
    model = await daemon.rule(*names, policy=await daemon.policy(first_token_s=0.2))
    for each in (lab, second):
        each.always(path, fault(each))
    # Not as streams: their heads are out by then, and what is out is not asked for again.
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
        if dialect == "openai":
            async with daemon.openai(max_retries=2) as client:
                await client.chat.completions.create(model=model, messages=ASKED)
        async with daemon.anthropic(max_retries=2) as other:
            await other.messages.create(model=model, messages=ASKED, max_tokens=9)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert lab.hits + second.hits == hits


async def test_a_failover_costs_next_to_nothing(daemon: Daemon, lab: Lab, second: Lab) -> None:
    """Each name is a target of its own, so that none of these is left alone for its failures."""
    refusing, good = await daemon.upstream(lab), await daemon.upstream(second)
    await daemon.rule(refusing, good, pattern=f"{refusing}-*")
    await daemon.rule(good, pattern=f"{good}-*")
    await lab.refuse()
    loop = asyncio.get_running_loop()
    took: dict[str, list[float]] = {refusing: [], good: []}
    async with daemon.http() as http:
        for number in range(40):
            for name, times in took.items():
                body = json.dumps({"model": f"{name}-{number}", "messages": []})
                began = loop.time()
                async with http.post(CHAT, data=body, headers=JSON) as reply:
                    assert reply.status == 200
                    await reply.read()
                times.append(loop.time() - began)
                assert ("connect_fault" in reply.headers["x-gateway-attempts"]) == (name == refusing)
    added = sorted(slow - quick for slow, quick in zip(took[refusing], took[good], strict=True))
    print(f"a failover adds {added[20] * 1000:.1f} ms at the median, {added[-1] * 1000:.1f} ms at most")
    assert added[20] < 0.1
