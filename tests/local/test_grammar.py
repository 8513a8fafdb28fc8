"""From what a request asks to what binds its answer."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.local.families import FORMATS
from gateway.local.fields import Unsupported
from gateway.local.grammar import Calls, GuidePlan, Shape, answer, calls, family_of, knows, read, rest
from gateway.local.lark import Mark


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


TOOLS = [function("f", parameters={"properties": {}}), function("g", strict=True)]


def test_families() -> None:
    assert family_of("mistral", "{{ '[TOOL_CALLS]' }}[ARGS]") == "mistral"
    assert family_of("mistral", "[TOOL_CALLS] [") == "mistral_list"
    assert family_of("json_tools", "") == "json_tools"
    assert family_of(None, "") is None
    assert all(knows(family) for family in FORMATS)
    assert not knows(None)
    assert not knows("function_gemma")


def test_the_marks_of_a_family_are_looked_up() -> None:
    found = calls("mistral", "[TOOL_CALLS]", "", lambda text: Mark(text, (len(text),)))
    assert found == Calls(
        "mistral", Mark("[TOOL_CALLS]", (12,)), Mark("", (0,)), {"[ARGS]": Mark("[ARGS]", (6,))}
    )


def test_tools_are_free_unless_they_are_forced() -> None:
    found = read(GuidePlan(tools=TOOLS))
    assert [tool.name for tool in found.tools] == ["f", "g"]
    assert not found.bound
    assert read(GuidePlan(tools=TOOLS, tool_choice="required")).bound
    assert read(GuidePlan(tools=TOOLS, tool_choice="none")).tools == ()


def test_a_tool_that_is_named_is_the_only_one_and_is_called_once() -> None:
    found = read(GuidePlan(tools=TOOLS, tool_name="g"))
    assert [tool.field for tool in found.tools] == ["tools[1].function.parameters"]
    assert found.forced
    assert not found.parallel


@pytest.mark.parametrize("plan", [GuidePlan(tools=TOOLS, tool_name="h"), GuidePlan(tool_choice="required")])
def test_a_tool_that_is_not_there_can_not_be_forced(plan: GuidePlan) -> None:
    with pytest.raises(RequestError) as caught:
        read(plan)
    assert caught.value.param == "tool_choice"


def test_parameters_describe_an_object() -> None:
    schemas = [
        {"type": "object", "required": ["a"]},
        {"required": ["a"]},
        {"type": ["object", "null"], "required": ["a"]},
    ]
    for schema in schemas:
        (tool,) = read(GuidePlan(tools=[function("f", parameters=schema)])).tools
        assert tool.parameters == {"type": "object", "required": ["a"]}
    (tool,) = read(GuidePlan(tools=[function("f")])).tools
    assert tool.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    for kind in ("string", ["string", "null"]):
        with pytest.raises(RequestError) as caught:
            read(GuidePlan(tools=[function("f", parameters={"type": kind})]))
        assert caught.value.param == "tools[0].function.parameters"


def test_response_formats() -> None:
    for asked, shape in (
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, Shape({"type": "object"}, strict=False)),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, Shape({"type": "object"}, strict=False)),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "array"}, "strict": True}},
            Shape({"type": "array"}, strict=True),
        ),
    ):
        found = read(GuidePlan(response_format=asked))
        assert found.shape == shape
        assert found.bound == (shape is not None)


@pytest.mark.parametrize("given", [None, 5, {"schema": "string"}])
def test_a_response_format_without_an_object_is_refused(given: Any) -> None:
    with pytest.raises(RequestError) as caught:
        read(GuidePlan(response_format={"type": "json_schema", "json_schema": given}))
    assert caught.value.param == "response_format"


def test_an_unknown_response_format_may_be_known_elsewhere() -> None:
    with pytest.raises(Unsupported):
        read(GuidePlan(response_format={"type": "grammar"}))


def test_a_forced_call_leaves_a_response_format_no_room() -> None:
    plan = GuidePlan(tools=TOOLS, tool_choice="required", response_format={"type": "json_object"})
    assert read(plan).shape is None


HOW = Calls("json_tools", Mark("<c>", (7,)), Mark("</c>", (8,)), {})
ENDLESS = Calls("mistral", Mark("[T]", (7,)), Mark(""), {"[ARGS]": Mark("[ARGS]", (9,))})


def start(grammar: str) -> str:
    """The rule that begins; a line of options stands before it."""
    return grammar.splitlines()[1]


def test_the_grammar_of_a_whole_answer() -> None:
    shape = read(GuidePlan(response_format={"type": "json_object"}))
    assert start(answer(shape, None, lead=False)) == "start: (r0)"
    assert start(answer(shape, None, lead=True)) == "start: T1? (r0)"
    both = read(GuidePlan(response_format={"type": "json_object"}, tools=TOOLS, parallel=False))
    assert start(answer(both, HOW, lead=False)).startswith("start: (r0 | <[7]> ")
    assert start(answer(both, HOW, lead=False)).endswith(" <[8]>)")


def test_further_calls_only_if_they_may_come() -> None:
    for plan, more in (
        (GuidePlan(tools=TOOLS, tool_choice="required"), True),
        (GuidePlan(tools=TOOLS, tool_choice="required", parallel=False), False),
        (GuidePlan(tools=TOOLS, tool_name="f"), False),
    ):
        assert (")*" in start(answer(read(plan), HOW, lead=False))) == more
        assert (")*" in start(rest(read(plan), HOW))) == more


def test_after_a_call_that_was_not_forced_the_answer_is_free_again() -> None:
    found = read(GuidePlan(tools=TOOLS))
    assert ")*" not in start(rest(found, HOW))
    # Unless the format has no mark for a call's end: then nothing but calls can follow.
    assert ")*" in start(rest(found, ENDLESS))
    assert ")*" not in start(rest(read(GuidePlan(tools=TOOLS, parallel=False)), ENDLESS))
