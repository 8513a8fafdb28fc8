"""PURE: what a request binds an answer to, and the grammars that say so.

An answer is free, or it is bound from its first token (a response format, a call that is forced),
or it is free until the model itself begins a call. Reasoning is always free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gateway.errors import RequestError
from gateway.local.families import FORMATS
from gateway.local.fields import Unsupported
from gateway.local.lark import Mark, Sheet
from gateway.local.tool import Tool

ToolChoice = Literal["auto", "none", "required"]


class GuidePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, in OpenAI's shapes, and what its prompt makes of it."""

    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: ToolChoice = "auto"
    tool_name: str | None = None  # the one tool that must be called; implies `required`
    parallel: bool = True
    thinking: bool = False  # the prompt ends inside an open reasoning block
    may_think: bool = False  # the model may open one itself


class Shape(msgspec.Struct, frozen=True):
    """The JSON that an answer's text must be."""

    schema: dict[str, Any]
    strict: bool


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A plan with its tools chosen and read."""

    shape: Shape | None
    tools: tuple[Tool, ...]
    forced: bool
    parallel: bool

    @property
    def bound(self) -> bool:
        """Is the answer bound from its first token?"""
        return self.forced or self.shape is not None


class Calls(msgspec.Struct, frozen=True):
    """How a model writes calls: the family of the format and its marks in this vocabulary."""

    family: str
    start: Mark
    end: Mark
    inner: dict[str, Mark]


def family_of(parser: str | None, template: str) -> str | None:
    """The family of a model's call format; mistral's parser reads two, and the template shows which."""
    if parser == "mistral" and "[ARGS]" not in template:
        return "mistral_list"
    return parser


def knows(family: str | None) -> bool:
    """Can a call in this format be forced and checked?"""
    return family in FORMATS


def calls(family: str, start: str, end: str, find: Callable[[str], Mark]) -> Calls:
    """The marks of a known family; `find` says what a text is in the vocabulary."""
    inner = {text: find(text) for text in FORMATS[family].marks}
    return Calls(family, find(start), find(end), inner)


def read(plan: GuidePlan) -> Wanted:
    """Choose the tools and read the response format; raises RequestError or Unsupported."""
    tools = tuple(
        _tool(f"tools[{index}]", item["function"])
        for index, item in enumerate(plan.tools if plan.tool_choice != "none" else ())
        if plan.tool_name in (None, item["function"]["name"])
    )
    forced = plan.tool_name is not None or plan.tool_choice == "required"
    if forced and not tools:
        named = f"a tool named {plan.tool_name[:64]!r}" if plan.tool_name else "a tool"
        raise RequestError(f"tool_choice needs {named} in tools", code="invalid_value", param="tool_choice")
    return Wanted(
        shape=None if forced else _shape(plan.response_format),
        tools=tools,
        forced=forced,
        parallel=plan.parallel and plan.tool_name is None,
    )


def _tool(path: str, function: dict[str, Any]) -> Tool:
    field = f"{path}.function.parameters"
    schema = function.get("parameters")
    if schema is None:  # the tool takes no arguments
        schema = {"properties": {}, "additionalProperties": False}
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise RequestError(f"{field} must describe an object", code="invalid_value", param=field)
    return Tool(field, function["name"], {**schema, "type": "object"}, bool(function.get("strict")))


def _shape(asked: dict[str, Any] | None) -> Shape | None:
    kind = (asked or {"type": "text"}).get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Shape({"type": "object"}, strict=False)
    if asked is None or kind != "json_schema":
        raise Unsupported("response_format", "response_format is known as text, json_object or json_schema")
    format_ = asked.get("json_schema")
    schema = format_.get("schema", {"type": "object"}) if isinstance(format_, dict) else None
    if not isinstance(format_, dict) or not isinstance(schema, dict):
        raise RequestError(
            "response_format.json_schema must be an object with an object schema",
            code="invalid_type",
            param="response_format",
        )
    return Shape(schema, strict=bool(format_.get("strict")))


def answer(wanted: Wanted, how: Calls | None, *, lead: bool) -> str:
    """The grammar of a whole answer that is bound; with `lead`, blank lines may come before it."""
    sheet = Sheet()
    choices: list[str] = []
    if wanted.shape is not None:
        choices.append(sheet.json(wanted.shape.schema, strict=wanted.shape.strict))
    if how is not None and wanted.tools:
        choices.append(f"{how.start} {_block(sheet, wanted, how)}")
    start = f"({' | '.join(choices)})"
    if lead:
        start = sheet.lexeme(r"/[ \n]{1,4}/") + f"? {start}"
    return sheet.text(start)


def rest(wanted: Wanted, how: Calls) -> str:
    """The grammar of what follows the mark that begins a call: all of the answer if it is bound or if
    the format has no mark for the end of a call, else only the rest of that call.
    """
    sheet = Sheet()
    return sheet.text(_block(sheet, wanted, how, alone=not wanted.bound and bool(how.end.text)))


def _block(sheet: Sheet, wanted: Wanted, how: Calls, *, alone: bool = False) -> str:
    format_ = FORMATS[how.family]
    body = format_.body(sheet, wanted.tools, how.inner.__getitem__, wanted.parallel)
    block = f"{body} {how.end}"
    if alone or not wanted.parallel or not format_.repeats:
        return block
    gap = sheet.lexeme(r"/[ \n]{1,2}/") + "? " if how.end.text else ""
    return f"{block} ({gap}{how.start} {block})*"
