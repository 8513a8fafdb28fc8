"""PURE: the body of /v1/chat/completions, read for the local engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import RequestError
from gateway.local.fields import Unsupported, array, flag, integer, table, text, wrong
from gateway.local.messages import read_messages
from gateway.local.options import (
    COMMON,
    Asked,
    Reader,
    only,
    read_fields,
    read_object,
    required,
    tokens_limit,
)
from gateway.local.request import Chat, Format, Generate, Tooling

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
MAX_TOP_LOGPROBS = 20


def read_chat(body: bytes) -> Asked:
    """Read a chat request; raise RequestError or Unsupported naming the field."""
    asked = read_object(body)
    messages = read_messages(required(asked, "messages", "send at least one message"))
    found = read_fields(asked, _READERS)
    prompt = Chat(
        messages=messages,
        reasoning_effort=found.pop("reasoning_effort", None),
        template_args=found.pop("template_args", {}) | found.pop("thinking", {}),
    )
    stream, include_usage = found.pop("stream", False), found.pop("include_usage", False)
    work = Generate(
        prompts=(prompt,),
        tooling=_tooling(found),
        top_logprobs=_logprobs(found),
        **found,
    )
    _check(work)
    return Asked(work=work, stream=stream, include_usage=include_usage)


def _tooling(found: dict[str, Any]) -> Tooling:
    tools = found.pop("tools", [])
    choice, name = found.pop("tool_choice", ("auto", ""))
    parallel = found.pop("parallel_tool_calls", True)
    if choice in ("required", "named") and not tools:
        raise RequestError(
            "tool_choice asks for a tool call, but there are no tools; send tools, or leave it out",
            param="tool_choice",
        )
    if choice == "named" and all(tool["function"]["name"] != name for tool in tools):
        raise RequestError(f"tool_choice names {name[:64]!r}, which is not among tools", param="tool_choice")
    if not tools:
        return Tooling()
    return Tooling(tools=tools, choice=choice, name=name, parallel=parallel)


def _logprobs(found: dict[str, Any]) -> int | None:
    wanted, top = found.pop("logprobs", False), found.pop("top_logprobs", None)
    if top and not wanted:
        raise RequestError("top_logprobs needs logprobs to be true", param="top_logprobs")
    return (top or 0) if wanted else None


def _check(work: Generate) -> None:
    prompt = work.prompts[0]
    if not isinstance(prompt, Chat) or not prompt.prefill:
        return
    if work.tooling.forced:
        raise Unsupported("tool_choice", "a message that is gone on with can't be turned into a tool call")
    if work.format is not None:
        raise Unsupported("response_format", "the rest of a message that was begun can't be kept to a form")


def _tools(name: str, value: Any) -> dict[str, Any]:
    tools = array(name, value)
    for index, tool in enumerate(tools):
        path = f"{name}[{index}]"
        kind = table(path, tool).get("type")
        if kind != "function":
            raise Unsupported(f"{path}.type", f"{path}: the local engine knows tools of type function only")
        function = table(f"{path}.function", tool.get("function"))
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise wrong(f"{path}.function.name", "a string", function.get("name"))
        if function.get("strict") is not None:
            flag(f"{path}.function.strict", function["strict"])
        if function.get("parameters") is not None:
            table(f"{path}.function.parameters", function["parameters"])
    return {name: tools}


def _tool_choice(name: str, value: Any) -> dict[str, Any]:
    if value in ("auto", "none", "required"):
        return {name: (value, "")}
    if not isinstance(value, dict):
        raise wrong(name, "auto, none, required or a tool", value)
    kind = value.get("type")
    if kind == "function":
        function = table(f"{name}.function", value.get("function"))
        return {name: ("named", text(f"{name}.function.name", function.get("name")))}
    raise Unsupported(f"{name}.type", f"{name}: the local engine knows tools of type function only")


def _response_format(name: str, value: Any) -> dict[str, Any]:
    kind = table(name, value).get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"format": Format("json_object")}
    if kind != "json_schema":
        raise wrong(f"{name}.type", "text, json_object or json_schema", kind)
    described = table(f"{name}.json_schema", value.get("json_schema"))
    schema = table(f"{name}.json_schema.schema", described.get("schema"))
    strict = flag(f"{name}.json_schema.strict", described.get("strict") or False)
    return {"format": Format("json_schema", schema, strict)}


def _named_flag(name: str, value: Any) -> dict[str, Any]:
    return {name: flag(name, value)}


def _top_logprobs(name: str, value: Any) -> dict[str, Any]:
    return {name: integer(name, value, low=0, high=MAX_TOP_LOGPROBS)}


def _effort(name: str, value: Any) -> dict[str, Any]:
    if value not in EFFORTS:
        raise wrong(name, " or ".join(EFFORTS), value)
    return {name: value}


def _template_args(name: str, value: Any) -> dict[str, Any]:
    found = table(name, value)
    for key in found:
        if not key.isidentifier() or key in _RESERVED:
            raise RequestError(f"{name}: {key[:64]!r} can't be given to the chat template", param=name)
    return {"template_args": found}


def _thinking(name: str, value: Any) -> dict[str, Any]:
    return {"thinking": {name: flag(name, value)}}


_RESERVED = frozenset(
    {"messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize"}
    | {"continue_final_message", "return_dict", "return_tensors", "return_assistant_tokens_mask"}
    | {"padding", "truncation", "max_length", "tokenizer_kwargs", "sanitize_control_tokens"}
)

_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        **COMMON,
        "max_completion_tokens": tokens_limit,
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _named_flag,
        "reasoning_effort": _effort,
        "enable_thinking": _thinking,
        "chat_template_kwargs": _template_args,
        "logprobs": _named_flag,
        "top_logprobs": _top_logprobs,
        "response_format": _response_format,
        "modalities": only(lambda v: v == ["text"], array, "local models answer in text"),
        "verbosity": only(lambda v: v == "medium", lambda name, value: None, "local models know medium only"),
    }
)
