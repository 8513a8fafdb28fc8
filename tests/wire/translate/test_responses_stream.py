"""A chat's stream as the events of a response: their order, their numbers, and what they add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import canned
from tests.wire.translate.responses import (
    WEATHER,
    Json,
    asked,
    call,
    chunk,
    kinds,
    read,
    stream,
    translator,
    usage,
)

ROLE = chunk({"role": "assistant", "content": ""})
DONE = b"[DONE]"
RUN = {"type": "custom", "name": "run"}


def of(kind: str, events: list[Json]) -> list[Json]:
    return [event for event in events if event["type"] == f"response.{kind}"]


def text_of(events: list[Json], kind: str = "output_text") -> str:
    return "".join(event["delta"] for event in of(f"{kind}.delta", events))


def test_text() -> None:
    via = translator()
    events = stream(
        [ROLE, chunk({"content": "Hel"}), chunk({"content": "lo"}), chunk(finish="stop"), usage(), DONE],
        via=via,
    )
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert text_of(events) == "Hello"
    assert all(event["logprobs"] == [] for event in of("output_text.delta", events))
    item = events[-1]["response"]["output"][0]
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert item["status"] == "completed"
    assert of("output_item.done", events)[0]["item"] == item
    assert len({event["item_id"] for event in events if "item_id" in event} | {item["id"]}) == 1
    assert via.response == events[-1]["response"]
    assert via.output_items == [item]


def test_the_first_events_show_the_request_and_the_model_that_answers() -> None:
    events = stream([ROLE, chunk(finish="stop")], temperature=0, instructions="be brief")
    for event in events[:2]:
        response = event["response"]
        assert response["status"] == "in_progress"
        assert response["model"] == "real"
        assert response["temperature"] == 0
        assert response["instructions"] == "be brief"
        assert response["output"] == []
        assert response["usage"] is None


def test_reasoning_then_text_then_calls() -> None:
    events = stream(
        [
            chunk({"reasoning_content": "hm"}),
            chunk({"reasoning": "m"}),
            chunk({"content": "so"}),
            chunk(call(0, name="weather", call_id="a", arguments="{}")),
            chunk(finish="tool_calls"),
        ]
    )
    assert kinds(events)[2:-1] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    thought, said, called = events[-1]["response"]["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "hmm"}]
    assert thought["summary"] == []
    assert said["content"][0]["text"] == "so"
    assert (called["call_id"], called["name"], called["arguments"]) == ("a", "weather", "{}")
    assert called["id"].startswith("fc_")
    assert [event["output_index"] for event in of("output_item.added", events)] == [0, 1, 2]


def test_parallel_calls_whose_pieces_are_mixed() -> None:
    events = stream(
        [
            chunk(call(0, name="f", call_id="a")),
            chunk(call(1, name="g", call_id="b", arguments='{"y"')),
            chunk(call(0, arguments='{"x":')),
            chunk(call(1, arguments=":2}")),
            chunk(call(0, arguments="1}")),
            chunk(finish="tool_calls"),
        ]
    )
    assert [
        (item["call_id"], item["name"], item["arguments"]) for item in events[-1]["response"]["output"]
    ] == [
        ("a", "f", '{"x":1}'),
        ("b", "g", '{"y":2}'),
    ]
    done = of("function_call_arguments.done", events)
    assert [(event["output_index"], event["arguments"]) for event in done] == [(0, '{"x":1}'), (1, '{"y":2}')]
    for index, whole in enumerate(('{"x":1}', '{"y":2}')):
        pieces = of("function_call_arguments.delta", events)
        assert "".join(event["delta"] for event in pieces if event["output_index"] == index) == whole


def test_calls_in_one_chunk() -> None:
    both = call(0, name="f", call_id="a", arguments="{}")["tool_calls"]
    both += call(1, name="g", call_id="b", arguments="{}")["tool_calls"]
    events = stream([chunk({"tool_calls": both}), chunk(finish="tool_calls")])
    assert [item["call_id"] for item in events[-1]["response"]["output"]] == ["a", "b"]


@pytest.mark.parametrize(
    "pieces",
    [
        [
            call(None, name="f", call_id="a", arguments="{}"),
            call(None, name="f", call_id="b", arguments="{}"),
        ],
        [call(0, name="f", call_id="a", arguments="{}"), call(0, name="f", call_id="b", arguments="{}")],
        [
            call(0, name="f", call_id="a", arguments="{"),
            call(0, name="f", call_id="b", arguments="{"),
            call(0, name="f", call_id="a", arguments="}"),
            call(0, name="f", call_id="b", arguments="}"),
        ],
        [call(0, name="f", call_id="", arguments="{}"), call(0, name="f", call_id="", arguments="{}")],
        [call(0, name="f", call_id="a", arguments="{}"), call(1, name="f", call_id="a", arguments="{}")],
        [
            call(0, name="f", call_id="a", arguments="{"),
            call(0, name="f", call_id="a", arguments="}"),
            call(1, name="f", arguments="{"),
            call(1, name="f", arguments="}"),
        ],
    ],
    ids=["no numbers", "one number", "one number, mixed", "no ids", "one id", "names again"],
)
def test_servers_that_number_calls_in_their_own_way(pieces: list[Json]) -> None:
    events = stream([*map(chunk, pieces), chunk(finish="tool_calls")])
    output = events[-1]["response"]["output"]
    assert [(item["name"], item["arguments"]) for item in output] == [("f", "{}"), ("f", "{}")]
    assert len({item["call_id"] for item in output}) == 2
    assert all(item["call_id"] for item in output)


def test_a_name_that_comes_late_holds_its_call_back() -> None:
    events = stream(
        [
            chunk(call(0, call_id="a", arguments="{")),
            chunk({"tool_calls": [{"index": 0}]}),
            chunk(call(0, name="f", arguments="}")),
            chunk(finish="tool_calls"),
        ]
    )
    assert of("output_item.added", events)[0]["item"]["name"] == "f"
    assert events[-1]["response"]["output"][0]["arguments"] == "{}"


def test_a_call_that_never_gets_a_name_is_not_lost() -> None:
    events = stream([chunk(call(0, call_id="a", arguments="{}")), chunk(finish="tool_calls")])
    item = events[-1]["response"]["output"][0]
    assert (item["call_id"], item["name"], item["arguments"]) == ("a", "", "{}")


def test_text_behind_a_call_is_another_message() -> None:
    events = stream(
        [
            chunk({"content": "a"}),
            chunk(call(0, name="f", call_id="a", arguments="{")),
            chunk({"content": "b"}),
            chunk(call(0, arguments="}")),
            chunk(finish="tool_calls"),
        ]
    )
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert output[1]["arguments"] == "{}"
    assert [event["output_index"] for event in of("output_item.done", events)] == [0, 1, 2]


def test_a_refusal() -> None:
    events = stream([chunk({"refusal": "I "}), chunk({"refusal": "can't"}), chunk(finish="stop")])
    assert kinds(events)[4:6] == ["refusal.delta", "refusal.done"]
    assert text_of(events, "refusal") == of("refusal.done", events)[0]["refusal"] == "I can't"
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I can't"}]


def test_text_that_turns_into_a_refusal_is_two_parts() -> None:
    events = stream([chunk({"content": "Well"}), chunk({"refusal": "no"}), chunk(finish="stop")])
    parts = events[-1]["response"]["output"][0]["content"]
    assert [part["type"] for part in parts] == ["output_text", "refusal"]
    assert [event["content_index"] for event in of("content_part.done", events)] == [0, 1]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete(finish: str, reason: str) -> None:
    events = stream([chunk({"reasoning": "hm"}), chunk({"content": "so"}), chunk(finish=finish)])
    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_of_two_calls_the_last_was_cut() -> None:
    events = stream(
        [
            chunk(call(0, name="f", call_id="a", arguments="{}")),
            chunk(call(1, name="f", call_id="b", arguments='{"x')),
            chunk(finish="length"),
        ]
    )
    assert [item["status"] for item in events[-1]["response"]["output"]] == ["completed", "incomplete"]


def test_an_empty_answer_is_an_empty_message() -> None:
    events = stream([ROLE, chunk(finish="stop"), DONE])
    item = events[-1]["response"]["output"][0]
    assert item["content"][0]["text"] == ""
    assert of("output_text.delta", events) == []


def test_a_stream_without_any_chunk_still_has_its_beginning_and_end() -> None:
    assert [kinds(stream(chunks))[-1] for chunks in ([], [DONE])] == ["completed", "completed"]
    assert kinds(stream([]))[0] == "created"


def test_usage() -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    events = stream([chunk({"content": "a"}, finish="stop"), usage(**details), DONE])
    assert events[-1]["response"]["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert stream([chunk({"content": "a"}, finish="stop")])[-1]["response"]["usage"] is None


def test_usage_in_odd_shapes_counts_nothing() -> None:
    odd = {"prompt_tokens_details": 5, "completion_tokens_details": {"reasoning_tokens": True}}
    found = stream([chunk({"content": "a"}, finish="stop"), usage(**odd)])[-1]["response"]["usage"]
    assert found["output_tokens_details"] == {"reasoning_tokens": 0}
    assert found["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}


def test_logprobs() -> None:
    prob = {"token": "a", "logprob": -0.5, "bytes": [97]}
    odd: list[Any] = [
        5,
        {"token": 1, "logprob": 0},
        {"token": "b", "logprob": True},
        {"token": "c", "logprob": 0},
    ]
    first = {**prob, "top_logprobs": [prob, {"token": "b", "logprob": -1, "bytes": None}, 5]}
    events = stream(
        [
            chunk({"content": "a"}, logprobs={"content": [first], "refusal": None}),
            chunk({"content": "c"}, logprobs={"content": odd}),
            chunk({"content": "d"}, logprobs={"content": None}),
            chunk(finish="stop"),
        ],
        top_logprobs=2,
    )
    a = {**prob, "top_logprobs": [prob, {"token": "b", "logprob": -1, "bytes": []}]}
    c = {"token": "c", "logprob": 0, "bytes": [], "top_logprobs": []}
    assert [event["logprobs"] for event in of("output_text.delta", events)] == [[a], [c], []]
    assert of("output_text.done", events)[0]["logprobs"] == [a, c]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [a, c]
    assert events[-1]["response"]["top_logprobs"] == 2


@pytest.mark.parametrize(
    ("arguments", "given_input"),
    [
        ('{"input":"print(\\"hi\\")\\n"}', 'print("hi")\n'),
        ("print(1)", "print(1)"),
        ('{"code":"x"}', '{"code":"x"}'),
        ("[1]", "[1]"),
        ('{"input":""}', ""),
    ],
)
def test_a_custom_tool_is_given_its_text(arguments: str, given_input: str) -> None:
    half = len(arguments) // 2
    events = stream(
        [
            chunk(call(0, name="run", call_id="a", arguments=arguments[:half])),
            chunk(call(0, arguments=arguments[half:])),
            chunk(finish="tool_calls"),
        ],
        tools=[RUN, WEATHER],
    )
    item = events[-1]["response"]["output"][0]
    assert item["type"] == "custom_tool_call"
    assert item["input"] == given_input
    assert item["id"].startswith("ctc_")
    assert of("custom_tool_call_input.done", events)[0]["input"] == given_input
    assert text_of(events, "custom_tool_call_input") == given_input


def test_nothing_comes_behind_the_end() -> None:
    via = translator()
    assert stream([chunk({"content": "a"}, finish="stop")], via=via)
    assert via.end() == b""
    assert via.event(chunk({"content": "b"}), None) == b""


def test_a_second_choice_was_not_asked_for() -> None:
    events = stream([chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="stop")])
    assert text_of(events) == "a"


ODD = [
    b"",
    b"[]",
    b"null",
    b"{",
    b'{"choices":null}',
    b'{"choices":{}}',
    b'{"choices":[5,{"delta":7},{"delta":{"content":5,"tool_calls":[1,{"function":"f"}]}}]}',
    b'{"choices":[{"delta":{"tool_calls":{}},"logprobs":9,"finish_reason":[1]}]}',
    b'{"object":"of.next.year","choices":[],"usage":5,"new":{"a":[1]}}',
    b"[" * 5000,
    b'{"choices":[{"delta":{"content":{"a":1},"reasoning":7,"refusal":[]}}]}',
]


def test_odd_and_unknown_events_are_nothing() -> None:
    mixed: list[bytes] = []
    for piece in ("Hello ", "world"):
        mixed += [*ODD, chunk({"content": piece, "new_field": 1}, new_field={})]
    events = stream([*mixed, *ODD, chunk(finish="stop"), DONE])
    assert text_of(events) == "Hello world"
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]


def test_odd_shapes_that_say_something() -> None:
    """Mistral's content in parts, arguments as an object, half of a surrogate pair."""
    parts = [{"type": "text", "text": "a"}, {"type": "thinking"}, 5]
    odd = b'{"model":"x\\ud800","choices":[{"delta":{"content":"\\ud83d\\ude00\\ud83d"},"logprobs":{"content":[{"token":"\\ud800","logprob":0}]}}]}'
    called = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}
    events = stream([odd, chunk({"content": parts}), chunk(called), chunk(finish="stop")])
    assert text_of(events) == "\U0001f600�a"
    assert events[0]["response"]["model"] == "x�"
    assert json.loads(events[-1]["response"]["output"][1]["arguments"]) == {"x": 1}


PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("reasoning_content"), st.text(min_size=1, max_size=12)),
        st.tuples(st.just("content"), st.text(min_size=1, max_size=12)),
        st.tuples(st.just("refusal"), st.text(min_size=1, max_size=12)),
        st.tuples(st.just("call"), st.text(min_size=1, max_size=12)),
    ),
    max_size=6,
)


@given(PIECES, st.lists(st.integers(1, 12), max_size=6))
def test_however_the_stream_is_cut_the_answer_is_the_same(
    pieces: list[tuple[str, str]], cuts: list[int]
) -> None:
    def chunks(sizes: list[int]) -> list[bytes]:
        found = [ROLE]
        for number, (kind, text) in enumerate(pieces):
            ends = sorted({min(size, len(text)) for size in sizes} | {len(text)})
            for start, end in zip([0, *ends], ends, strict=False):
                part = text[start:end]
                if kind != "call":
                    found.append(chunk({kind: part}))
                elif start == 0:
                    found.append(chunk(call(number, name="f", call_id=f"c{number}", arguments=part)))
                else:
                    found.append(chunk(call(number, arguments=part)))
        return [*found, chunk(finish="stop"), usage(), DONE]

    whole, cut = stream(chunks([])), stream(chunks(cuts))
    assert whole[-1]["response"] == cut[-1]["response"]
    assert kinds(whole) == kinds(cut)
    spoken = [text for kind, text in pieces if kind == "content"]
    assert text_of(cut) == "".join(spoken)


