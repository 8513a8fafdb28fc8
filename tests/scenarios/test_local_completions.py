"""Completions of plain text (/v1/completions) by local models, also by those that know no chat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab
from tests.local.asking import PLAIN
from tests.local.models import make_model
from tests.scenarios import talk
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import AGAIN, END, make_parrot
from tests.scenarios.talk import TEXT, choice, content, joined, post, reason

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "base", template=None)
        scripts = {"?": [" yes", ", it", " is"], ".": ["And", " so on"], "!": [" la", AGAIN]}
        make_parrot(models / "parrot", scripts, template=None, context=100_000)
        make_parrot(models / "dice", {}, template=None, otherwise={"a": 12, END: 11})

    return make


async def whole(daemon: Daemon, model: str, prompt: Any, **fields: Any) -> dict[str, Any]:
    return await talk.whole(daemon, model, prompt, path=TEXT, **fields)


async def stream(daemon: Daemon, model: str, prompt: Any, **fields: Any) -> list[dict[str, Any]]:
    return await talk.stream(daemon, model, prompt, path=TEXT, **fields)


async def refusal(daemon: Daemon, model: str, prompt: Any, **fields: Any) -> dict[str, Any]:
    return await talk.refusal(daemon, model, prompt, path=TEXT, **fields)


async def test_whole_completion_has_the_fields_that_clients_read(daemon: Daemon) -> None:
    body = await whole(daemon, "parrot", "is it?")
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"]) == ("text_completion", "parrot")
    assert isinstance(body["created"], int)
    assert body["choices"] == [{"index": 0, "text": " yes, it is", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["prompt_tokens"] == len("is it?")
    assert body["usage"]["total_tokens"] == 6 + body["usage"]["completion_tokens"]


async def test_streamed_completion_says_the_same(daemon: Daemon) -> None:
    *chunks, usage = await stream(daemon, "parrot", "is it?", stream_options={"include_usage": True})
    assert {(chunk["object"], chunk["id"]) for chunk in chunks} == {("text_completion", chunks[0]["id"])}
    assert (joined(chunks), reason(chunks)) == (" yes, it is", "stop")
    assert len([chunk for chunk in chunks if chunk["choices"][0]["text"]]) > 1
    assert usage["choices"] == []
    assert usage["usage"] == (await whole(daemon, "parrot", "is it?"))["usage"] | usage["usage"]
    noise = {"max_tokens": 60, "temperature": 1, "seed": 3, "logit_bias": {"256": -100}}
    body = await whole(daemon, "base", "is it?", **noise)
    assert joined(await stream(daemon, "base", "is it?", **noise)) == content(body)


async def test_first_space_is_not_lost(daemon: Daemon) -> None:
    """mlx_lm.server drops the space before the first word, so that prompt and answer grow together."""
    for model, prompt in (("parrot", "well?"), ("parrot", "sing!")):
        assert content(await whole(daemon, model, prompt, max_tokens=3)).startswith(" ")
        assert joined(await stream(daemon, model, prompt, max_tokens=3)).startswith(" ")
    spaces = await whole(daemon, "base", "hello", max_tokens=4, logit_bias={"32": 100})
    assert content(spaces) == "    "


async def test_model_without_a_chat_template_completes_but_does_not_chat(daemon: Daemon) -> None:
    assert len(content(await whole(daemon, "base", "Once upon a time", max_tokens=8, logit_bias=PLAIN))) == 8
    error = await talk.refusal(daemon, "base", "hello")
    assert error["param"] == "messages"


async def test_model_that_chats_completes_without_its_template(daemon: Daemon) -> None:
    """The prompt goes to the model as it is: what the template would add, the client has written itself."""
    asked = "<|user|>count to 5<|end|><|assistant|>"
    body = await whole(daemon, "demo", asked)
    assert content(body) == "1 2 3 4 5"
    chat = await talk.whole(daemon, "demo", "count to 5")
    assert body["usage"]["prompt_tokens"] == chat["usage"]["prompt_tokens"]


async def test_length_is_sixteen_unless_asked(daemon: Daemon) -> None:
    for fields, expected in (({}, 16), ({"max_tokens": None}, 16), ({"max_tokens": 40}, 40)):
        body = await whole(daemon, "parrot", "sing!", **fields)
        assert body["usage"]["completion_tokens"] == expected
        assert (content(body), choice(body)["finish_reason"]) == (" la" * expected, "length")


async def test_prompt_may_be_text_or_tokens_and_many(daemon: Daemon) -> None:
    fields = {"max_tokens": 8, "logit_bias": PLAIN}
    texts = ["hello", "something else", "é"]
    expected = [content(await whole(daemon, "base", text, **fields)) for text in texts]
    assert len(set(expected)) == 3
    tokens = [[*text.encode()] for text in texts]
    for prompts in (texts, tokens):
        body = await whole(daemon, "base", prompts, **fields)
        assert [content(body, index) for index in range(3)] == expected
        assert body["usage"]["prompt_tokens"] == sum(map(len, tokens))
        assert body["usage"]["completion_tokens"] == 24
    assert content(await whole(daemon, "base", tokens[0], **fields)) == expected[0]
    assert content(await whole(daemon, "base", [texts[1]], **fields)) == expected[1]
    chunks = await stream(daemon, "base", texts, **fields)
    assert [joined(chunks, index=index) for index in range(3)] == expected
    assert [reason(chunks, index=index) for index in range(3)] == ["length"] * 3


async def test_choices_of_each_prompt_stand_together(daemon: Daemon) -> None:
    body = await whole(daemon, "parrot", ["is it?", "well."], n=3)
    assert [one["index"] for one in body["choices"]] == [*range(6)]
    assert [content(body, index) for index in range(6)] == [" yes, it is"] * 3 + ["And so on"] * 3
    drawn = await whole(daemon, "dice", "x", n=16, temperature=1, seed=5, max_tokens=3)
    assert {one["finish_reason"] for one in drawn["choices"]} == {"stop", "length"}
    assert len({one["text"] for one in drawn["choices"]}) > 1


async def test_stop_strings_cut_exactly(daemon: Daemon) -> None:
    for stop, expected in ((", i", " yes"), ([" is", "it"], " yes, "), (" y", ""), ("never", " yes, it is")):
        body = await whole(daemon, "parrot", "is it?", stop=stop)
        assert (content(body), choice(body)["finish_reason"]) == (expected, "stop")
        assert joined(await stream(daemon, "parrot", "is it?", stop=stop)) == expected


async def test_seeds_and_penalties_are_honoured_here_too(daemon: Daemon) -> None:
    fields = {"temperature": 1, "max_tokens": 20, "logit_bias": PLAIN}
    said = [content(await whole(daemon, "base", "hello", seed=seed, **fields)) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    forced = {"logit_bias": {"120": 100, "121": 99}, "max_tokens": 4, "frequency_penalty": 2}
    assert content(await whole(daemon, "parrot", "hello", **forced)) == "xyxy"


async def test_echo_puts_the_prompt_first(daemon: Daemon) -> None:
    body = await whole(daemon, "parrot", "is it?", echo=True)
    assert content(body) == "is it? yes, it is"
    assert joined(await stream(daemon, "parrot", "is it?", echo=True)) == "is it? yes, it is"
    several = await whole(daemon, "parrot", ["is it?", "well."], echo=True, n=2)
    said = ["is it? yes, it is"] * 2 + ["well.And so on"] * 2
    assert [content(several, index) for index in range(4)] == said
    assert several["usage"]["prompt_tokens"] == 11
    as_tokens = await whole(daemon, "parrot", [*b"is it?"], echo=True, stop=" it")
    assert content(as_tokens) == "is it? yes,", "a stop string in the prompt stops nothing"


async def test_log_probabilities_have_the_older_shape(daemon: Daemon) -> None:
    fields = {"max_tokens": 6, "logit_bias": PLAIN}
    for top in (0, 1, 5):
        body = await whole(daemon, "base", "hello", logprobs=top, **fields)
        found = choice(body)["logprobs"]
        assert "".join(found["tokens"]) == content(body)
        assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["text_offset"]) == 6
        first = found["text_offset"][0]
        assert first in (0, len("hello")), "counted from the answer's or from the prompt's beginning"
        assert found["text_offset"] == [first + sum(map(len, found["tokens"][:i])) for i in range(6)]
        assert all(value <= 0 for value in found["token_logprobs"])
        if top:
            for token, logprob, tops in zip(
                found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
            ):
                assert top <= len(tops) <= top + 1
                assert tops[token] == pytest.approx(logprob)
                assert max(tops.values()) == pytest.approx(logprob), "the greedy one is the most probable"
        else:
            assert not any(found["top_logprobs"] or [])
    noise = {"max_tokens": 16, "logit_bias": {"256": -100}}
    found = choice(await whole(daemon, "base", "hello", logprobs=0, **noise))["logprobs"]
    assert [len(found[name]) for name in ("tokens", "token_logprobs", "text_offset")] == [16] * 3
    chunks = await stream(daemon, "base", "hello", logprobs=1, **fields)
    told = [one["logprobs"] for chunk in chunks for one in chunk["choices"] if one.get("logprobs")]
    assert "".join(token for logprobs in told for token in logprobs["tokens"]) == joined(chunks)
    assert [at for logprobs in told for at in logprobs["text_offset"]] == [*range(first, first + 6)]


@pytest.mark.parametrize(
    ("prompt", "fields", "param"),
    [
        ("hello", {"suffix": "world"}, "suffix"),
        ("", {}, "prompt"),
        ([], {}, "prompt"),
        ([[]], {}, "prompt"),
        (7, {}, "prompt"),
        (None, {}, "prompt"),
        ({"text": "hello"}, {}, "prompt"),
        ([1, "two"], {}, "prompt"),
        ([1.5], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([999_999], {}, "prompt"),
        ([["hello"]], {}, "prompt"),
        ("hello", {"echo": "yes"}, "echo"),
        ("hello", {"logprobs": True}, "logprobs"),
        ("hello", {"logprobs": -1}, "logprobs"),
        ("hello", {"logprobs": 100}, "logprobs"),
        ("hello", {"best_of": 3}, "best_of"),
        ("hello", {"n": 0}, "n"),
        ("hello", {"max_tokens": -1}, "max_tokens"),
        ("hello", {"messages": []}, "messages"),
        ("hello", {"tools": []}, "tools"),
        ("hello", {"unheard_of": 1}, "unheard_of"),
    ],
    ids=str,
)
async def test_what_is_wrong_or_unknown_is_refused_by_name(
    daemon: Daemon, prompt: Any, fields: dict[str, Any], param: str
) -> None:
    error = await refusal(daemon, "base", prompt, **fields)
    assert error["param"].startswith(param)
    assert error["type"] == "invalid_request_error"


async def test_prompt_that_is_too_long_is_refused(daemon: Daemon) -> None:
    for prompt in ("x" * 2048, [120] * 2048, ["fits", "x" * 5000]):
        for streamed in (False, True):
            error = await refusal(daemon, "base", prompt, stream=streamed)
            assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    body = await whole(daemon, "base", "x" * 2000, max_tokens=100, logit_bias=PLAIN)
    assert body["usage"]["total_tokens"] <= 2048


async def test_what_a_local_model_has_not_goes_on_to_the_next_target(daemon: Daemon, lab: Lab) -> None:
    model = await daemon.rule("local:base", await daemon.upstream(lab))
    asked: list[tuple[str, dict[str, Any]]] = [
        (TEXT, {"prompt": "hello", "suffix": "world"}),
        ("/v1/embeddings", {"input": ["hello", "world"]}),
        (talk.CHAT, {"messages": [{"role": "user", "content": "hello"}]}),
    ]
    for path, body in asked:
        async with daemon.http() as http:
            data = json.dumps(body | {"model": model})
            async with http.post(path, data=data, headers=talk.JSON) as reply:
                assert reply.status == 200, await reply.text()
                assert reply.headers["x-gateway-attempts"].startswith("local/base=unsupported;dur=")
        status, error = await post(daemon, path, body | {"model": "base"})
        assert status == 400
        assert error["error"]["type"] == "invalid_request_error"
    assert [seen.path for seen in lab.seen] == [path for path, _ in asked]
