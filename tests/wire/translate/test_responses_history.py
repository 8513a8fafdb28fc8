"""What stands in front of a request, and what has to be looked up for that."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.wire.translate.responses_history import Named, Turn, items_before, named_in
from tests import canned


def turn(name: str, previous: str | None, *output: dict[str, Any]) -> Turn:
    said = {"type": "message", "role": "user", "content": f"to {name}"}
    return Turn(response_id=name, previous=previous, input_items=[said], output_items=list(output))


def answer(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def test_turns_in_their_order() -> None:
    turns = {
        t.response_id: t for t in (turn("a", None, answer("1")), turn("b", "a", answer("2")), turn("c", "a"))
    }
    found = items_before("b", turns.get)
    assert [item["content"] for item in found] == [
        "to a",
        [{"type": "output_text", "text": "1"}],
        "to b",
        [{"type": "output_text", "text": "2"}],
    ]
    assert len(items_before("c", turns.get)) == 3


def test_calls_that_were_cut_off_are_left_out() -> None:
    whole = {"type": "function_call", "call_id": "a", "status": "completed"}
    cut = {"type": "function_call", "call_id": "b", "status": "incomplete"}
    text = {**answer("half"), "status": "incomplete"}
    turns = {"a": turn("a", None, text, whole, cut)}
    assert items_before("a", turns.get)[1:] == [text, whole]


@pytest.mark.parametrize("turns", [{}, {"b": turn("b", "a")}, {"b": turn("b", "c"), "c": turn("c", "b")}])
def test_a_turn_that_is_not_known(turns: dict[str, Turn]) -> None:
    with pytest.raises(RequestError) as caught:
        items_before("b", turns.get)
    assert caught.value.status == 400
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_a_long_conversation() -> None:
    turns = {str(n): turn(str(n), str(n - 1) if n else None) for n in range(3000)}
    assert len(items_before("2999", turns.get)) == 3000


def test_what_a_request_names() -> None:
    items = [
        {"type": "item_reference", "id": "msg_1"},
        {"id": "msg_2"},
        {"type": "message", "role": "user", "content": "a", "id": "msg_3"},
        {"role": "user", "content": "a"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "item_reference", "id": 5},
    ]
    body = canned.dump({"input": items, "previous_response_id": "resp_1", "store": False})
    assert named_in(body) == Named(previous="resp_1", item_ids=("msg_1", "msg_2"), keeps=False)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"input":"hi"}', b'{"input":[5]}', b'{"previous_response_id":5,"store":null}']
)
def test_a_request_that_names_nothing(body: bytes) -> None:
    assert named_in(body) == Named()
