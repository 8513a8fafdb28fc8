"""Chat with local models: the shape of answers, limits, stops, choices, and what is refused by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab
from tests.local.asking import PLAIN
from tests.local.models import make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import AGAIN, BEGIN, END, make_parrot
from tests.scenarios.talk import CHAT, body_of, choice, content, joined, post, reason, refusal, stream, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_END = {"256": -100}
HELLO = {"role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "tiny", context=256)
        make_parrot(
            models / "cafe", {BEGIN: ["caf", b"\xc3", b"\xa9", " ", b"\xf0", b"\x9f", b"\x98", b"\x80"]}
        )
        make_parrot(models / "song", {BEGIN: ["one ", "two ", "three ", "four"]})
        make_parrot(models / "endless", {BEGIN: ["la ", AGAIN]}, context=100_000)
        make_parrot(models / "silent", {})
        make_parrot(models / "dice", {}, otherwise={"a": 12, END: 11})

    return make


async def test_whole_answer_has_the_fields_that_clients_read(daemon: Daemon) -> None:
    body = await whole(daemon, "song", [{"role": "system", "content": "Sing."}, HELLO])
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", "song")
    assert isinstance(body["created"], int)
    assert isinstance(body["system_fingerprint"], str)
    (only,) = body["choices"]
    assert (only["index"], only["finish_reason"], only["logprobs"]) == (0, "stop", None)
    said = {"role": "assistant", "content": "one two three four", "refusal": None}
    assert only["message"] == only["message"] | said
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] in (4, 5)  # with or without the token that ends the turn


async def test_stream_says_who_speaks_then_the_text_then_why_it_ended(daemon: Daemon) -> None:
    chunks = await stream(daemon, "song", "hello")
    assert {(c["id"], c["object"], c["model"]) for c in chunks} == {
        (chunks[0]["id"], "chat.completion.chunk", "song")
    }
    assert len({chunk["system_fingerprint"] for chunk in chunks}) == 1
    first, *middle, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"]["role"] == "assistant"
    assert not first["delta"].get("content")
    assert not [one for one in [*middle, last] if "role" in one["delta"]]
    assert len(middle) > 1
    assert last["delta"] == {}
    assert (joined(chunks), reason(chunks)) == ("one two three four", "stop")


async def test_usage_is_the_last_chunk_for_those_who_ask(daemon: Daemon) -> None:
    body = await whole(daemon, "song", "hello")
    *chunks, last = await stream(daemon, "song", "hello", stream_options={"include_usage": True})
    assert last["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == body["usage"][name]
    assert not [chunk for chunk in chunks if chunk["usage"] is not None]
    assert reason(chunks) == "stop"
    for options in ({"include_usage": False}, {}, None):
        chunks = await stream(daemon, "song", "hello", stream_options=options)
        assert not [chunk for chunk in chunks if chunk.get("usage")]


async def test_streamed_and_whole_say_the_same_even_of_noise(daemon: Daemon) -> None:
    for fields in ({}, {"temperature": 1, "seed": 3}):
        body = await whole(daemon, "tiny", "hello", max_tokens=60, logit_bias=NO_END, **fields)
        chunks = await stream(daemon, "tiny", "hello", max_tokens=60, logit_bias=NO_END, **fields)
        assert joined(chunks) == content(body)
        assert reason(chunks) == choice(body)["finish_reason"] == "length"


async def test_characters_of_several_tokens_are_never_torn(daemon: Daemon) -> None:
    for model, said, expected in (
        ("cafe", "hello", "café 😀"),
        ("demo", "Say hello in Japanese.", "こんにちは"),
    ):
        chunks = await stream(daemon, model, said)
        assert joined(chunks) == expected == content(await whole(daemon, model, said))
        assert not [chunk for chunk in chunks if "\ufffd" in str(chunk)]


async def test_content_in_parts_is_the_text_of_its_parts(daemon: Daemon) -> None:
    parts = [{"type": "text", "text": "Count "}, {"type": "text", "text": "to 4"}]
    system = {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}
    body = await whole(daemon, "demo", [system, {"role": "user", "content": parts}])
    same = await whole(
        daemon, "demo", [system | {"role": "system"}, {"role": "user", "content": "Count to 4"}]
    )
    assert content(body) == content(same) == "1 2 3 4"
    assert body["usage"]["prompt_tokens"] == same["usage"]["prompt_tokens"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_length_is_what_was_asked(daemon: Daemon, name: str) -> None:
    for limit in (1, 2, 7):
        body = await whole(daemon, "endless", "hello", **{name: limit})
        assert body["usage"]["completion_tokens"] == limit
        assert content(body).split() == ["la"] * limit
        assert choice(body)["finish_reason"] == "length"
        assert reason(await stream(daemon, "endless", "hello", **{name: limit})) == "length"
    both = {"max_tokens": 9, "max_completion_tokens": 9} | {name: 3}
    assert (await whole(daemon, "endless", "hello", **both))["usage"]["completion_tokens"] == 3


async def test_answer_of_nothing_is_an_answer(daemon: Daemon) -> None:
    body = await whole(daemon, "silent", "hello")
    assert (content(body), choice(body)["finish_reason"]) == ("", "stop")
    chunks = await stream(daemon, "silent", "hello")
    assert (joined(chunks), reason(chunks)) == ("", "stop")


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (" three", "one two"),
        (["four", "two"], "one "),
        ("ne t", "o"),
        ("o thre", "one tw"),
        (["three", "ee four"], "one two "),
        ("one", ""),
        ("four", "one two three "),
        ("fourteen", "one two three four"),
        (["five", " "], "one"),
        ([], "one two three four"),
    ],
)
async def test_stop_strings_cut_exactly(daemon: Daemon, stop: Any, expected: str) -> None:
    body = await whole(daemon, "song", "hello", stop=stop)
    chunks = await stream(daemon, "song", "hello", stop=stop)
    assert content(body) == joined(chunks) == expected
    assert choice(body)["finish_reason"] == reason(chunks) == "stop"


async def test_stop_string_ends_what_would_never_end(daemon: Daemon) -> None:
    async with asyncio.timeout(5):
        body = await whole(daemon, "endless", "hello", stop="la la la la", max_tokens=90_000)
    assert content(body) == ""
    assert choice(body)["finish_reason"] == "stop"


async def test_choices_are_counted_and_each_ends_for_its_own_reason(daemon: Daemon) -> None:
    body = await whole(daemon, "demo", "Count to 9", n=3, stop=" 5", max_tokens=40)
    assert [one["index"] for one in body["choices"]] == [0, 1, 2]
    assert [content(body, index) for index in range(3)] == ["1 2 3 4"] * 3
    one = await whole(daemon, "demo", "Count to 9", stop=" 5", max_tokens=40)
    assert body["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert body["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    # Each token is an end with a chance of 1 in 4: of 16 choices some last until the limit, some don't.
    drawn = await whole(daemon, "dice", "hello", n=16, temperature=1, seed=5, max_tokens=3)
    assert {one["finish_reason"] for one in drawn["choices"]} == {"stop", "length"}
    for index in range(16):
        cut = choice(drawn, index)["finish_reason"] == "length"
        assert content(drawn, index) == "aaa" if cut else len(content(drawn, index)) < 3


async def test_choices_are_streamed_side_by_side(daemon: Daemon) -> None:
    fields = {"n": 3, "temperature": 1.2, "seed": 4, "max_tokens": 30, "logit_bias": PLAIN}
    body = await whole(daemon, "tiny", "hello", **fields)
    *chunks, usage = await stream(daemon, "tiny", "hello", stream_options={"include_usage": True}, **fields)
    assert usage["usage"]["completion_tokens"] == 90
    assert len({chunk["id"] for chunk in chunks}) == 1
    for index in range(3):
        assert joined(chunks, index=index) == content(body, index)
        assert reason(chunks, index=index) == "length"
    order = [one["index"] for chunk in chunks for one in chunk["choices"] if one["delta"].get("content")]
    assert order != sorted(order), "one choice was streamed after the other"


async def test_begun_answer_is_gone_on_with(daemon: Daemon) -> None:
    counted = [{"role": "user", "content": "Count to 10"}, {"role": "assistant", "content": "1 2 3 4"}]
    assert content(await whole(daemon, "demo", counted)).strip() == "5 6 7 8 9 10"
    assert joined(await stream(daemon, "demo", counted)).strip() == "5 6 7 8 9 10"
    parts = [{"type": "text", "text": "1 2"}, {"type": "text", "text": " 3 4"}]
    body = await whole(daemon, "demo", [counted[0], {"role": "assistant", "content": parts}])
    assert content(body).strip() == "5 6 7 8 9 10"


@pytest.mark.parametrize("streamed", [False, True])
async def test_prompt_that_is_too_long_is_refused_before_anything_is_sent(
    daemon: Daemon, streamed: bool
) -> None:
    error = await refusal(daemon, "tiny", [HELLO] * 60, stream=streamed)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "256" in error["message"]


async def test_answer_ends_where_the_context_ends(daemon: Daemon) -> None:
    body = await whole(daemon, "tiny", "hello", max_tokens=5000, logit_bias=PLAIN)
    assert body["usage"]["total_tokens"] in (255, 256)
    assert choice(body)["finish_reason"] == "length"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "LAB/cat.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "file:///etc/hostname"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "LAB/cat.mp4"}},
    ],
    ids=lambda part: part["type"],
)
async def test_what_is_not_text_is_unsupported_and_never_fetched(
    daemon: Daemon, lab: Lab, part: dict[str, Any]
) -> None:
    part = json.loads(json.dumps(part).replace("LAB", lab.url))
    said = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    error = await refusal(daemon, "demo", said)
    assert error["param"].startswith("messages[0].content[1]")
    assert part["type"] in error["message"]
    assert lab.accepted == 0
    model = await daemon.rule("local:demo", await daemon.upstream(lab))
    await whole(daemon, model, said)
    assert [seen.json["messages"] for seen in lab.seen] == [said], "a target that can see may see it"


@pytest.mark.parametrize(
    "messages",
    [
        "hello",
        [123],
        [{}],
        [{"role": 123, "content": "x"}],
        [{"role": "system", "content": 123}],
        [HELLO, {}],
        [{"content": "hello"}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": ["hello"]}],
        [{"role": "tool", "content": None}],
        [HELLO, {"role": "assistant", "tool_calls": [{"type": "function"}]}],
    ],
)
async def test_messages_that_are_none_are_named(daemon: Daemon, messages: Any) -> None:
    status, body = await post(daemon, CHAT, body_of("tiny", "") | {"messages": messages})
    assert status == 400
    assert body["error"]["param"].startswith("messages")
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.5),
        ("top_k", 1.5),
        ("min_p", 7),
        ("stop", ""),
        ("stop", [""]),
        ("max_tokens", True),
        ("max_completion_tokens", -1),
        ("min_tokens", "two"),
        ("n", "2"),
        ("n", 1000),
        ("logprobs", 3),
        ("top_logprobs", "many"),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": "much"}),
        ("logit_bias", {"999999": 1}),
        ("presence_penalty", 3),
        ("repetition_penalty", 0),
        ("stream", 1),
        ("stream_options", {"include_usage": "yes"}),
        ("stream_options", {"unheard_of": True}),
        ("parallel_tool_calls", "no"),
        ("reasoning_effort", "much"),
        ("enable_thinking", "no"),
        ("chat_template_kwargs", []),
        ("grammar", 'root ::= "a"'),
        ("adapters", "mine"),
        ("draft_model", "demo"),
    ],
    ids=str,
)
async def test_what_is_wrong_or_unknown_is_refused_by_name(daemon: Daemon, field: str, value: Any) -> None:
    error = await refusal(daemon, "tiny", "hello", **{field: value, "max_tokens": 1} | {field: value})
    assert error["param"].startswith(field)
    assert field in error["message"]
    assert error["type"] == "invalid_request_error"
