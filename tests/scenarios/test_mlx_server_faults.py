"""What mlx_lm.server 0.32.2 lacks or gets wrong, shown through the front door to be right here.

One test for each of the 25 faults that were observed in it or read in its source, in the same order.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import statistics
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Local
from gateway.local.pool import LocalPool
from tests.lab import Lab
from tests.local import asking
from tests.local.asking import PLAIN
from tests.local.models import TOOL_TEMPLATE, make_model
from tests.scenarios import daemon as gateways
from tests.scenarios.conftest import SETTINGS
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import AGAIN, BEGIN, WEATHER_ARGUMENTS, WEATHER_CALL, make_parrot
from tests.scenarios.talk import (
    CHAT,
    JSON,
    body_of,
    calls,
    choice,
    content,
    joined,
    places,
    post,
    reach,
    reason,
    refusal,
    running,
    stream,
    whole,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKERS = ("<tool_call>", "</tool_call>")
LONG = "a question of more than sixty-four tokens, " * 3
FOR_EVER = 90_000
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def hub() -> Iterator[socket.socket]:
    """What stands for the model hub: nobody answers there, and a connection to it can be seen."""
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        yield listening


@pytest.fixture(scope="module")
def settings(hub: socket.socket) -> str:
    return f"{SETTINGS}\n[local]\nbatch_size = 8\nmax_queue = 4\n"


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "tiny")
        make_model(models / "twin")  # the same in all but its name: it has no part in the caches of the other
        make_parrot(models / "endless", {BEGIN: [" la", AGAIN]}, context=100_000)
        make_parrot(models / "heavy", {BEGIN: ["x", AGAIN]}, context=100_000, hidden=1024)
        make_parrot(models / "nan", {BEGIN: ["x"]})
        _spoil(models / "nan")
        tools = {
            "lookalike": ["so 1 ", "<", "tool_"],
            "calls": WEATHER_CALL,
            "garbled": ["<tool_call>", '{"name": ', "get_weather, oops", "</tool_call>"],
            "unending": [*WEATHER_CALL[:5], "na", AGAIN],
        }
        for name, script in tools.items():
            make_parrot(
                models / name, {BEGIN: script}, template=TOOL_TEMPLATE, markers=MARKERS, context=100_000
            )
        make_parrot(models.parent.parent / "outside", {BEGIN: ["secret"]})

    return make


def _spoil(folder: Path) -> None:
    """Make the first weights, which are of a norm, no numbers."""
    with (folder / "model.safetensors").open("r+b") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + size)
        file.write(struct.pack("<4f", *[float("nan")] * 4))


async def test_prompt_that_equals_an_earlier_prompt_and_its_answer(daemon: Daemon) -> None:
    """1: the prompt cache then leaves nothing to compute, the generation thread dies of an empty prompt, and
    every later request is a 404.
    """
    fields = {"max_tokens": 40, "logit_bias": PLAIN}
    question = {"role": "user", "content": LONG}
    first = await whole(daemon, "tiny", LONG, **fields)
    again = await whole(daemon, "tiny", LONG, **fields)
    followed = [question, {"role": "assistant", "content": content(first)}]
    last = await whole(daemon, "tiny", followed, **fields)
    assert content(again) == content(first)
    assert content(last) == content(await whole(daemon, "twin", followed, **fields))
    for warm in (again, last):
        assert warm["usage"]["prompt_tokens_details"]["cached_tokens"] > 64


async def test_model_that_fails_takes_nobody_along(daemon: Daemon) -> None:
    """2: any exception in the batch loop ends the generation thread; nothing starts it again."""
    async with running(daemon, "endless", "hi", max_tokens=FOR_EVER) as beside:
        for _ in range(2):
            status, body = await post(daemon, CHAT, body_of("nan", "hi"))
            assert status >= 500
            assert body["error"]["message"]
        await beside.past(len(beside.texts) + 20)
    assert content(await whole(daemon, "demo", "Count to 3")) == "1 2 3"


async def test_newcomer_beside_a_stream_begins_at_once(daemon: Daemon) -> None:
    """3: requests are admitted every 0.5 s only, if anything is being decoded."""
    await whole(daemon, "heavy", "warm", max_tokens=1)
    waited: list[int] = []
    async with running(daemon, "heavy", "hi", max_tokens=FOR_EVER) as beside:
        for number in range(7):
            await beside.past(len(beside.texts) + 2)
            before = len(beside.texts)
            async with running(daemon, "heavy", f"newcomer {number}", max_tokens=FOR_EVER):
                waited.append(len(beside.texts) - before)
    # Its prompt is two steps and its first token one; 15 ms a step let the rest be lost in HTTP.
    assert statistics.median(waited) <= 8, waited


async def test_seed_or_another_model_lets_running_streams_run(daemon: Daemon) -> None:
    """4: either waits until the batch has drained, and so does everybody who comes later."""
    async with running(daemon, "endless", "hi", max_tokens=FOR_EVER) as beside, asyncio.timeout(10):
        await whole(daemon, "endless", "hi", seed=7, temperature=1, max_tokens=5)
        await whole(daemon, "endless", "hi", max_tokens=5)
        assert content(await whole(daemon, "demo", "Count to 4", seed=1)) == "1 2 3 4"
        await beside.past(len(beside.texts) + 20)
        assert not beside.ended


async def test_stop_string_between_tokens_ends_the_answer(daemon: Daemon) -> None:
    """5: a stop is looked for in token ids: "4 5" was cut out of the middle and the answer went on."""
    assert content(await whole(daemon, "demo", "Count to 9", stop="4 5")) == "1 2 3 "
    chunks = await stream(daemon, "demo", "Count to 9", stop="4 5")
    assert (joined(chunks), reason(chunks)) == ("1 2 3 ", "stop")


async def test_text_that_ends_like_a_marker_is_kept(daemon: Daemon) -> None:
    """6: what was held back because it might become <tool_call> is thrown away at the end."""
    body = await whole(daemon, "lookalike", "hi", tools=[WEATHER])
    assert (content(body), choice(body)["finish_reason"]) == ("so 1 <tool_", "stop")
    assert joined(await stream(daemon, "lookalike", "hi", tools=[WEATHER])) == "so 1 <tool_"


async def test_client_that_leaves_a_whole_answer_frees_its_place(daemon: Daemon) -> None:
    """7: nothing is written before the end, so nobody notices: busy for the whole answer."""
    asked = asyncio.create_task(whole(daemon, "endless", "hi", max_tokens=FOR_EVER))
    await reach(daemon, "endless", 1, within=5)
    asked.cancel()
    await reach(daemon, "endless", 0, within=2)


@pytest.mark.parametrize("streamed", [False, True])
async def test_client_that_leaves_inside_a_tool_call_frees_its_place(daemon: Daemon, streamed: bool) -> None:
    """8: nothing is written while a call is being generated: busy until it ends, if it ever does."""
    body = body_of("unending", "hi", tools=[WEATHER], max_tokens=FOR_EVER, stream=streamed)
    asked = asyncio.create_task(post(daemon, CHAT, body))
    await reach(daemon, "unending", 1, within=5)
    asked.cancel()
    await reach(daemon, "unending", 0, within=2)


async def test_log_probabilities_are_streamed_and_have_bytes(daemon: Daemon) -> None:
    """9: dropped from streams; elsewhere without bytes, and a token is a word of the vocabulary (Ġw)."""
    chunks = await stream(daemon, "demo", "Count to 5", logprobs=True, top_logprobs=2)
    found = [one["logprobs"] for chunk in chunks for one in chunk["choices"] if one.get("logprobs")]
    entries = [entry for logprobs in found for entry in logprobs["content"]]
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == "1 2 3 4 5"
    assert "".join(entry["token"] for entry in entries) == "1 2 3 4 5"
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


async def test_response_format_is_honoured(daemon: Daemon) -> None:
    """10: ignored without a word: 200 and prose."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    body = await whole(daemon, "demo", "Who are you?", response_format=wanted, max_tokens=60)
    assert choice(body)["finish_reason"] == "stop"
    assert json.loads(content(body)).keys() == {"ok"}


