"""PURE: the JSON of answers: chat.completion, and the chunks of a stream.

Chunks are put together from bytes that are the same for the whole stream, because one is made
for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.local.mailbox import Called, Finished, ToolCall

DONE = b"[DONE]"
_encode = msgspec.json.Encoder().encode


class Answer:
    """The frame of one answer: what is the same in all of its JSON."""

    __slots__ = ("_created", "_fingerprint", "_head", "_id", "_model", "_tail", "_usage_null")

    def __init__(
        self, *, answer_id: str, model: str, created: int, fingerprint: str, include_usage: bool = False
    ) -> None:
        self._id, self._model, self._created, self._fingerprint = answer_id, model, created, fingerprint
        frame = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        self._head = _encode(frame)[:-1]
        self._usage_null = b',"usage":null}' if include_usage else b"}"
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._usage_null

    def role(self) -> bytes:
        """The first chunk; it says who speaks, and holds nothing of the answer."""
        return b"".join((self._head, _DELTA, b'"role":"assistant","content":""', self._tail))

    def content(self, text: str) -> bytes:
        return b"".join((self._head, _DELTA, b'"content":', _encode(text), self._tail))

    def reasoning(self, text: str) -> bytes:
        return b"".join((self._head, _DELTA, b'"reasoning_content":', _encode(text), self._tail))

    def called(self, event: Called) -> bytes:
        call = {"index": event.index, **_call(event.call)}
        return b"".join((self._head, _DELTA, b'"tool_calls":', _encode([call]), self._tail))

    def finished(self, reason: str) -> bytes:
        end = b'},"logprobs":null,"finish_reason":' + _encode(reason) + b"}]"
        return b"".join((self._head, _DELTA, end, self._usage_null))

    def usage(self, event: Finished) -> bytes:
        """The last chunk, for those who asked for it."""
        return b"".join((self._head, b',"choices":[],"usage":', _encode(_usage(event)), b"}"))

    def whole(self, text: str, reasoning: str, calls: Sequence[ToolCall], event: Finished) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        message["refusal"] = None
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.reason}
        return _encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [choice],
                "usage": _usage(event),
                "system_fingerprint": self._fingerprint,
            }
        )


_DELTA = b',"choices":[{"index":0,"delta":{'


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _usage(event: Finished) -> dict[str, Any]:
    return {
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "total_tokens": event.prompt_tokens + event.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
