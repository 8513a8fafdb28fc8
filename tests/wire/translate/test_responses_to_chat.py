"""The response and its events as OpenAI's own client takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.wire.api import Api
from gateway.wire.translate.responses_to_chat import ResponsesToChat
from gateway.wire.translate.translation import Translation
from gateway.wire.watch import StreamWatch
from gateway.wire.whole import check_whole
from tests import canned
from tests.wire.translate.responses import (
    PARAMETERS,
    WEATHER,
    Json,
    asked,
    call,
    chunk,
    stream,
    translator,
    usage,
)

RUN = {"type": "custom", "name": "run"}
PROB = {"token": "so", "logprob": -0.5, "bytes": [115, 111]}
EVERYTHING = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "hm, "}),
    chunk({"reasoning_content": "well"}),
    chunk({"content": "so"}, logprobs={"content": [{**PROB, "top_logprobs": [PROB]}]}),
    chunk({"content": " be it"}),
    chunk({"refusal": "but no"}),
    chunk(call(0, name="weather", call_id="a")),
    chunk(call(0, arguments='{"city":')),
    chunk(call(1, name="run", call_id="b", arguments='{"input":"pass"}')),
    chunk(call(0, arguments='"Ulm"}')),
    chunk(finish="tool_calls"),
    usage(prompt_tokens_details={"cached_tokens": 3}, completion_tokens_details={"reasoning_tokens": 2}),
    b"[DONE]",
]
ASKED: Json = {
    "instructions": "be brief",
    "temperature": 0,
    "top_p": 0.5,
    "max_output_tokens": 99,
    "metadata": {"a": "b"},
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low"},
    "store": False,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": PARAMETERS, "strict": True}},
    "tool_choice": {"type": "function", "name": "weather"},
    "tools": [WEATHER, RUN],
    "top_logprobs": 1,
    "user": "u",
}


class Types:
    """The client's types, imported late: that takes seconds."""

    def __init__(self) -> None:
        from openai.types.responses import Response, ResponseStreamEvent
        from pydantic import TypeAdapter

        self.response = Response.model_validate
        self.event: Callable[[Json], Any] = TypeAdapter(ResponseStreamEvent).validate_python


@pytest.fixture(scope="module")
def types() -> Types:
    return Types()


Client = Callable[[list[bytes] | bytes], Any]


@pytest.fixture
def client() -> Iterator[Client]:
    """An OpenAI client whose server answers as the translator makes it answer, out of what a chat says."""
    import httpx2
    import openai

    opened: list[openai.OpenAI] = []

    def make(answer: list[bytes] | bytes) -> openai.OpenAI:
        def handle(request: httpx2.Request) -> httpx2.Response:
            via = translator(history=[])
            via.request(request.content)
            if isinstance(answer, bytes):
                body, kind = via.whole(answer), "application/json"
            else:
                body, kind = (
                    b"".join(via.event(data, None) for data in answer) + via.end(),
                    "text/event-stream",
                )
            return httpx2.Response(200, headers={"content-type": kind}, content=body)

        http = httpx2.Client(transport=httpx2.MockTransport(handle))
        opened.append(openai.OpenAI(api_key="k", base_url="http://lab.test/v1", http_client=http))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_it_is_a_translation() -> None:
    via: Translation = translator()
    assert (via.api, via.path, via.changed) == (Api.CHAT, "/v1/chat/completions", ())


def test_every_event_and_the_response_are_of_the_clients_types(types: Types) -> None:
    events = stream(EVERYTHING, **ASKED)
    for event in events:
        assert types.event(event).type == event["type"]
    response = types.response(events[-1]["response"])
    assert [item.type for item in response.output] == [
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
    ]
    assert response.created_at == 1700000000
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 3
    assert response.output_text == "so be it"


def test_the_response_repeats_the_request(types: Types) -> None:
    response = stream(EVERYTHING, **ASKED)[-1]["response"]
    types.response(response)
    for name, value in ASKED.items():
        if name not in ("tools", "reasoning"):
            assert response[name] == value, name
    assert response["tools"] == [{"description": None, **WEATHER}, RUN]
    assert response["reasoning"] == {"effort": "low", "summary": None}


def test_a_response_to_a_bare_request(types: Types) -> None:
    via = translator(history=[])
    asked(via=via, previous_response_id="resp_0")
    response = json.loads(via.whole(canned.dump(canned.chat_whole("Hello"))))
    found = types.response(response)
    assert found.id == "resp_a1"
    assert found.output_text == "Hello"
    assert found.tool_choice == "auto"
    assert found.tools == []
    assert found.parallel_tool_calls is True
    assert found.previous_response_id == "resp_0"
    assert found.text is not None
    assert found.text.format is not None
    assert found.text.format.type == "text"


def test_an_incomplete_response(types: Types) -> None:
    events = stream([chunk({"content": "a"}), chunk(finish="length")])
    for event in events:
        types.event(event)
    found = types.response(events[-1]["response"])
    assert found.status == "incomplete"
    assert found.incomplete_details is not None
    assert found.incomplete_details.reason == "max_output_tokens"


