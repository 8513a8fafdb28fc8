"""Models that think aloud: their thoughts are split from the answer, and may be switched off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local.models import CHAT_TEMPLATE, TOOL_TEMPLATE
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import AGAIN, BEGIN, make_parrot
from tests.scenarios.talk import calls, choice, content, joined, reason, refusal, stream, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

THINK = ("<think>", "</think>")
OPEN_TEMPLATE = CHAT_TEMPLATE + "{% if add_generation_prompt %}<think>{% endif %}"
# The last token of the prompt says what the template was told.
SWITCH_TEMPLATE = CHAT_TEMPLATE + "{% if enable_thinking %}Y{% else %}N{% endif %}"
EFFORT_TEMPLATE = CHAT_TEMPLATE + "{{ (reasoning_effort or 'x')[0] }}"
STYLE_TEMPLATE = CHAT_TEMPLATE + "{{ style | default('?') }}"
SEEN_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{{ 'T' if messages[-2].reasoning_content == 'deep' else 'F' }}"
)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        thoughts = ["hm", "m, ", "yes", "</think>", "\n\n", "4", "2"]
        make_parrot(models / "thinker", {BEGIN: ["<think>", *thoughts]})
        make_parrot(models / "open", {"<think>": thoughts}, template=OPEN_TEMPLATE, markers=THINK)
        make_parrot(models / "lost", {BEGIN: ["<think>", "hm ", AGAIN]}, markers=THINK)
        make_parrot(models / "torn", {BEGIN: ["a </", "thin", "g"]}, markers=THINK)
        call = ["<tool_call>", '{"name": "look", "arguments": {"at": "it"}}', "</tool_call>"]
        script = ["<think>", "let me look", "</think>", *call]
        make_parrot(models / "looker", {BEGIN: script}, template=TOOL_TEMPLATE)
        switch: dict[str, Any] = {"Y": ["thinking is on"], "N": ["thinking is off"]}
        make_parrot(models / "switch", switch, template=SWITCH_TEMPLATE, markers=THINK)
        efforts: dict[str, Any] = {"l": ["a little"], "h": ["a lot"], "x": ["as usual"], "n": ["not at all"]}
        make_parrot(models / "effort", efforts, template=EFFORT_TEMPLATE, markers=THINK)
        make_parrot(models / "style", {"?": ["plain"], "!": ["loud"]}, template=STYLE_TEMPLATE)
        make_parrot(models / "seen", {"T": ["seen"], "F": ["unseen"]}, template=SEEN_TEMPLATE, markers=THINK)

    return make


@pytest.mark.parametrize("model", ["thinker", "open"])
async def test_thoughts_are_split_from_the_answer(daemon: Daemon, model: str) -> None:
    body = await whole(daemon, model, "hello")
    message = choice(body)["message"]
    assert (message["reasoning_content"], message["content"]) == ("hmm, yes", "42")
    chunks = await stream(daemon, model, "hello")
    assert (joined(chunks, "reasoning_content"), joined(chunks), reason(chunks)) == ("hmm, yes", "42", "stop")
    kinds = ["content" in c["choices"][0]["delta"] for c in chunks if any(c["choices"][0]["delta"].values())]
    assert kinds[1:] == sorted(kinds[1:]), "the thoughts come first"
    assert not [chunk for chunk in chunks if "think>" in json.dumps(chunk)]


async def test_thoughts_count_as_tokens(daemon: Daemon) -> None:
    body = await whole(daemon, "thinker", "hello")
    assert body["usage"]["completion_tokens"] in (8, 9)  # with or without the token that ends the turn
    for limit in (1, 3):
        cut = await whole(daemon, "thinker", "hello", max_tokens=limit)
        assert (content(cut), choice(cut)["finish_reason"]) == ("", "length")
        assert cut["usage"]["completion_tokens"] == limit


async def test_thoughts_without_an_end_are_thoughts(daemon: Daemon) -> None:
    body = await whole(daemon, "lost", "hello", max_tokens=5)
    message = choice(body)["message"]
    assert message["reasoning_content"].split() == ["hm"] * 4
    assert not message["content"]
    assert choice(body)["finish_reason"] == "length"


async def test_what_only_looks_like_the_end_of_thoughts_is_kept(daemon: Daemon) -> None:
    body = await whole(daemon, "torn", "hello")
    assert content(body) == joined(await stream(daemon, "torn", "hello")) == "a </thing"
    assert not choice(body)["message"].get("reasoning_content")


async def test_stop_strings_are_not_for_thoughts(daemon: Daemon) -> None:
    for stop, expected in (("yes", "42"), ("2", "4"), ("hm", "42")):
        body = await whole(daemon, "thinker", "hello", stop=stop)
        message = choice(body)["message"]
        assert (message["reasoning_content"], message["content"]) == ("hmm, yes", expected)


async def test_thoughts_before_a_call(daemon: Daemon) -> None:
    body = await whole(daemon, "looker", "hello", tools=[TOOL])
    message = choice(body)["message"]
    assert message["reasoning_content"] == "let me look"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"at": "it"}
    chunks = await stream(daemon, "looker", "hello", tools=[TOOL])
    assert joined(chunks, "reasoning_content") == "let me look"
    assert [call.name for call in calls(chunks)] == ["look"]
    assert reason(chunks) == choice(body)["finish_reason"] == "tool_calls"


async def test_log_probabilities_are_of_the_answer(daemon: Daemon) -> None:
    body = await whole(daemon, "thinker", "hello", logprobs=True)
    told = bytes(byte for entry in choice(body)["logprobs"]["content"] for byte in entry["bytes"]).decode()
    assert told.strip().endswith("42")
    chunks = await stream(daemon, "thinker", "hello", logprobs=True)
    assert joined(chunks) == "42"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "on"),
        ({"reasoning_effort": "none"}, "off"),
        ({"reasoning_effort": "high"}, "on"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "off"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "on"),
        ({"enable_thinking": False}, "off"),
        ({"enable_thinking": True}, "on"),
        ({"enable_thinking": None}, "on"),
    ],
    ids=str,
)
async def test_thinking_is_switched_by_the_request(
    daemon: Daemon, fields: dict[str, Any], expected: str
) -> None:
    assert content(await whole(daemon, "switch", "hello", **fields)) == f"thinking is {expected}"


async def test_effort_reaches_the_template_that_knows_it(daemon: Daemon) -> None:
    for effort, expected in (("low", "a little"), ("high", "a lot"), (None, "as usual")):
        assert content(await whole(daemon, "effort", "hello", reasoning_effort=effort)) == expected


async def test_effort_is_refused_by_a_template_that_does_not(daemon: Daemon) -> None:
    error = await refusal(daemon, "demo", "Count to 3", reasoning_effort="high")
    assert error["param"] == "reasoning_effort"
    assert content(await whole(daemon, "demo", "Count to 3", reasoning_effort="none")) == "1 2 3"


async def test_arguments_of_the_template_reach_it(daemon: Daemon) -> None:
    assert content(await whole(daemon, "style", "hello")) == "plain"
    assert content(await whole(daemon, "style", "hello", chat_template_kwargs={"style": "!"})) == "loud"
    for name in ("messages", "tools", "add_generation_prompt", "chat_template", "tokenize"):
        error = await refusal(daemon, "style", "hello", chat_template_kwargs={name: "x"})
        assert error["param"] == "chat_template_kwargs"


async def test_thoughts_of_earlier_turns_reach_the_template(daemon: Daemon) -> None:
    for thoughts, expected in (("deep", "seen"), ("shallow", "unseen")):
        said = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "42", "reasoning_content": thoughts},
            {"role": "user", "content": "really?"},
        ]
        assert content(await whole(daemon, "seen", said)) == expected
