"""PURE: the tools of a Responses request as those of a chat.

A custom tool (free text instead of arguments) becomes a function with the one string `input`. Its
grammar can't be enforced that way; the model is told of it, and it is noted as changed. The tools of a
namespace become functions whose names begin with its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.wire.translate.names import CHAT_TOOL_NAME, short
from gateway.wire.translate.responses_fields import Changes, Json, array, table, text
from gateway.wire.translate.translation import UntranslatableError

_INPUT: Json = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_KINDS = ("function", "custom")
_KNOWN = frozenset({"type", "name", "description", "parameters", "strict", "format"})
# Who may call a tool, when it is shown and whether one waits for it: a chat knows one way only.
_DROPPED = ("allowed_callers", "async", "defer_loading", "output_schema")


class Tooling(msgspec.Struct, frozen=True):
    """What of a chat's body speaks of tools, and by the chat's names those that are custom, and the
    namespace and own name of those that have one.
    """

    fields: Json
    custom: frozenset[str]
    spaces: Mapping[str, tuple[str, str]]


def read_tools(asked: Json, added: Sequence[tuple[str, Any]], changes: Changes) -> Tooling:
    """Read `tools`, `tool_choice` and `parallel_tool_calls`. `added` are the lists of tools that items of
    the conversation add, with their places. Raises UntranslatableError or RequestError.
    """
    spaces: dict[str, tuple[str, str]] = {}
    raw = [
        tool
        for path, given in (("tools", asked.get("tools")), *added)
        for tool in _flat(path, array(path, given) if given is not None else [], spaces, changes)
    ]
    raw = list({_identity(path, tool): (path, tool) for path, tool in raw}.values())  # the last of a name
    if any(tool.get("type") in _KINDS for _, tool in raw):
        raw = [(path, tool) for path, tool in raw if not _can_be_missed(tool, changes)]
    tools = [_tool(path, tool, changes) for path, tool in raw]
    custom = frozenset(tool["name"] for _, tool in raw if tool["type"] == "custom")
    choice = asked.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            tools, choice = _allowed(tools, choice)
        else:
            choice = {"type": "function", "function": {"name": _chosen("tool_choice", choice)}}
    fields: Json = {}
    if tools:
        fields["tools"] = tools
        if asked.get("parallel_tool_calls") is not None:
            fields["parallel_tool_calls"] = asked["parallel_tool_calls"]
    if choice is not None and (tools or choice not in ("auto", "none")):
        fields["tool_choice"] = choice
    return Tooling(fields, custom, spaces)


def flat_name(namespace: str, name: str) -> str:
    """What a chat calls a tool of a namespace."""
    return short(f"{namespace}__{name}", CHAT_TOOL_NAME)


def _identity(path: str, tool: Any) -> str:
    kind, name = table(path, tool).get("type"), tool.get("name")
    return name if kind in _KINDS and isinstance(name, str) else path


def _flat(
    at: str, given: list[Any], spaces: dict[str, tuple[str, str]], changes: Changes
) -> list[tuple[str, Any]]:
    """The tools with their places, those of namespaces under their chat's names, which `spaces` gets."""
    found: list[tuple[str, Any]] = []
    for index, tool in enumerate(given):
        path = f"{at}[{index}]"
        if table(path, tool).get("type") != "namespace":
            found.append((path, tool))
            continue
        namespace = text(f"{path}.name", tool.get("name"))
        if tool.get("description"):
            changes.note("tools[].description")
        for place, inner in enumerate(array(f"{path}.tools", tool.get("tools"))):
            within = f"{path}.tools[{place}]"
            name = text(f"{within}.name", table(within, inner).get("name"))
            flat = flat_name(namespace, name)
            spaces[flat] = (namespace, name)
            found.append((within, {**inner, "name": flat}))
    return found


def _can_be_missed(tool: Json, changes: Changes) -> bool:
    """A search of the provider's that may not go to the web: beside tools of the client's the answer is much
    the same without. Codex offers it with every request.
    """
    if tool.get("type") != "web_search" or tool.get("external_web_access") is not False:
        return False
    changes.note("tools[]")
    return True


def _tool(path: str, value: Any, changes: Changes) -> Json:
    tool = table(path, value)
    kind = tool.get("type")
    if kind not in _KINDS:
        shown = kind[:40] if isinstance(kind, str) else "without a type"
        raise UntranslatableError(
            f"{path}.type", f"{path}: a chat has functions only, no tool {shown} that runs at the server"
        )
    for key in sorted(tool.keys() - _KNOWN):
        if tool[key]:
            changes.note(f"tools[].{key}" if key in _DROPPED else "tools[]")
    function: Json = {"name": text(f"{path}.name", tool.get("name"))}
    description = tool.get("description")
    if kind == "custom":
        function["parameters"] = _INPUT
        description = _described(path, tool, changes)
    else:
        function |= {key: tool[key] for key in ("parameters", "strict") if tool.get(key) is not None}
    if description is not None:
        function["description"] = description
    return {"type": "function", "function": function}


def _described(path: str, tool: Json, changes: Changes) -> str | None:
    """A custom tool's description; a grammar that its input must follow is told in words."""
    description: str | None = tool.get("description")
    form = tool.get("format")
    if form is None or table(f"{path}.format", form).get("type") == "text":
        return description
    if form.get("type") != "grammar":
        raise UntranslatableError(f"{path}.format.type", f"{path}: a custom tool is of text or of a grammar")
    changes.note("tools[].format")
    syntax, definition = form.get("syntax"), text(f"{path}.format.definition", form.get("definition"))
    told = f"The input must match this {syntax} grammar:\n{definition}"
    return f"{description}\n\n{told}" if description else told


def _chosen(path: str, choice: Json) -> str:
    kind = choice.get("type")
    if kind not in ("function", "custom"):
        raise UntranslatableError(f"{path}.type", f"{path}: a chat can choose among functions only")
    return text(f"{path}.name", choice.get("name"))


def _allowed(tools: list[Json], choice: Json) -> tuple[list[Json], Any]:
    """A choice among some of the tools is the same as having no others."""
    path = "tool_choice.tools"
    names = {
        _chosen(f"{path}[{i}]", table(f"{path}[{i}]", tool))
        for i, tool in enumerate(array(path, choice.get("tools")))
    }
    return [tool for tool in tools if tool["function"]["name"] in names], choice.get("mode", "auto")
