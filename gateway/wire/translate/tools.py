"""PURE: the tools of a request and which of them may or must be called, both ways."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.fields import Changes, Fields, no_way, wrong
from gateway.wire.translate.names import ToolNames

_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


# --- a chat's, for Anthropic -------------------------------------------------------------------------


def tools_for_messages(asked: Fields, names: ToolNames, changes: Changes) -> dict[str, Any]:
    """`tools` and `tool_choice` out of a chat request."""
    tools = [
        _messages_tool(asked, index, item, names, changes) for index, item in enumerate(asked.array("tools"))
    ]
    parallel = asked.flag("parallel_tool_calls")
    choice, allowed = _messages_choice(asked, names)
    if allowed is not None:
        tools = [tool for tool in tools if tool["name"] in allowed]
    if not tools:
        return {}
    fields: dict[str, Any] = {"tools": tools}
    if parallel is False and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        fields["tool_choice"] = choice
    return fields


def _messages_tool(
    asked: Fields, index: int, item: object, names: ToolNames, changes: Changes
) -> dict[str, Any]:
    tool = Fields(f"tools[{index}]", item)
    if tool.take("type") != "function":
        raise no_way(tool.at("type"), "only tools of type function are known on both sides")
    function = tool.fields("function")
    if function is None:
        raise wrong(tool.at("function"), "an object", None)
    made: dict[str, Any] = {"name": names.there(function.needed("name"))}
    if (description := function.text("description")) is not None:
        made["description"] = description
    schema = function.take("parameters")
    if schema is not None and not isinstance(schema, dict):
        raise wrong(function.at("parameters"), "an object", schema)
    made["input_schema"] = {"type": "object", **schema} if schema else _NO_ARGUMENTS
    if function.flag("strict"):
        made["strict"] = True
    cached = tool.take("cache_control") or function.take("cache_control")
    if isinstance(cached, dict):
        made["cache_control"] = cached
    function.drop_rest(changes)
    tool.drop_rest(changes)
    return made


def _messages_choice(asked: Fields, names: ToolNames) -> tuple[dict[str, Any] | None, set[str] | None]:
    """The choice, and the names of the tools that are left if it allows only some."""
    choice = asked.take("tool_choice")
    if choice is None:
        return None, None
    if isinstance(choice, str):
        return {"type": _kind_for_messages(choice, "tool_choice")}, None
    fields = Fields("tool_choice", choice)
    kind = fields.take("type")
    if kind == "function":
        return {"type": "tool", "name": names.there(_function_name(fields))}, None
    if kind == "allowed_tools":
        inner = fields.fields("allowed_tools") or Fields("tool_choice.allowed_tools", {})
        allowed = {
            names.there(_function_name(Fields(f"tool_choice.allowed_tools.tools[{index}]", item)))
            for index, item in enumerate(inner.array("tools"))
        }
        mode = inner.text("mode") or "auto"
        return {"type": _kind_for_messages(mode, "tool_choice.allowed_tools.mode")}, allowed
    raise no_way("tool_choice.type", "only tools of type function are known on both sides")


def _kind_for_messages(word: str, at: str) -> str:
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    if word not in kinds:
        raise wrong(at, "auto, none, required or a tool", word)
    return kinds[word]


def _function_name(tool: Fields) -> str:
    function = tool.fields("function")
    if function is None:
        raise wrong(tool.at("function"), "an object", None)
    return function.needed("name")


# --- Anthropic's, for a chat -------------------------------------------------------------------------


def tools_for_chat(asked: Fields, names: ToolNames, changes: Changes) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls` out of a request for a message."""
    tools = [_chat_tool(index, item, names, changes) for index, item in enumerate(asked.array("tools"))]
    choice = asked.fields("tool_choice")
    if not tools:
        return {}
    fields: dict[str, Any] = {"tools": tools}
    if choice is None:
        return fields
    fields["tool_choice"] = _chat_choice(choice, names)
    if choice.flag("disable_parallel_tool_use"):
        fields["parallel_tool_calls"] = False
    choice.drop_rest(changes)
    return fields


def _chat_tool(index: int, item: object, names: ToolNames, changes: Changes) -> dict[str, Any]:
    tool = Fields(f"tools[{index}]", item)
    kind = tool.take("type")
    if kind not in (None, "custom"):
        raise no_way(tool.at("type"), "the provider's own tools are known to that provider only")
    function: dict[str, Any] = {"name": names.there(tool.needed("name"))}
    if (description := tool.text("description")) is not None:
        function["description"] = description
    schema = tool.take("input_schema")
    if not isinstance(schema, dict):
        raise wrong(tool.at("input_schema"), "an object", schema)
    function["parameters"] = schema
    if tool.flag("strict"):
        function["strict"] = True
    tool.drop_rest(changes)
    return {"type": "function", "function": function}


def _chat_choice(choice: Fields, names: ToolNames) -> Any:
    kind = choice.take("type")
    match kind:
        case "auto" | "none":
            return kind
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": names.there(choice.needed("name"))}}
    raise wrong(choice.at("type"), "auto, any, none or tool", kind)