async def test_n_and_the_choice_of_tools_are_honoured(daemon: Daemon) -> None:
    """11: n gave one choice; tool_choice and parallel_tool_calls were never read."""
    body = await whole(daemon, "demo", "Count to 3", n=2)
    assert [content(body, index) for index in (0, 1)] == ["1 2 3", "1 2 3"]
    forced = await whole(
        daemon, "demo", "Count to 3", tools=[WEATHER], tool_choice="required", max_tokens=200
    )
    assert choice(forced)["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    none = await whole(daemon, "calls", "hi", tools=[WEATHER], tool_choice="none")
    assert not choice(none)["message"].get("tool_calls")
    cities = "What is the weather in Paris and London?"
    single = await whole(daemon, "demo", cities, tools=[WEATHER], parallel_tool_calls=False)
    assert len(choice(single)["message"]["tool_calls"]) == 1


async def test_only_who_may_asks_and_only_for_models_by_name(daemon: Daemon, hub: socket.socket) -> None:
    """12: any key would do, any web page was let in, and a client could name a path or a repository."""
    outside = daemon.home.parent / "outside"
    for name in (
        str(outside),
        "../outside",
        "../../outside",
        f"{outside}/",
        "mlx-community/Qwen1.5-0.5B-Chat-4bit",
    ):
        status, body = await post(daemon, CHAT, body_of(name, "hi"))
        assert status in (400, 404), name
        assert body["error"]["message"]
        assert "secret" not in str(body)
    assert not select.select([hub], [], [], 0)[0], "the hub was asked"
    key = (await daemon.admin("clients.add", name="app"))["key"]
    try:
        for given, expected in (("mlxg_wrong", 401), (key, 200)):
            headers = JSON | {"authorization": f"Bearer {given}"}
            body = json.dumps(body_of("demo", "hi", max_tokens=1))
            async with daemon.http() as http, http.post(CHAT, data=body, headers=headers) as reply:
                assert reply.status == expected
                assert not [name for name in reply.headers if name.lower().startswith("access-control")]
    finally:
        await daemon.admin("clients.remove", name="app")


async def test_failures_have_their_status_and_an_error_object(daemon: Daemon) -> None:
    """13: every failure of a generation is a 404 with {"error": "<words>"}."""
    await refusal(daemon, "tiny", "raise", status=400)
    assert (await refusal(daemon, "tiny", "x" * 4000, status=400))["code"] == "context_length_exceeded"
    assert (await refusal(daemon, "not-here", "hi", status=404))["code"] == "model_not_found"
    status, body = await post(daemon, CHAT, body_of("nan", "hi"))
    assert status in (500, 502, 503)
    assert body["error"].keys() >= {"message", "type", "param", "code"}


async def test_empty_stream_options_end_with_done(daemon: Daemon) -> None:
    """14: the stream ended without [DONE]."""
    chunks = await stream(daemon, "demo", "Count to 3", stream_options={})
    assert joined(chunks) == "1 2 3"
    assert not [chunk for chunk in chunks if chunk.get("usage")]


async def test_null_means_not_asked(daemon: Daemon) -> None:
    """15: max_tokens: null was a 400."""
    names = ("max_tokens", "max_completion_tokens", "stop", "seed", "n", "tools", "tool_choice", "logprobs")
    names += ("response_format", "logit_bias", "stream_options", "top_p", "user", "temperature")
    assert content(await whole(daemon, "demo", "Count to 3", **dict.fromkeys(names))) == "1 2 3"


async def test_prompt_beyond_the_context_is_refused(daemon: Daemon) -> None:
    """16: 12,008 tokens were accepted by a model of 4,096."""
    error = await refusal(daemon, "tiny", "x" * 12_008)
    assert error["code"] == "context_length_exceeded"
    assert "2048" in error["message"]
    body = await whole(daemon, "tiny", "x" * 2030, max_tokens=4000, logit_bias=PLAIN)
    assert body["usage"]["total_tokens"] <= 2048
    assert choice(body)["finish_reason"] == "length"


async def test_broken_tool_call_is_shown_and_a_good_one_comes_in_parts(daemon: Daemon) -> None:
    """17: a call that was cut or malformed vanished with a line in the log; arguments came all at once."""
    for name, words in (("garbled", "oops"), ("unending", "nana")):
        body = await whole(daemon, name, "hi", tools=[WEATHER], max_tokens=60)
        chunks = await stream(daemon, name, "hi", tools=[WEATHER], max_tokens=60)
        told = joined(chunks) + "".join(call.name + call.arguments for call in calls(chunks))
        for shown in (json.dumps(choice(body)["message"]), told):
            # A grammar may have kept the model from writing what can't be read.
            assert words in shown or (name == "garbled" and "get_weather" in shown)
    (call,) = calls(await stream(daemon, "calls", "hi", tools=[WEATHER]))
    assert json.loads(call.arguments) == WEATHER_ARGUMENTS
    assert len(call.parts) > 1


async def test_embeddings_of_a_model_without_go_on_to_the_next_target(daemon: Daemon, lab: Lab) -> None:
    """18: /v1/embeddings was a 404 in plain text."""
    asked = {"model": "demo", "input": "hello"}
    status, body = await post(daemon, "/v1/embeddings", asked)
    assert status == 400
    assert body["error"]["message"]
    model = await daemon.rule("local:demo", await daemon.upstream(lab))
    async with daemon.http() as http:
        data = json.dumps(asked | {"model": model})
        async with http.post("/v1/embeddings", data=data, headers=JSON) as reply:
            assert reply.status == 200
            assert reply.headers["x-gateway-attempts"].startswith("local/demo=unsupported")


async def test_model_that_goes_takes_its_prompt_cache_along(daemon: Daemon) -> None:
    """19: the cache is counted in entries, not bytes, and those of a model that is gone stay."""
    said = "told only here; " * 20
    for expected in (False, True):
        body = await whole(daemon, "twin", said, max_tokens=4, logit_bias=PLAIN)
        assert bool(body["usage"]["prompt_tokens_details"]["cached_tokens"]) is expected
    await daemon.admin("models.unload", model="twin")
    body = await whole(daemon, "twin", said, max_tokens=4, logit_bias=PLAIN)
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strained() -> AsyncIterator[Daemon]:
    """A gateway with next to no room for prompts, and with models that are served in ways of their own."""
    with tempfile.TemporaryDirectory(prefix="mlxg-") as folder:
        home = Path(folder) / "home"
        make_parrot(home / "models" / "brief", {BEGIN: ["well", " done"]})
        for name in ("small", "plain", "draft", "guessed"):
            make_parrot(home / "models" / name, {BEGIN: [" la", AGAIN]}, context=100_000)
        local = "[local]\nmax_queue = 64\nprompt_cache_gb = 0.001\n"
        local += 'kv_bits = ["small=8"]\ndraft_models = ["guessed=draft"]\n'
        async with gateways.running(home, f"{SETTINGS}\n{local}") as daemon:
            yield daemon


async def test_full_prompt_cache_under_load_stands_still_for_nobody(strained: Daemon) -> None:
    """20: with a full prompt cache and many requests the loop waits for ever, without an exception."""
    async with asyncio.timeout(30):
        for _ in range(2):
            said = [f"{number} of sixty-four; " * 10 for number in range(64)]
            bodies = await asyncio.gather(*(whole(strained, "brief", text) for text in said))
            assert {content(body) for body in bodies} == {"well done"}


async def test_two_models_answer_at_once(daemon: Daemon) -> None:
    """21: there is room for one model; another one evicts it, and a model never leaves by itself."""
    async with (
        running(daemon, "endless", "hi", max_tokens=FOR_EVER) as one,
        running(daemon, "unending", "hi", max_tokens=FOR_EVER) as other,
    ):
        for beside in (one, other, one, other):
            await beside.past(len(beside.texts) + 20)
        models = (await daemon.admin("status"))["local"]["models"]
        assert {models[name]["state"] for name in ("endless", "unending")} == {"ready"}


async def test_queue_has_an_end_and_connections_are_kept(daemon: Daemon) -> None:
    """22: HTTP/1.0, a thread for each connection, a queue without end, no 429."""
    body = body_of("endless", "hi", max_tokens=FOR_EVER)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_left(daemon, body)) for _ in range(12)]
        async with asyncio.timeout(5):
            while await _waiting(daemon, "endless") < 4:
                await asyncio.sleep(0.01)
        async with daemon.http() as http, http.post(CHAT, data=json.dumps(body), headers=JSON) as reply:
            assert reply.status in (429, 503)
            assert float(reply.headers["retry-after"]) > 0
            assert (await reply.json())["error"]["message"]
        for task in asked:
            task.cancel()
    await reach(daemon, "endless", 0, within=5)
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % daemon.port)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(size.split(b":")[1]))
    writer.close()


