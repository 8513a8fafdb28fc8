"""Tools: flat functions nested, custom ones as functions, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.translate.translation import UntranslatableError
from tests.wire.translate.responses import (
    PARAMETERS,
    WEATHER,
    Json,
    asked,
    call,
    chunk,
    messages,
    refused,
    stream,
    translator,
)

TIME = {"type": "function", "name": "time", "description": "the time", "parameters": None, "strict": None}
RUN = {"type": "custom", "name": "run", "description": "runs Python"}
FUNCTION_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": PARAMETERS, "strict": True},
}


def test_functions() -> None:
    made = asked(tools=[WEATHER, TIME], tool_choice="required", parallel_tool_calls=False)
    assert made["tools"] == [
        FUNCTION_WEATHER,
        {"type": "function", "function": {"name": "time", "description": "the time"}},
    ]
    assert made["tool_choice"] == "required"
    assert made["parallel_tool_calls"] is False


def test_without_tools_a_chat_must_not_be_told_how_to_use_them() -> None:
    made = asked(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert made.keys() == {"model", "messages"}


def test_a_choice_without_tools_is_for_the_target_to_refuse() -> None:
    assert asked(tool_choice="required")["tool_choice"] == "required"


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_choices_in_a_word(choice: str) -> None:
    assert asked(tools=[WEATHER], tool_choice=choice)["tool_choice"] == choice


@pytest.mark.parametrize("kind", ["function", "custom"])
def test_a_named_tool(kind: str) -> None:
    made = asked(tools=[WEATHER, RUN], tool_choice={"type": kind, "name": "run"})
    assert made["tool_choice"] == {"type": "function", "function": {"name": "run"}}


def test_allowed_tools_are_the_only_ones() -> None:
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "weather"}, {"type": "custom", "name": "other"}],
    }
    made = asked(tools=[TIME, WEATHER], tool_choice=choice)
    assert made["tools"] == [FUNCTION_WEATHER]
    assert made["tool_choice"] == "required"


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    via = translator()
    function = asked(via=via, tools=[{**RUN, "format": {"type": "text"}}])["tools"][0]["function"]
    assert function["name"] == "run"
    assert function["description"] == "runs Python"
    assert function["parameters"]["properties"] == {"input": {"type": "string"}}
    assert function["parameters"]["required"] == ["input"]
    assert via.changed == ()


def test_a_grammar_is_told_in_words_and_noted() -> None:
    form = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
    via = translator()
    bare = {"type": "custom", "name": "bare", "format": form}
    made = asked(via=via, tools=[{**RUN, "format": form}, bare])["tools"]
    told = "The input must match this lark grammar:\nstart: /a+/"
    assert [tool["function"]["description"] for tool in made] == [f"runs Python\n\n{told}", told]
    assert via.changed == ("tools[].format",)


def test_how_a_tool_is_offered_is_noted() -> None:
    via = translator()
    asked(via=via, tools=[{**WEATHER, "defer_loading": True, "async": False, "of next\nyear": 1}])
    assert via.changed == ("tools[].defer_loading", "tools[]")


SPACE = {"type": "namespace", "name": "crm", "description": "customers", "tools": [WEATHER, RUN]}


def test_the_tools_of_a_namespace_are_functions_that_bear_its_name() -> None:
    via = translator()
    made = asked(via=via, tools=[TIME, SPACE])["tools"]
    assert [tool["function"]["name"] for tool in made] == ["time", "crm__weather", "crm__run"]
    assert made[1]["function"]["parameters"] == PARAMETERS
    assert via.changed == ("tools[].description",)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("weather", "function_call", {"arguments": '{"input":"x"}'}),
        ("run", "custom_tool_call", {"input": "x"}),
    ],
)
def test_a_call_comes_back_with_its_namespace_and_goes_on_from_it(name: str, kind: str, said: Json) -> None:
    via = translator()
    delta = call(0, name=f"crm__{name}", call_id="c1", arguments='{"input":"x"}')
    events = stream([chunk(delta), chunk(finish="tool_calls")], via=via, tools=[SPACE])
    (item,) = events[-1]["response"]["output"]
    named = {"type": kind, "call_id": "c1", "name": name, "namespace": "crm", **said}
    assert item.items() >= named.items()
    done = {"type": f"{kind}_output", "call_id": "c1", "output": "sunny"}
    again = messages({"role": "user", "content": "hi"}, item, done)
    assert again[1]["tool_calls"][0]["function"]["name"] == f"crm__{name}"


def test_a_long_name_of_a_namespace_is_shortened_and_found_again() -> None:
    long = {"type": "namespace", "name": "n" * 60, "tools": [WEATHER]}
    via = translator()
    (made,) = asked(via=via, tools=[long])["tools"]
    name = made["function"]["name"]
    assert len(name) == 64
    events = stream([chunk(call(0, name=name, call_id="c")), chunk(finish="tool_calls")], tools=[long])
    (item,) = events[-1]["response"]["output"]
    assert (item["namespace"], item["name"]) == ("n" * 60, "weather")


def test_tools_that_an_item_adds_are_offered_and_the_last_of_a_name_holds() -> None:
    added = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [SPACE, {**TIME, "description": "new"}],
    }
    via = translator()
    made = asked(via=via, tools=[TIME], input=[added, {"role": "user", "content": "hi"}])
    assert made["messages"] == [{"role": "user", "content": "hi"}]
    told = {tool["function"]["name"]: tool["function"].get("description") for tool in made["tools"]}
    assert told == {"time": "new", "crm__weather": None, "crm__run": "runs Python"}
    assert via.input_items[0]["id"].startswith("at_")
    later = translator(history=[added])
    again = asked(via=later, previous_response_id="resp_0")
    assert len(again["tools"]) == 3
    refused("input[0].tools[1].type", input=[{**added, "tools": [TIME, {"type": "mcp"}]}])


def test_a_search_that_may_not_go_to_the_web_is_missed_by_nobody() -> None:
    search = {"type": "web_search", "external_web_access": False}
    via = translator()
    assert asked(via=via, tools=[WEATHER, search])["tools"] == [FUNCTION_WEATHER]
    assert via.changed == ("tools[]",)
    refused("tools[0].type", tools=[search])
    refused("tools[1].type", tools=[WEATHER, {**search, "external_web_access": True}])


@pytest.mark.parametrize(
    "kind",
    [
        "web_search",
        "file_search",
        "computer_use_preview",
        "code_interpreter",
        "mcp",
        "image_generation",
        "local_shell",
        "of_next_year",
        None,
    ],
)
def test_tools_of_the_cloud_are_refused(kind: Any) -> None:
    error = refused("tools[1].type", tools=[WEATHER, {"type": kind}])
    assert isinstance(error, UntranslatableError)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        (
            {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}},
            "tool_choice.tools[0].type",
        ),
        ({"tools": [{**RUN, "format": {"type": "regex"}}]}, "tools[0].format.type"),
    ],
)
def test_what_else_a_chat_does_not_know(fields: Json, param: str) -> None:
    assert isinstance(refused(param, **fields), UntranslatableError)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**RUN, "format": {"type": "grammar"}}]}, "tools[0].format.definition"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools"),
    ],
)
def test_tools_that_are_not_whole(fields: Json, param: str) -> None:
    assert not isinstance(refused(param, **fields), UntranslatableError)
