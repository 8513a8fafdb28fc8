"""What is remembered of the responses that were made here, for whom, and how much of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.relay.kept import Kept
from gateway.wire.translate.responses_history import Turn


def turn(number: int, previous: int | None = None, *, said: str = "x") -> Turn:
    return Turn(
        response_id=f"resp_{number}",
        previous=None if previous is None else f"resp_{previous}",
        input_items=[{"id": f"msg_in{number}", "role": "user", "content": said}],
        output_items=[{"id": f"msg_out{number}", "role": "assistant", "content": said}],
    )


def keep(
    kept: Kept, number: int, previous: int | None = None, *, client: str = "me", said: str = "x"
) -> None:
    kept.keep(client, turn(number, previous, said=said), {"id": f"resp_{number}", "said": said})


def names(items: list[dict[str, Any]] | None) -> list[str]:
    assert items is not None
    return [item["id"] for item in items]


def test_what_was_kept_comes_back_and_goes() -> None:
    kept = Kept()
    keep(kept, 1)
    assert kept.knows("resp_1", "me")
    assert kept.turn("resp_1", "me") == turn(1)
    assert json.loads(kept.response("resp_1", "me") or b"") == {"id": "resp_1", "said": "x"}
    assert kept.items(["msg_in1", "msg_out1", "msg_none"], "me").keys() == {"msg_in1", "msg_out1"}
    assert kept.delete("resp_1", "me")
    assert not kept.delete("resp_1", "me")
    assert (kept.turn("resp_1", "me"), kept.response("resp_1", "me")) == (None, None)
    assert kept.items(["msg_in1"], "me") == {}


def test_another_key_sees_nothing_of_it() -> None:
    kept = Kept()
    keep(kept, 1)
    assert not kept.knows("resp_1", "you")
    assert not kept.delete("resp_1", "you")
    assert kept.turn("resp_1", "you") is kept.response("resp_1", "you") is None
    assert kept.conversation("resp_1", "you") is None
    assert kept.items(["msg_in1"], "you") == {}
    assert kept.knows("resp_1", "me")


def test_a_conversation_is_all_that_a_response_was_made_of() -> None:
    kept = Kept()
    keep(kept, 1)
    keep(kept, 2, 1)
    keep(kept, 3, 2)
    assert names(kept.conversation("resp_3", "me")) == [
        "msg_in1",
        "msg_out1",
        "msg_in2",
        "msg_out2",
        "msg_in3",
    ]
    kept.delete("resp_1", "me")
    assert names(kept.conversation("resp_3", "me")) == ["msg_in2", "msg_out2", "msg_in3"]


def test_a_ring_of_turns_ends() -> None:
    kept = Kept()
    keep(kept, 1, 2)
    keep(kept, 2, 1)
    assert names(kept.conversation("resp_2", "me")) == ["msg_in1", "msg_out1", "msg_in2"]


def test_the_oldest_goes_first_and_what_is_used_is_not_old() -> None:
    kept = Kept(limit=2)
    keep(kept, 1)
    keep(kept, 2)
    kept.turn("resp_1", "me")
    keep(kept, 3)
    assert [kept.knows(f"resp_{number}", "me") for number in (1, 2, 3)] == [True, False, True]


def test_the_bytes_are_bounded() -> None:
    kept = Kept(limit_bytes=4000)
    for number in range(20):
        keep(kept, number, said="x" * 300)
    there = [number for number in range(20) if kept.knows(f"resp_{number}", "me")]
    assert there == [17, 18, 19]
    assert kept._bytes <= 4000
    keep(kept, 20, said="x" * 5000)
    assert not kept.knows("resp_20", "me"), "it is larger than all the room there is"
    assert kept.knows("resp_19", "me")


@pytest.mark.parametrize("times", [1, 2])
def test_the_same_id_again_replaces_the_first(times: int) -> None:
    kept = Kept()
    for _ in range(times):
        keep(kept, 1, said="new")
    size = kept._bytes
    assert kept.delete("resp_1", "me")
    assert (kept._bytes, size > 0, kept._items) == (0, True, {})


def test_a_limit_of_nothing_keeps_nothing() -> None:
    kept = Kept(limit_bytes=0)
    keep(kept, 1)
    assert not kept.knows("resp_1", "me")
