"""Valid replies of both dialects, as a careful provider would send them: what the lab speaks by default.

Streams are lists of SSE events in bytes, so that a test can leave one out, put one in or cut between
two. Every function takes the text of the answer; the pieces of a stream are its words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

TEXT = "Hello from the lab."
MODEL = "gpt-lab"
DONE = b"data: [DONE]\n\n"
PING = b'event: ping\ndata: {"type": "ping"}\n\n'

Event = dict[str, Any]


def dump(value: object) -> bytes:
    """JSON with the spacing that providers use, unicode kept."""
    return json.dumps(value, ensure_ascii=False).encode()


def words(text: str) -> list[str]:
    """Cut a text behind its spaces; joined again it is the same."""
    pieces = [piece + " " for piece in text.split(" ")]
    pieces[-1] = pieces[-1][:-1]
    return pieces


def data(value: object) -> bytes:
    """One OpenAI event."""
    return b"data: " + dump(value) + b"\n\n"


def named(value: Event) -> bytes:
    """One Anthropic (or responses API) event: its type stands on the event line too."""
    return b"event: " + value["type"].encode() + b"\n" + data(value)


# --- OpenAI: chat, completions, embeddings, models


def chat_chunk(delta: Event, *, finish: str | None = None, model: str = MODEL, **more: object) -> bytes:
    """One chat.completion.chunk."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-lab", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    return data({**head, "choices": [choice], **more})


def chat_role(model: str = MODEL) -> bytes:
    """The first chunk: it names the role and is no content."""
    return chat_chunk({"role": "assistant", "content": "", "refusal": None}, model=model)


def chat_usage(text: str = TEXT, model: str = MODEL) -> bytes:
    """The chunk without choices that `stream_options.include_usage` asks for."""
    head = {"id": "chatcmpl-lab", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    return data({**head, "choices": [], "usage": _usage(text)})


def chat_stream(
    text: str = TEXT, *, model: str = MODEL, usage: bool = False, finish: str = "stop"
) -> list[bytes]:
    """Role, content, finish_reason, usage where asked for, [DONE]."""
    events = [chat_role(model)]
    events += [chat_chunk({"content": piece}, model=model) for piece in words(text)]
    events.append(chat_chunk({}, finish=finish, model=model))
    if usage:
        events.append(chat_usage(text, model))
    return [*events, DONE]


def chat_whole(text: str = TEXT, *, model: str = MODEL) -> Event:
    """A chat.completion."""
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-lab",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(text),
        "system_fingerprint": "fp_lab",
    }


def completion_stream(text: str = TEXT, *, model: str = MODEL) -> list[bytes]:
    """The old completions API: text instead of delta."""

    def chunk(piece: str, finish: str | None) -> bytes:
        choice = {"index": 0, "text": piece, "logprobs": None, "finish_reason": finish}
        return data({"id": "cmpl-lab", "object": "text_completion", "model": model, "choices": [choice]})

    return [*(chunk(piece, None) for piece in words(text)), chunk("", "stop"), DONE]


def completion_whole(text: str = TEXT, *, model: str = MODEL) -> Event:
    """A text_completion."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "cmpl-lab",
        "object": "text_completion",
        "created": 1700000000,
        "model": model,
        "choices": [choice],
        "usage": _usage(text),
    }


def embeddings(count: int = 1, *, model: str = MODEL) -> Event:
    """`count` vectors of three numbers, written in ways that a re-serialiser would change."""
    rows = [{"object": "embedding", "index": index, "embedding": [0.1, -1e-7, 2.5]} for index in range(count)]
    usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
    return {"object": "list", "data": rows, "model": model, "usage": usage}


def openai_models(names: Iterable[str] = (MODEL,)) -> Event:
    """GET /v1/models, OpenAI."""
    rows = [{"id": name, "object": "model", "created": 1700000000, "owned_by": "lab"} for name in names]
    return {"object": "list", "data": rows}


# --- OpenAI: responses


def responses_whole(text: str = TEXT, *, model: str = MODEL, status: str = "completed") -> Event:
    """A response object."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {
        "id": "msg_lab",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    done = status == "completed"
    return {
        "id": "resp_lab",
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [message] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(words(text)),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 7 + len(words(text)),
        }
        if done
        else None,
    }


def responses_stream(text: str = TEXT, *, model: str = MODEL) -> list[bytes]:
    """The responses API's events from response.created to response.completed."""
    running = responses_whole(text, model=model, status="in_progress")
    item = {"id": "msg_lab", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    place = {"item_id": "msg_lab", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    full = {**empty, "text": text}
    events: list[Event] = [
        {"type": "response.created", "response": running},
        {"type": "response.in_progress", "response": running},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": empty},
        *(
            {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
            for piece in words(text)
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": full},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**item, "status": "completed", "content": [full]},
        },
        {"type": "response.completed", "response": responses_whole(text, model=model)},
    ]
    return [named({**event, "sequence_number": number}) for number, event in enumerate(events)]


# --- Anthropic


def message_start(model: str = MODEL) -> bytes:
    """The first event of a messages stream: no content yet."""
    message = {**messages_whole("", model=model), "content": [], "stop_reason": None}
    return named({"type": "message_start", "message": message})


def text_delta(piece: str) -> bytes:
    """One piece of the answer."""
    return named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})


def messages_stream(text: str = TEXT, *, model: str = MODEL, ping: bool = True) -> list[bytes]:
    """The messages API's events from message_start to message_stop, with a ping as providers send it."""
    block = {"type": "text", "text": ""}
    events = [message_start(model)]
    events.append(named({"type": "content_block_start", "index": 0, "content_block": block}))
    if ping:
        events.append(PING)
    events += [text_delta(piece) for piece in words(text)]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        *events,
        named({"type": "content_block_stop", "index": 0}),
        named({"type": "message_delta", "delta": stop, "usage": {"output_tokens": len(words(text))}}),
        named({"type": "message_stop"}),
    ]


def messages_whole(text: str = TEXT, *, model: str = MODEL) -> Event:
    """A message."""
    return {
        "id": "msg_lab",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": len(words(text))},
    }


def anthropic_models(names: Sequence[str] = (MODEL,), *, has_more: bool = False) -> Event:
    """GET /v1/models, Anthropic: one page."""
    rows = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
        for name in names
    ]
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": rows, "has_more": has_more, "first_id": first, "last_id": last}


# --- Errors


_OPENAI_TYPES = {
    401: "invalid_request_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai_error(
    status: int, message: str, *, kind: str | None = None, code: str | None = None, param: str | None = None
) -> Event:
    """OpenAI's error body."""
    default = "invalid_request_error" if status < 500 else "server_error"
    kind = kind or _OPENAI_TYPES.get(status, default)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def anthropic_error(status: int, message: str, *, kind: str | None = None) -> Event:
    """Anthropic's error body; in a stream it is the event named error."""
    kind = kind or _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_lab"}


def _usage(text: str) -> Event:
    count = len(words(text))
    return {
        "prompt_tokens": 7,
        "completion_tokens": count,
        "total_tokens": 7 + count,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