def test_a_whole_reply_is_the_same_response_as_its_stream() -> None:
    calls = call(None, name="f", call_id="a", arguments="{}")["tool_calls"]
    calls += (
        call(None, name="f", arguments="")["tool_calls"] + call(None, name="f", arguments="")["tool_calls"]
    )
    message = {
        "role": "assistant",
        "reasoning_content": "hm",
        "content": "so",
        "refusal": None,
        "tool_calls": calls,
    }
    counted = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    reply = canned.dump(
        {
            "model": "real",
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": counted,
        }
    )
    via = translator()
    asked(via=via)
    response = json.loads(via.whole(reply))
    numbered = [{**found, "index": index} for index, found in enumerate(calls)]
    events = stream(
        [
            chunk({"reasoning_content": "hm"}),
            chunk({"content": "so"}),
            chunk({"tool_calls": numbered}),
            chunk(finish="length"),
            usage(),
        ]
    )
    assert response == events[-1]["response"]
    assert len(response["output"]) == 5
    assert via.response == response


def test_a_whole_reply_that_is_odd() -> None:
    for body in ODD:
        via = translator()
        asked(via=via)
        assert json.loads(via.whole(body))["status"] == "completed"


def test_two_translators_of_one_request_speak_alike() -> None:
    data = chunk({"content": "a"}, finish="stop")
    first, second = (stream([data]) for _ in range(2))
    assert first == second


def test_an_event_is_framed_as_soon_as_it_comes() -> None:
    via = translator()
    asked(via=via, stream=True)
    assert kinds(read(via.event(ROLE, None))) == ["created", "in_progress"]
    assert via.event(chunk({"content": "a"}), None).endswith(b'"delta":"a"}\n\n')
    assert via.response is None
    assert via.output_items == []
