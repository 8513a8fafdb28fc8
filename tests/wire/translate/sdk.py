"""The SDKs as judges: what is sent fits their parameters, what is received goes through their own parsers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from gateway.wire.api import Api
from gateway.wire.sse import parse_event, split_events
from gateway.wire.translate.translation import Translation
from gateway.wire.watch import StreamWatch
from gateway.wire.whole import check_whole

_PARAMS: dict[Api, TypeAdapter[Any]] = {
    Api.MESSAGES: TypeAdapter(MessageCreateParamsNonStreaming),
    Api.CHAT: TypeAdapter(CompletionCreateParamsNonStreaming),
}


def check_params(api: Api, body: bytes) -> dict[str, Any]:
    """The request fits the SDK's own parameters, all the way down; comes back as JSON."""
    value = json.loads(body)
    _walk(_PARAMS[api].validate_python({k: v for k, v in value.items() if k != "stream"}))
    return value


def _walk(value: object) -> None:
    """Pydantic checks what is iterable only when it is iterated."""
    if isinstance(value, dict):
        for item in value.values():
            _walk(item)
    elif isinstance(value, Iterator | list):
        for item in value:
            _walk(item)


def request(translation: Translation, body: dict[str, Any]) -> dict[str, Any]:
    """What the target is sent, which it could parse."""
    return check_params(translation.api, translation.request(json.dumps(body).encode()))


def whole(translation: Translation, reply: dict[str, Any], client: Api) -> dict[str, Any]:
    """What the client is sent for a whole reply, which is a sound one."""
    made = translation.whole(json.dumps(reply).encode())
    assert check_whole(client, made).error is None
    return json.loads(made)


def stream(translation: Translation, events: list[bytes]) -> bytes:
    """What the client is sent for the target's framed events."""
    made = [translation.event(e.data or b"", e.event) for e in map(parse_event, events)]
    return b"".join([*made, translation.end()])


def chunks(made: bytes) -> list[dict[str, Any]]:
    """The JSON of a chat's stream, which is a sound one."""
    seen = StreamWatch(Api.CHAT).feed(made)
    assert seen.ended, seen.error
    events = [parse_event(raw).data or b"" for raw in split_events(made)]
    assert events[-1] == b"[DONE]"
    return [json.loads(data) for data in events[:-1]]


def messages_events(made: bytes) -> list[dict[str, Any]]:
    """The JSON of the events of a message, which are a sound stream in the right order."""
    seen = StreamWatch(Api.MESSAGES).feed(made)
    assert seen.ended, seen.error
    events = []
    for raw in split_events(made):
        event = parse_event(raw)
        value = json.loads(event.data or b"")
        assert event.event == value["type"]
        events.append(value)
    check_order(events)
    return events


def check_order(events: list[dict[str, Any]]) -> None:
    """message_start, then blocks that begin, go on and stop one after the other, the reason, the stop."""
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    at, is_open = -1, False
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                at, is_open = at + 1, True
            case "content_block_delta":
                assert is_open
            case "content_block_stop":
                assert is_open
                is_open = False
            case other:
                raise AssertionError(other)
        assert event["index"] == at
    assert not is_open


def _transport(body: bytes, kind: str) -> httpx2.MockTransport:
    return httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": kind}, content=body)
    )


def openai_reads(made: bytes) -> Any:
    """The completion that OpenAI's own stream adds up to."""
    http = httpx2.Client(transport=_transport(made, "text/event-stream"))
    with openai.OpenAI(api_key="k", base_url="http://lab/v1", http_client=http, max_retries=0) as client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        with client.chat.completions.stream(**asked) as events:
            for _ in events:
                pass
            return events.get_final_completion()


def anthropic_reads(made: bytes) -> Any:
    """The message that Anthropic's own stream adds up to."""
    http = httpx2.Client(transport=_transport(made, "text/event-stream"))
    with anthropic.Anthropic(api_key="k", base_url="http://lab", http_client=http, max_retries=0) as client:
        asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        with client.messages.stream(**asked) as events:
            return events.get_final_message()


def openai_parses(reply: dict[str, Any]) -> Any:
    """A whole completion as OpenAI's own client reads it, strictly."""
    return openai.types.chat.ChatCompletion.model_validate(reply)


def anthropic_parses(reply: dict[str, Any]) -> Any:
    """A whole message as Anthropic's own client reads it, strictly."""
    return anthropic.types.Message.model_validate(reply)
