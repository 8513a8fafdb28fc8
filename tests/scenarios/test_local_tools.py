"""Tools of local models: offered, forced, streamed, answered, broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.local.engine.demo import facts
from tests.local.models import TOOL_TEMPLATE, make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import AGAIN, BEGIN, WEATHER_ARGUMENTS, WEATHER_CALL, make_parrot
from tests.scenarios.schemas import faults
from tests.scenarios.talk import calls, choice, content, joined, reason, refusal, stream, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKERS = ("<tool_call>", "</tool_call>")
DRAWN = {"temperature": 1, "seed": 3, "max_tokens": 400}


def tool(name: str, properties: dict[str, Any], **function: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    schema["additionalProperties"] = False
    return {"type": "function", "function": {"name": name, "parameters": schema, **function}}


WEATHER = tool("get_weather", {"city": {"type": "string"}})
LAMP = tool(
    "set_lamp",
    {
        "room": {"enum": ["kitchen", "hall"]},
        "on": {"type": "boolean"},
        "level": {"type": "integer", "minimum": 0, "maximum": 100},
    },
)
DOOR = tool("open_door", {"which": {"enum": ["front", "back"]}})


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "tiny")
        make_model(models / "random", template=TOOL_TEMPLATE, extra_tokens=MARKERS)
        opens = ["<tool_call>", '{"name": "open_door", "arguments": {"which": "back"}}', "</tool_call>"]
        scripts = {
            "caller": WEATHER_CALL,
            "talker": ["Let me ", "see. ", *WEATHER_CALL],
            "repeater": [*opens, "<tool_call>"],
            "stranger": ["<tool_call>", '{"name": "launch", "arguments": {"at": "dawn"}}', "</tool_call>"],
            "garbled": ["<tool_call>", '{"name": ', "get_weather, oops", "</tool_call>"],
            "listless": ["<tool_call>", '{"name": "get_weather", "arguments": "none"}', "</tool_call>"],
            "unending": [*WEATHER_CALL[:5], "na", AGAIN],
        }
        for name, script in scripts.items():
            make_parrot(models / name, {BEGIN: script}, template=TOOL_TEMPLATE, markers=MARKERS)

    return make


@pytest.mark.parametrize("model", ["caller", "talker", "demo"])
async def test_call_is_given_whole_and_in_deltas(daemon: Daemon, model: str) -> None:
    said = "What is the weather in Paris?"
    body = await whole(daemon, model, said, tools=[DOOR, WEATHER])
    chunks = await stream(daemon, model, said, tools=[DOOR, WEATHER])
    (call,) = choice(body)["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"]["name"] == "get_weather"
    assert choice(body)["finish_reason"] == reason(chunks) == "tool_calls"
    (streamed,) = calls(chunks)
    assert streamed.id
    assert streamed.name == "get_weather"
    assert json.loads(streamed.arguments) == json.loads(call["function"]["arguments"])
    assert json.loads(streamed.arguments) == ({"city": "Paris"} if model == "demo" else WEATHER_ARGUMENTS)
    spoken = "Let me see." if model == "talker" else ""
    assert content(body).strip() == joined(chunks).strip() == spoken
    if not spoken:
        assert choice(body)["message"]["content"] is None


async def test_arguments_are_streamed_while_they_are_written(daemon: Daemon) -> None:
    chunks = await stream(daemon, "caller", "hello", tools=[WEATHER])
    (call,) = calls(chunks)
    assert len(call.parts) >= 3
    named = [d for c in chunks for d in c["choices"][0]["delta"].get("tool_calls") or [] if d.get("id")]
    assert named == [named[0]]
    assert not named[0]["function"].get("arguments"), "the first delta only says what is called"


async def test_several_calls_have_their_own_index_and_id(daemon: Daemon) -> None:
    for model, said, tools, count in (
        ("repeater", "hello", [WEATHER, DOOR], 3),
        ("demo", "What is the weather in Paris and London?", [WEATHER], 2),
    ):
        body = await whole(daemon, model, said, tools=tools, max_tokens=9 if count == 3 else None)
        made = choice(body)["message"]["tool_calls"]
        streamed = calls(await stream(daemon, model, said, tools=tools, max_tokens=9 if count == 3 else None))
        assert [call["function"]["name"] for call in made] == [call.name for call in streamed]
        assert len({call["id"] for call in made}) == len({call.id for call in streamed}) == count
        assert [json.loads(call["function"]["arguments"]) for call in made] == [
            json.loads(call.arguments) for call in streamed
        ]
        assert not content(body).strip()


async def test_parallel_tool_calls_false_gives_one(daemon: Daemon) -> None:
    fields = {"tools": [WEATHER, DOOR], "parallel_tool_calls": False, "max_tokens": 60}
    body = await whole(daemon, "repeater", "hello", **fields)
    (call,) = choice(body)["message"]["tool_calls"]
    assert call["function"]["name"] == "open_door"
    chunks = await stream(daemon, "repeater", "hello", **fields)
    assert [call.name for call in calls(chunks)] == ["open_door"]
    assert reason(chunks) == choice(body)["finish_reason"] == "tool_calls"


async def test_tools_that_may_not_be_used_are_not_called(daemon: Daemon) -> None:
    for fields in ({"tools": [WEATHER], "tool_choice": "none"}, {"tools": []}, {}):
        body = await whole(daemon, "caller", "hello", **fields)
        assert choice(body)["message"].get("tool_calls") is None
        assert "Paris, the capital of France" in content(body)
        assert choice(body)["finish_reason"] == "stop"
        assert not calls(await stream(daemon, "caller", "hello", **fields))


async def test_model_calls_nothing_without_need(daemon: Daemon) -> None:
    body = await whole(daemon, "demo", "Count to 5", tools=[WEATHER], tool_choice="auto")
    assert (content(body), choice(body)["finish_reason"]) == ("1 2 3 4 5", "stop")
    assert "tool_calls" not in choice(body)["message"] or choice(body)["message"]["tool_calls"] is None


def forced(made: list[tuple[str, str]], tools: list[dict[str, Any]]) -> None:
    """Asserts that there are calls, and that each is of one of these tools and fits its schema."""
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    assert made
    for name, arguments in made:
        assert faults(json.loads(arguments), schemas[name]) == [], name


async def test_required_makes_even_noise_call(daemon: Daemon) -> None:
    tools = [LAMP, DOOR]

    async def one(seed: int) -> None:
        fields = {"tools": tools, "tool_choice": "required", "temperature": 1, "seed": seed}
        body = await whole(daemon, "random", "hello", max_tokens=400, parallel_tool_calls=False, **fields)
        made = choice(body)["message"]["tool_calls"]
        assert len(made) == 1
        forced([(call["function"]["name"], call["function"]["arguments"]) for call in made], tools)
        assert choice(body)["finish_reason"] == "tool_calls"
        assert not content(body)
        chunks = await stream(daemon, "random", "hello", max_tokens=400, parallel_tool_calls=False, **fields)
        forced([(call.name, call.arguments) for call in calls(chunks)], tools)
        assert not joined(chunks)

    await asyncio.gather(*(one(seed) for seed in range(4)))


async def test_named_tool_is_the_one_that_is_called(daemon: Daemon) -> None:
    for wanted in (LAMP, DOOR):
        name = wanted["function"]["name"]
        fields = {"tool_choice": {"type": "function", "function": {"name": name}}, **DRAWN}
        fields["parallel_tool_calls"] = False
        for model in ("random", "demo", "caller"):
            body = await whole(daemon, model, "Who are you?", tools=[WEATHER, LAMP, DOOR], **fields)
            made = choice(body)["message"]["tool_calls"]
            assert {call["function"]["name"] for call in made} == {name}
            forced([(name, call["function"]["arguments"]) for call in made], [wanted])
            assert choice(body)["finish_reason"] in ("stop", "tool_calls")  # OpenAI has said both


async def test_forced_call_that_is_cut_says_so(daemon: Daemon) -> None:
    fields = {"tools": [LAMP], "tool_choice": "required", **DRAWN, "max_tokens": 12}
    body = await whole(daemon, "random", "hello", **fields)
    assert choice(body)["finish_reason"] == "length"
    assert reason(await stream(daemon, "random", "hello", **fields)) == "length"


async def test_strict_arguments_fit_whatever_the_model_wants(daemon: Daemon) -> None:
    """The model begins a call as it always does; from there on the schema decides."""
    strict = tool("get_weather", {"city": {"enum": ["Oslo", "Rome"]}}, strict=True)
    body = await whole(daemon, "caller", "hello", tools=[strict], **DRAWN)
    (call,) = choice(body)["message"]["tool_calls"]
    forced([(call["function"]["name"], call["function"]["arguments"])], [strict])


async def test_result_of_a_tool_is_read(daemon: Daemon) -> None:
    asked = {"role": "user", "content": "What is the weather in Paris?"}
    body = await whole(daemon, "demo", [asked], tools=[WEATHER])
    made = choice(body)["message"]
    result = {
        "role": "tool",
        "tool_call_id": made["tool_calls"][0]["id"],
        "content": [{"type": "text", "text": "18"}],
    }
    for sent in (result, result | {"content": "18 degrees", "name": "get_weather"}):
        last = await whole(daemon, "demo", [asked, made, sent], tools=[WEATHER])
        assert content(last) == facts.TOOL_DONE
    assert content(await whole(daemon, "demo", [asked, made, result])) == facts.TOOL_DONE


@pytest.mark.parametrize("arguments", ["{", "", "[1]", "null", '{"a": NaN}', "\x00"], ids=repr)
async def test_broken_call_in_the_history_is_no_server_error(daemon: Daemon, arguments: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18"},
        {"role": "user", "content": "Count to 3"},
    ]
    assert choice(await whole(daemon, "demo", said, tools=[WEATHER]))["finish_reason"] in (
        "stop",
        "tool_calls",
    )


@pytest.mark.parametrize(
    ("model", "words"), [("garbled", "oops"), ("stranger", "launch"), ("listless", "none")]
)
async def test_call_that_is_none_is_shown_or_kept_from_being_none(
    daemon: Daemon, model: str, words: str
) -> None:
    """What can't be understood is not swallowed; better still, a grammar made it a call that can be."""
    for fields in ({"tools": [WEATHER]}, {"tools": [WEATHER, DOOR]}):
        message = choice(await whole(daemon, model, "hello", max_tokens=200, **fields))["message"]
        chunks = await stream(daemon, model, "hello", max_tokens=200, **fields)
        made = [
            (call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or []
        ]
        assert made == [(call.name, call.arguments) for call in calls(chunks)]
        if words not in (message["content"] or "") + str(made):
            forced(made, fields["tools"])


async def test_call_that_is_cut_is_shown(daemon: Daemon) -> None:
    body = await whole(daemon, "unending", "hello", tools=[WEATHER], max_tokens=60)
    chunks = await stream(daemon, "unending", "hello", tools=[WEATHER], max_tokens=60)
    assert "nana" in json.dumps(choice(body)["message"])
    assert "nana" in joined(chunks) + "".join(call.arguments for call in calls(chunks))
    assert choice(body)["finish_reason"] == reason(chunks) == "length"


async def test_each_choice_has_its_own_calls(daemon: Daemon) -> None:
    body = await whole(daemon, "caller", "hello", tools=[WEATHER], n=2)
    ids = [choice(body, index)["message"]["tool_calls"][0]["id"] for index in (0, 1)]
    assert ids[0] != ids[1]
    chunks = await stream(daemon, "caller", "hello", tools=[WEATHER], n=2)
    for index in (0, 1):
        (call,) = calls(chunks, index=index)
        assert json.loads(call.arguments) == WEATHER_ARGUMENTS


BAD = tool("get_weather", {"city": {"type": "hiccup"}}, strict=True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "unknown"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": {"type": "sound"}}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0]"),
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1]"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 7}}]}, "tools[0]"),
        ({"tools": [BAD], "tool_choice": "required"}, "tools[0]"),
        ({"tools": [BAD]}, "tools[0]"),
        ({"functions": [WEATHER["function"]]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused_by_name(daemon: Daemon, fields: dict[str, Any], param: str) -> None:
    error = await refusal(daemon, "demo", "hello", **{"tools": [WEATHER]} | fields)
    assert error["param"].startswith(param)
    assert error["type"] == "invalid_request_error"


async def test_model_that_knows_no_tools_says_so(daemon: Daemon) -> None:
    assert (await refusal(daemon, "tiny", "hello", tools=[WEATHER]))["param"] == "tools"