async def _left(daemon: Daemon, body: dict[str, Any]) -> None:
    await post(daemon, CHAT, body)


async def _waiting(daemon: Daemon, model: str) -> int:
    return int((await daemon.admin("status"))["local"]["models"].get(model, {}).get("waiting", 0))


async def test_urls_of_images_are_never_fetched(daemon: Daemon, lab: Lab) -> None:
    """23: any http(s) URL that a client sends is fetched, also those behind the firewall."""
    image = {"type": "image_url", "image_url": {"url": f"{lab.url}/cat.png"}}
    error = await refusal(
        daemon, "demo", [{"role": "user", "content": [{"type": "text", "text": "?"}, image]}]
    )
    assert error["param"] == "messages[0].content[1]"
    assert "image_url" in error["message"]
    assert lab.accepted == 0


async def test_settings_of_one_model_leave_the_batches_of_others_alone(strained: Daemon) -> None:
    """24: a draft model or a quantised KV cache turns batching off for everyone."""
    for name in ("small", "guessed"):
        assert content(await whole(strained, name, "hi", max_tokens=20)).split() == ["la"] * 20
    async with (
        asyncio.timeout(15),
        running(strained, "small", "hi", max_tokens=FOR_EVER),
        running(strained, "guessed", "hi", max_tokens=FOR_EVER),
        running(strained, "plain", "hi", max_tokens=FOR_EVER) as one,
        running(strained, "plain", "hi", max_tokens=FOR_EVER) as other,
    ):
        for beside in (one, other, one):
            await beside.past(len(beside.texts) + 20)
        assert await places(strained, "plain") == 2


async def test_probabilities_are_not_read_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25: one is read for every token of every row, each time waiting for the device."""
    from gateway.local.engine.foreign import BatchGenerator

    tokens = reads = 0
    step = BatchGenerator.next

    class Counted:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getitem__(self, key: Any) -> Any:
            nonlocal reads
            reads += 1
            return self.real[key]

    def counting(generator: Any) -> tuple[list[Any], list[Any]]:
        nonlocal tokens
        prompts, responses = step(generator)
        for response in responses:
            tokens += 1
            response.logprobs = Counted(response.logprobs)
        return prompts, responses

    monkeypatch.setattr(BatchGenerator, "next", counting)
    make_parrot(tmp_path / "models" / "endless", {BEGIN: [" la", AGAIN]})
    async with asking.closing(LocalPool(Local(hub_cache=False), tmp_path)) as pool:
        await asking.whole(pool, "endless", max_tokens=640)
    assert tokens == 640
    assert reads <= 10, "a look now and then for broken numbers, no more"
