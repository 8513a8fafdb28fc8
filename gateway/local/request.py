"""PURE: what a chat request asks of the local engine; every field is honoured or refused by name.

`read_chat` gives a frozen `ChatRequest`. A field of the wrong type or range is a `RequestError`;
a field that is right but that this engine can't honour is `Unsupported`, so that a rule with a
further target moves on. `null` means that nothing was asked; 0 and "" are values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.errors import RequestError
from gateway.local.fields import Unsupported, array, flag, integer, number, table, text, wrong
from gateway.local.messages import read_messages

# Read, understood, and without effect on the answer of a local model; of the right type all the same.
WITHOUT_EFFECT: Mapping[str, Callable[[str, Any], object]] = MappingProxyType(
    {
        "user": text,
        "metadata": table,
        "store": flag,
        "service_tier": text,
        "prompt_cache_key": text,
        "prompt_cache_retention": text,
        "safety_identifier": text,
        "prediction": table,
    }
)
MAX_STOPS = 16
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen; None is what the model's own generation config says."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat request as plain data. `messages` are ready for a chat template."""

    messages: list[dict[str, Any]]
    sampling: Sampling = Sampling()
    tools: list[dict[str, Any]] = []
    parallel_tool_calls: bool = True
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    reasoning_effort: str | None = None
    template_args: dict[str, Any] = {}

    @property
    def prefill(self) -> bool:
        """Does the answer go on from an assistant message that the client has begun?"""
        last = self.messages[-1]
        return last["role"] == "assistant" and not last.get("tool_calls")


def read_chat(body: bytes) -> ChatRequest:
    """Read the body of /v1/chat/completions; raise RequestError or Unsupported naming the field."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(raw, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    asked = {name: value for name, value in raw.items() if value is not None}
    if "messages" not in asked:
        raise RequestError(
            "messages is missing; send at least one message",
            code="missing_required_parameter",
            param="messages",
        )
    found: dict[str, Any] = {"messages": read_messages(asked.pop("messages"))}
    sampling: dict[str, Any] = {}
    for name, value in asked.items():
        if name in WITHOUT_EFFECT:
            WITHOUT_EFFECT[name](name, value)
        elif name in _SAMPLING:
            sampling[name] = _SAMPLING[name](name, value)
        elif name in _READERS:
            found.update(_READERS[name](name, value))
        else:
            raise Unsupported(name, f"{name} is not a field that the local engine knows")
    if found.pop("tool_choice", "auto") == "none":
        found["tools"] = []
    return ChatRequest(sampling=Sampling(**sampling), **found)


def _model(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, str):
        raise wrong(name, "a string", value)
    return {}


def _stream(name: str, value: Any) -> dict[str, Any]:
    return {name: flag(name, value)}


def _stream_options(name: str, value: Any) -> dict[str, Any]:
    options = {key: item for key, item in table(name, value).items() if item is not None}
    found = flag(f"{name}.include_usage", options.pop("include_usage", False))
    options.pop("include_obfuscation", None)  # padding against traffic analysis of a cloud
    for key in options:
        raise Unsupported(f"{name}.{key}", f"{name}.{key} is not an option that the local engine knows")
    return {"include_usage": found}


def _max_tokens(name: str, value: Any) -> dict[str, Any]:
    return {"max_tokens": integer(name, value, low=1)}


def _stop(name: str, value: Any) -> dict[str, Any]:
    stops = [value] if isinstance(value, str) else array(name, value)
    if not all(isinstance(text, str) and text for text in stops):
        raise wrong(name, "a string or a list of strings, none of them empty", value)
    if len(stops) > MAX_STOPS:
        raise RequestError(f"{name} takes at most {MAX_STOPS} strings, not {len(stops)}", param=name)
    return {"stop": tuple(dict.fromkeys(stops))}


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
        if function.get("strict"):
            raise Unsupported(
                f"{path}.function.strict", "strict tool arguments are not available locally yet"
            )
        if function.get("parameters") is not None:
            table(f"{path}.function.parameters", function["parameters"])
    return {name: tools}


def _tool_choice(name: str, value: Any) -> dict[str, Any]:
    if value in ("auto", "none"):
        return {name: value}
    if value == "required" or isinstance(value, dict):
        raise Unsupported(name, "the local engine can't force a tool call yet; use auto or none")
    raise wrong(name, "auto, none, required or a tool", value)


def _parallel(name: str, value: Any) -> dict[str, Any]:
    return {name: flag(name, value)}


def _only(accepted: Callable[[Any], bool], kind: Callable[[str, Any], Any], sentence: str) -> Any:
    """A reader of a field of which only the values without effect can be honoured."""

    def read(name: str, value: Any) -> dict[str, Any]:
        kind(name, value)
        if not accepted(value):
            raise Unsupported(name, f"{name}: {sentence}")
        return {}

    return read


def _count(name: str, value: Any) -> int:
    return integer(name, value, low=1, high=128)


def _few(name: str, value: Any) -> int:
    return integer(name, value, low=0, high=20)


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


def _bias(name: str, value: Any) -> tuple[tuple[int, float], ...]:
    found = []
    for token, bias in table(name, value).items():
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            raise RequestError(f"{name}: {token[:64]!r} is not a token id", param=name)
        found.append((int(token), number(name, bias, low=-100, high=100)))
    return tuple(found)


def _between(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda name, value: number(name, value, low=low, high=high)


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    return lambda name, value: integer(name, value, low=low, high=high)


_RESERVED = frozenset(
    {"messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize"}
    | {"continue_final_message", "return_dict", "return_tensors", "return_assistant_tokens_mask"}
    | {"padding", "truncation", "max_length", "tokenizer_kwargs", "sanitize_control_tokens"}
)

_SAMPLING: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType(
    {
        "temperature": _between(0, 2),
        "top_p": _between(0, 1),
        "top_k": _whole(0, 1_000_000),
        "min_p": _between(0, 1),
        "seed": _whole(-(2**63), 2**63 - 1),
        "presence_penalty": _between(-2, 2),
        "frequency_penalty": _between(-2, 2),
        "repetition_penalty": _between(0.01, 10),
        "logit_bias": _bias,
    }
)

_READERS: Mapping[str, Callable[[str, Any], dict[str, Any]]] = MappingProxyType(
    {
        "model": _model,
        "stream": _stream,
        "stream_options": _stream_options,
        "max_tokens": _max_tokens,
        "max_completion_tokens": _max_tokens,
        "stop": _stop,
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _parallel,
        "reasoning_effort": _effort,
        "chat_template_kwargs": _template_args,
        "n": _only(lambda v: v == 1, _count, "the local engine gives one choice"),
        "logprobs": _only(lambda v: not v, flag, "log probabilities are not available locally yet"),
        "top_logprobs": _only(lambda v: v == 0, _few, "log probabilities are not available locally yet"),
        "response_format": _only(
            lambda v: v.get("type") == "text", table, "only type text is available locally yet"
        ),
        "modalities": _only(lambda v: v == ["text"], array, "local models answer in text"),
        "verbosity": _only(
            lambda v: v == "medium", lambda name, value: None, "local models know medium only"
        ),
    }
)