def test_the_client_gets_a_whole_response(client: Client) -> None:
    found = client(canned.dump(canned.chat_whole("Hello"))).responses.create(
        model="m", input="hi", temperature=0
    )
    assert found.output_text == "Hello"
    assert found.temperature == 0
    assert found.usage.total_tokens == 8


def test_the_client_reads_the_raw_stream(client: Client) -> None:
    events = list(
        client(EVERYTHING).responses.create(model="m", input="hi", stream=True, tools=[WEATHER, RUN])
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (
        "".join(event.delta for event in events if event.type == "response.output_text.delta") == "so be it"
    )
    assert events[-1].type == "response.completed"
    assert events[-1].response.output[2].arguments == '{"city":"Ulm"}'


def test_the_client_adds_the_stream_up(client: Client) -> None:
    with client(EVERYTHING).responses.stream(model="m", input="hi", tools=[WEATHER, RUN]) as opened:
        snapshots = [event.snapshot for event in opened if event.type == "response.output_text.delta"]
        found = opened.get_final_response()
    assert snapshots[-1] == "so be it"
    assert found.output_text == "so be it"
    assert found.output[2].parsed_arguments == {"city": "Ulm"}


def test_the_client_says_its_own_output_again(client: Client) -> None:
    """The usual loop: what came is put in front of the outputs of its calls."""
    found = client(EVERYTHING).responses.create(model="m", input="hi", tools=[WEATHER, RUN], stream=True)
    response = list(found)[-1].response
    said: list[Any] = [{"role": "user", "content": "hi"}, *response.output]
    said += [{"type": "function_call_output", "call_id": "a", "output": "sunny"}]
    said += [{"type": "custom_tool_call_output", "call_id": "b", "output": "done"}]
    sent: list[bytes] = []

    def keep(request: Any) -> Any:
        import httpx2

        sent.append(request.content)
        return httpx2.Response(500)

    import httpx2
    import openai

    with (
        httpx2.Client(transport=httpx2.MockTransport(keep)) as http,
        openai.OpenAI(api_key="k", base_url="http://lab.test/v1", http_client=http, max_retries=0) as again,
        pytest.raises(openai.InternalServerError),
    ):
        again.responses.create(model="m", input=said, tools=[WEATHER, RUN])
    via = translator(keeps_reasoning=True)
    made = json.loads(via.request(sent[0]))["messages"]
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "tool"]
    assert made[1]["reasoning_content"] == "hm, well"
    assert made[1]["content"] == "so be it"
    assert made[1]["refusal"] == "but no"
    assert [found["function"]["name"] for found in made[1]["tool_calls"]] == ["weather", "run"]
    assert via.changed == ()


def test_what_it_makes_is_sound_to_the_watch() -> None:
    via = translator()
    asked(via=via, stream=True)
    raw = b"".join(via.event(data, None) for data in EVERYTHING) + via.end()
    seen = StreamWatch(Api.RESPONSES).feed(raw)
    assert (seen.relay, seen.content, seen.ended, seen.error) == (raw, True, True, None)
    whole = ResponsesToChat(response_id="resp_b", created=0)
    asked(via=whole)
    assert check_whole(Api.RESPONSES, whole.whole(canned.dump(canned.chat_whole()))).error is None


def test_an_unbroken_conversation_over_kept_turns() -> None:
    """What is kept of one response stands in front of the next."""
    first = translator()
    stream(
        [chunk(call(0, name="weather", call_id="a", arguments="{}")), chunk(finish="tool_calls")], via=first
    )
    second = ResponsesToChat(
        response_id="resp_a2", created=0, history=[*first.input_items, *first.output_items]
    )
    output = {"type": "function_call_output", "call_id": "a", "output": "sunny"}
    made = asked(via=second, input=[output], previous_response_id="resp_a1")["messages"]
    assert [message["role"] for message in made] == ["user", "assistant", "tool"]
    assert made[2]["tool_call_id"] == made[1]["tool_calls"][0]["id"] == "a"


def test_the_local_engine_takes_what_it_makes() -> None:
    from gateway.local.chat import read_chat

    items = [
        {"role": "developer", "content": "be kind"},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "run", "input": "pass"},
        {"type": "function_call_output", "call_id": "a", "output": "sunny"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "c"}]},
    ]
    via = translator(keeps_reasoning=True)
    more = {**ASKED, "text": {"verbosity": "medium"}, "prompt_cache_key": "k", "safety_identifier": "s"}
    body = via.request(canned.dump({"model": "m", "input": items, "stream": True, **more}))
    read = read_chat(body)
    assert read.stream
    assert read.include_usage
    assert read.work.max_tokens == 99
    assert read.work.sampling.temperature == 0
    assert read.work.top_logprobs == 1
    assert read.work.tooling.name == "weather"
    assert [message["role"] for message in read.work.prompts[0].messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]
