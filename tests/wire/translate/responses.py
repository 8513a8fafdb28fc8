"""What the tests of the responses translator share: requests, chat streams, and events read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.wire.translate.responses_to_chat import ResponsesToChat
from tests import canned

Json = dict[str, Any]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}


def translator(**options: Any) -> ResponsesToChat:
    return ResponsesToChat(response_id="resp_a1", created=1700000000.5, **options)


def asked(said: Json | None = None, /, *, via: ResponsesToChat | None = None, **fields: Any) -> Json:
    """The chat request that a responses request becomes; without `input` it is `hi`."""
    via = translator() if via is None else via
    body = {"model": "m", "input": "hi", **(said or {}), **fields}
    made = json.loads(via.request(canned.dump(body)))
    assert isinstance(made, dict)
    return made


def messages(*items: Any, via: ResponsesToChat | None = None, **fields: Any) -> list[Json]:
    """The messages that items of input become."""
    found = asked(via=via, input=list(items), **fields)["messages"]
    assert isinstance(found, list)
    return found


def refused(param: str, **fields: Any) -> RequestError:
    """The refusal of a request, which must name that field."""
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.param == param
    return caught.value


def chunk(delta: Json | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """The data of one chunk of a chat's stream."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return canned.dump({"id": "c", "object": "chat.completion.chunk", "model": "real", "choices": [choice]})


def call(
    index: int | None, *, name: str | None = None, call_id: str | None = None, arguments: str = ""
) -> Json:
    """The delta that holds a piece of a call, with only what is given."""
    function: Json = {"arguments": arguments} | ({} if name is None else {"name": name})
    piece: Json = {"function": function}
    piece |= {} if index is None else {"index": index}
    piece |= {} if call_id is None else {"id": call_id, "type": "function"}
    return {"tool_calls": [piece]}


def usage(**more: Any) -> bytes:
    counted = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **more}
    return canned.dump({"object": "chat.completion.chunk", "choices": [], "usage": counted})


def stream(chunks: Iterable[bytes], *, via: ResponsesToChat | None = None, **fields: Any) -> list[Json]:
    """The events that a chat's stream becomes, each proven to be well framed and numbered."""
    via = translator() if via is None else via
    asked(via=via, stream=True, **fields)
    raw = b"".join(via.event(data, None) for data in chunks) + via.end()
    return read(raw)


def read(raw: bytes) -> list[Json]:
    """Events out of their frames."""
    assert raw.endswith(b"\n\n")
    found = []
    for number, framed in enumerate(raw[:-2].split(b"\n\n")):
        name, data = framed.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        assert event["sequence_number"] == number
        found.append(event)
    return found


def kinds(events: list[Json]) -> list[str]:
    """Their types, without what all share, and one for a row of the same."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
