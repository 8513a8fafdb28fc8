"""PURE: the response object: what was asked, how it ended, what it cost."""

from __future__ import annotations

from typing import Any

from gateway.wire.translate.responses_fields import Json
from gateway.wire.usage import read_usage

# Fields of the request that the response repeats, and what they are where nothing was asked.
_ECHOED: Json = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ReplyForm:
    """Makes the response object, at the beginning of a stream and at its end."""

    def __init__(self, asked: Json, *, response_id: str, created: float) -> None:
        self.model = asked.get("model")
        self._fixed: Json = {
            "id": response_id,
            "object": "response",
            "created_at": int(created),
            **{name: asked.get(name, usual) for name, usual in _ECHOED.items()},
            "reasoning": {"effort": None, "summary": None, **asked.get("reasoning", {})},
            "text": {**asked.get("text", {}), "format": _format(asked)},
            "tools": [_tool(tool) for tool in asked.get("tools", [])],
            "truncation": "disabled",
            "error": None,
        }

    def begun(self) -> Json:
        """The object while nothing of its answer is there."""
        return self._made("in_progress", None, [], None)

    def ended(self, output: list[Json], *, finish: object, usage: Json) -> Json:
        """The object with its answer. `finish` is the chat's reason for the end, `usage` the chat's."""
        reason = incomplete_reason(finish)
        status = "completed" if reason is None else "incomplete"
        return self._made(status, reason, output, _usage(usage))

    def _made(self, status: str, reason: str | None, output: list[Json], usage: Json | None) -> Json:
        return {
            **self._fixed,
            "status": status,
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": self.model,
            "output": output,
            "usage": usage,
        }


def incomplete_reason(finish: object) -> str | None:
    """Why an answer is not complete; None if it is."""
    return _REASONS.get(finish) if isinstance(finish, str) else None


def _usage(said: Json) -> Json | None:
    counted = read_usage(said)
    if counted is None:
        return None
    prompt, completion = said.get("prompt_tokens_details"), said.get("completion_tokens_details")
    return {
        "input_tokens": counted.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counted.cached_tokens,
            "cache_write_tokens": _count(prompt, "cache_write_tokens"),
        },
        "output_tokens": counted.output_tokens,
        "output_tokens_details": {"reasoning_tokens": _count(completion, "reasoning_tokens")},
        "total_tokens": counted.input_tokens + counted.output_tokens,
    }


def _count(details: Any, name: str) -> int:
    value = details.get(name) if isinstance(details, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _format(asked: Json) -> Json:
    form: Json | None = asked.get("text", {}).get("format")
    return {"type": "text"} if form is None else form


def _tool(tool: Json) -> Json:
    """A function with the fields that it always has in a response."""
    if tool["type"] != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
