"""PURE: the body of a Responses request as the body of a chat.

Each field goes as it is, under its chat name, is answered for by the gateway itself, is dropped and
noted, or is refused. One that nobody here knows goes as it is: the target has the last word on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.errors import RequestError
from gateway.wire.translate.responses_conversation import ADDED_TOOLS, Conversation
from gateway.wire.translate.responses_fields import Changes, Json, array, table, text
from gateway.wire.translate.responses_tools import Tooling, read_tools
from gateway.wire.translate.translation import UntranslatableError

# Read in a way of their own below, or answered for without the target: kept, echoed, without effect.
_READ = frozenset(
    {"input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "include"}
    | {"top_logprobs", "truncation", "stream_options", "background", "service_tier", "max_output_tokens"}
    | {"metadata", "store", "previous_response_id"}
)
_DROPPED = frozenset(
    {"context_management", "max_tool_calls", "prompt_cache_options", "background_options", "image"}
    | {"access_programs", "client_metadata"}
)
_REFUSED: Mapping[str, str] = {
    "conversation": "conversations are kept by the cloud that made them; use previous_response_id",
    "prompt": "a chat has no stored prompts",
    "moderation": "a chat is not moderated here",
}
# What the chat's own names would change behind the back of what is written for them here.
_OF_CHAT = frozenset(
    {"messages", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort", "verbosity"}
    | {"logprobs", "functions", "function_call", "n", "modalities", "audio"}
)
# What else may be said of reasoning, and what of it asks for nothing that a chat does not do anyhow.
_OF_REASONING: Mapping[str, tuple[str, ...]] = {
    "context": ("auto",),
    "mode": ("standard",),
    "summary": (),
    "generate_summary": (),
}
_LOGPROBS = "message.output_text.logprobs"
_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "truncation": ("disabled",),
    "service_tier": ("auto",),
}


class ChatRequest(msgspec.Struct, frozen=True):
    """A request in the chat's words, and what of the client's is needed for the answer.

    `asked` holds the client's fields without nulls; `items` those of its input, references followed.
    """

    fields: Json
    asked: Json
    items: list[Json]
    tooling: Tooling


class RequestReader:
    """Reads one request. `history` are the items in front of it, None where nobody has looked them up;
    `referenced` are items by their id.
    """

    def __init__(
        self,
        changes: Changes,
        *,
        history: Sequence[Json] | None,
        referenced: Mapping[str, Json],
        keeps_reasoning: bool,
        limit_field: str,
    ) -> None:
        self._changes = changes
        self._history = history
        self._referenced = referenced
        self._keeps_reasoning = keeps_reasoning
        self._limit_field = limit_field

    def read(self, body: bytes) -> ChatRequest:
        """Raises UntranslatableError, or RequestError where the request is wrong for any target."""
        asked = _read_object(body)
        self._refuse(asked)
        items = self._items(asked)
        tooling = read_tools(asked, self._added_tools(items), self._changes)
        fields: Json = {"model": asked.get("model"), "messages": self._messages(asked, items)}
        for name, value in asked.items():
            if name in _DROPPED:
                self._changes.note(name)
            elif name not in _READ:
                fields[name] = value
        fields |= self._options(asked, tooling)
        return ChatRequest(fields, asked, items, tooling)

    def _refuse(self, asked: Json) -> None:
        for name, reason in _REFUSED.items():
            if name in asked:
                raise UntranslatableError(name, f"{name}: {reason}")
        if asked.get("background"):
            raise UntranslatableError("background", "background: an answer is given at once or streamed")
        if "previous_response_id" in asked and self._history is None:
            raise UntranslatableError(
                "previous_response_id", "previous_response_id: the responses before are not known here"
            )
        for name in sorted(_OF_CHAT & asked.keys()):
            raise UntranslatableError(name, f"{name} is a field of chats, not of responses")
        if "metadata" in asked:
            table("metadata", asked["metadata"])

    def _items(self, asked: Json) -> list[Json]:
        given = asked.get("input")
        if given is None:
            return []
        if isinstance(given, str):
            return [{"type": "message", "role": "user", "content": given}]
        return [self._followed(f"input[{i}]", item) for i, item in enumerate(array("input", given))]

    def _followed(self, path: str, value: Any) -> Json:
        item = table(path, value)
        kind = item.get("type")
        if kind != "item_reference" and (kind is not None or "role" in item or "id" not in item):
            return item
        name = text(f"{path}.id", item.get("id"))
        found = self._referenced.get(name)
        if found is None:
            raise UntranslatableError(f"{path}.id", f"{path}: the item {name[:64]!r} is not known here")
        return found

    def _added_tools(self, items: list[Json]) -> list[tuple[str, Any]]:
        """What items offer from their place on; a chat's tools are there from the beginning."""
        places = (("previous_response_id", self._history or ()), ("input", items))
        return [
            (f"{path}[{index}].tools", item.get("tools"))
            for path, found in places
            for index, item in enumerate(found)
            if item.get("type") == ADDED_TOOLS
        ]

    def _messages(self, asked: Json, items: list[Json]) -> list[Json]:
        conversation = Conversation(self._changes, keeps_reasoning=self._keeps_reasoning)
        if "instructions" in asked:
            conversation.instruct(text("instructions", asked["instructions"]))
        if "previous_response_id" in asked:
            for index, item in enumerate(self._history or ()):
                conversation.add(f"previous_response_id[{index}]", item)
        for index, item in enumerate(items):
            conversation.add(f"input[{index}]", item)
        messages = conversation.finish()
        if not messages:
            raise RequestError(
                "input is missing; send a string or a list of items",
                code="missing_required_parameter",
                param="input",
            )
        return messages

    def _options(self, asked: Json, tooling: Tooling) -> Json:
        for name, values in _WITHOUT_EFFECT.items():
            if name in asked and asked[name] not in values:
                self._changes.note(name)
        fields: Json = {**tooling.fields, **self._text(asked), **self._reasoning(asked)}
        if "max_output_tokens" in asked:
            fields[self._limit_field] = asked["max_output_tokens"]
        if self._wants_logprobs(asked):
            fields["logprobs"] = True
            if "top_logprobs" in asked:
                fields["top_logprobs"] = asked["top_logprobs"]
        if table("stream_options", asked.get("stream_options", {})).get("include_obfuscation"):
            self._changes.note("stream_options.include_obfuscation")
        if asked.get("stream") is True:
            fields["stream_options"] = {"include_usage": True}
        return fields

    def _wants_logprobs(self, asked: Json) -> bool:
        """Of what may be included only logprobs are a chat's."""
        include = array("include", asked.get("include", []))
        for name in include:
            if name != _LOGPROBS:
                self._changes.note("include")
        return _LOGPROBS in include or bool(asked.get("top_logprobs"))

    def _text(self, asked: Json) -> Json:
        config = table("text", asked.get("text", {}))
        if not config.keys() <= {"format", "verbosity"}:
            self._changes.note("text")
        fields: Json = {}
        if config.get("verbosity") is not None:
            fields["verbosity"] = config["verbosity"]
        if config.get("format") is None:
            return fields
        form = table("text.format", config["format"])
        match form.get("type"):
            case "text":
                pass
            case "json_object":
                fields["response_format"] = {"type": "json_object"}
            case "json_schema":
                schema = {k: v for k, v in form.items() if k != "type" and v is not None}
                fields["response_format"] = {"type": "json_schema", "json_schema": schema}
            case _:
                raise UntranslatableError(
                    "text.format.type", "text.format.type: a chat knows text, json_object and json_schema"
                )
        return fields

    def _reasoning(self, asked: Json) -> Json:
        config = table("reasoning", asked.get("reasoning", {}))
        for key, value in config.items():
            if key == "effort" or value is None:
                continue
            if key not in _OF_REASONING:
                self._changes.note("reasoning")  # its name is whatever the client wrote
            elif value not in _OF_REASONING[key]:
                self._changes.note(f"reasoning.{key}")
        effort = config.get("effort")
        return {} if effort is None else {"reasoning_effort": effort}


def _read_object(body: bytes) -> Json:
    """The fields that were asked for: null asks for nothing."""
    try:
        raw = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error
    return {name: value for name, value in table("the body", raw).items() if value is not None}
