"""A request with its history in its input: nothing of what the client wrote is touched but that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.wire.translate.responses_inline import inlined

ASKED = {
    "type": "message",
    "id": "msg_1",
    "role": "user",
    "content": [{"type": "input_text", "text": "2+2?"}],
}
SAID = {
    "type": "message",
    "id": "msg_2",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "4", "annotations": []}],
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
SEALED = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "abc"}


def without_ids(*items: dict[str, Any]) -> bytes:
    plain = [{key: value for key, value in item.items() if key != "id"} for item in items]
    return b",".join(json.dumps(item, separators=(",", ":")).encode() for item in plain)


BEFORE = without_ids(ASKED, SAID)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{ "model":"m", "previous_response_id" : "resp_1", "input": "and  \\u0033?", "x": 1.50 }',
            b'{ "model":"m", "input": ['
            + BEFORE
            + b',{"role":"user","content":"and  \\u0033?"}], "x": 1.50 }',
        ),
        (
            b'{"input":[ {"role":"user","content":"3?"} ],"model":"m","previous_response_id":"resp_1"}',
            b'{"input":[' + BEFORE + b', {"role":"user","content":"3?"} ],"model":"m"}',
        ),
        (b'{"previous_response_id":"resp_1","input":[]}', b'{"input":[' + BEFORE + b"]}"),
        (b'{"previous_response_id":"resp_1","input":null}', b'{"input":[' + BEFORE + b"]}"),
        (b'{"a":1,"previous_response_id":"resp_1"}', b'{"a":1,"input":[' + BEFORE + b"]}"),
    ],
    ids=["text", "items", "no items", "null", "nothing"],
)
def test_the_history_comes_first_and_all_else_stays(body: bytes, expected: bytes) -> None:
    assert inlined(body, [ASKED, SAID]) == expected
    json.loads(expected)


@pytest.mark.parametrize("given", ['"x"', '[{"role":"user","content":"x"}]', "[]", "null"])
def test_without_a_history_the_input_is_a_list_all_the_same(given: str) -> None:
    body = f'{{"input":{given},"previous_response_id":"r"}}'.encode()
    said = [] if given in ("[]", "null") else [{"role": "user", "content": "x"}]
    assert json.loads(inlined(body, [])) == {"input": said}


def test_only_reasoning_that_is_sealed_for_its_maker_goes_with_it() -> None:
    made = json.loads(inlined(b'{"previous_response_id":"r"}', [ASKED, THOUGHT, SEALED, CALL]))
    assert [item["type"] for item in made["input"]] == ["message", "reasoning", "function_call"]
    assert made["input"][1] == SEALED
    assert [("id" in item) for item in made["input"]] == [False, True, False]
