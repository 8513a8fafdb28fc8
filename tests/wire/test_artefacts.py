"""What only one provider can read is told from a client's mistake, and taken out without a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.api import Api
from gateway.wire.artefacts import complaint, mended
from gateway.wire.failure import WireError, read_error

# As providers word them, some through a router that puts its own sentence before.
COMPLAINTS = [
    ("thinking_signature", "messages.1.content.0: Invalid `signature` in `thinking` block"),
    ("thinking_signature", "messages.3.content.0: Invalid `data` in `redacted_thinking` block"),
    (
        "thinking_signature",
        "Provider returned error: messages.1.content.0: Invalid signature in thinking block",
    ),
    (
        "thinking_signature",
        "messages.129.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`. When "
        "`thinking` is enabled, a final `assistant` message must start with a thinking block.",
    ),
    (
        "thinking_signature",
        "messages.5.content.1: `thinking` or `redacted_thinking` blocks in the latest assistant message "
        "cannot be modified. These blocks must remain as they were in the original response.",
    ),
    ("thinking_signature", "messages.1.content.0.thinking.signature: Field required"),
    ("encrypted_reasoning", "The encrypted content gAAA...DQ== could not be verified."),
    (
        "encrypted_reasoning",
        "The encrypted content for item rs_34 could not be verified. Reason: Encrypted content could not be "
        "decrypted or parsed.",
    ),
    (
        "encrypted_reasoning",
        "Item 'rs_0c38' of type 'reasoning' was provided without its required following item.",
    ),
    (
        "encrypted_reasoning",
        "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_2'.",
    ),
    (
        "encrypted_reasoning",
        "Item with id 'rs_6884' not found. Items are not persisted when `store` is set to false.",
    ),
    ("previous_response", "Previous response with id 'resp_0f09' not found."),
    ("previous_response", "Invalid `previous_response_id`."),
    ("tool_ids", "messages.5.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    (
        "tool_ids",
        "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40, "
        "but got a string with length 83 instead.",
    ),
    ("tool_ids", "Invalid 'messages[3].tool_call_id': string too long. Expected maximum length 40"),
    ("tool_ids", "Invalid 'input[95].call_id': string too long. Expected a string with maximum length 64"),
    ("tool_ids", "Tool call id was call_0fypS1hVX but must be a-z, A-Z, 0-9, with a length of 9."),
    ("cache_control", "messages.0.content.0.text.cache_control: Extra inputs are not permitted"),
    ("cache_control", "messages.13.content.0.thinking.cache_control: Extra inputs are not permitted"),
    ("cache_control", "system.2.cache_control.ephemeral.scope: Extra inputs are not permitted"),
    ("cache_control", "Extra inputs are not permitted, field: 'messages[0].cache_control'"),
    (
        "reasoning_content",
        "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property "
        "'reasoning_content' is unsupported)]",
    ),
    (
        "reasoning_content",
        "messages.2.assistant.reasoning_content: property 'messages.2.assistant.reasoning_content' is unsupported",
    ),
    ("item_ids", "Invalid 'input[66].id': 'item_df7e'. Expected an ID that begins with 'rs'."),
    (
        "item_ids",
        "Invalid 'input[2].id': ''. Expected an ID that contains letters, numbers, underscores, or dashes",
    ),
    ("", "property 'foo' is unsupported"),
    ("", "reasoning.effort: Extra inputs are not permitted"),
    ("", "messages.0.content.0.foo: Extra inputs are not permitted"),
    ("", "Invalid signature"),
    ("", "thinking.budget_tokens: Input should be greater than or equal to 1024"),
    ("", "The encrypted content for item cmp_34 could not be verified."),
    ("", "Item with id 'msg_6884' not found."),
    ("", "messages.1.content.2.server_tool_use.id: String should match pattern '^srvtoolu_[a-zA-Z0-9_]+$'"),
    ("", "Invalid 'messages[2].tool_calls[0].function.name': string too long."),
    ("", "Invalid 'metadata.id': string too long."),
    ("", "A maximum of 4 blocks with cache_control may be provided. Found 5."),
    ("", "An assistant message with 'tool_calls' must be followed by tool messages"),
]


@pytest.mark.parametrize(("kind", "message"), COMPLAINTS)
def test_a_complaint_names_its_thing(kind: str, message: str) -> None:
    for status in (400, 404, 422):
        assert complaint(WireError(message=message), status) == kind
    assert complaint(WireError(message=message), 500) == ""


def test_a_code_is_enough() -> None:
    assert complaint(WireError(message="no", code="invalid_encrypted_content"), 400) == "encrypted_reasoning"
    assert complaint(WireError(message="no", code="previous_response_not_found"), 404) == "previous_response"
    assert complaint(WireError(message="no", code="invalid_value"), 400) == ""


@pytest.mark.parametrize("name", ["reasoning_content", "cache_control"])
@pytest.mark.parametrize("key", ["message", "detail"])
def test_the_place_may_stand_beside_the_sentence(name: str, key: str) -> None:
    fault = {"type": "extra_forbidden", "loc": ["body", "messages", 5, "assistant", name]}
    body = {"object": "error", key: [{**fault, "msg": "Extra inputs are not permitted"}], "code": "3001"}
    error = read_error(json.dumps(body).encode())
    assert error.param == f"body.messages.5.assistant.{name}"
    assert complaint(error, 422) == name


def after(api: Api, kind: str, body: dict[str, Any] | bytes) -> tuple[Any, str] | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = mended(api, data, kind)
    return None if found is None else (json.loads(found[0]), found[1])


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "eHg="}
TEXT = {"type": "text", "text": "hello"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"cache_control": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}
ON = {"type": "enabled", "budget_tokens": 2048}


def said(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def test_thinking_is_dropped_byte_for_byte() -> None:
    body = (
        b'{ "max_tokens" : 1.0e2,"messages":[{"role":"user","content":"\\u0068i"},\n'
        b' {"content":[ {"type":"thinking","thinking":"x\\"},{","signature":"s"} , {"type":"text", "text":"a"}],'
        b'"role":"assistant","x":-0}, {"role":"user","content":"go"}],"model":"m","odd":{"type":"thinking"}}'
    )
    assert mended(Api.MESSAGES, body, "thinking_signature") == (
        b'{ "max_tokens" : 1.0e2,"messages":[{"role":"user","content":"\\u0068i"},\n'
        b' {"content":[ {"type":"text", "text":"a"}],'
        b'"role":"assistant","x":-0}, {"role":"user","content":"go"}],"model":"m","odd":{"type":"thinking"}}',
        "thinking blocks dropped",
    )


def test_thinking_stays_on_where_nobody_demands_a_block_of_it() -> None:
    messages = [said("user", TEXT), said("assistant", THOUGHT, HIDDEN, TEXT), said("user", TEXT)]
    assert after(Api.MESSAGES, "thinking_signature", {"thinking": ON, "messages": messages}) == (
        {"thinking": ON, "messages": [said("user", TEXT), said("assistant", TEXT), said("user", TEXT)]},
        "thinking blocks dropped",
    )


@pytest.mark.parametrize("tail", [[said("user", RESULT)], []])
def test_thinking_is_turned_off_in_the_middle_of_a_turn(tail: list[dict[str, Any]]) -> None:
    messages = [said("user", TEXT), said("assistant", THOUGHT, USE), *tail]
    assert after(Api.MESSAGES, "thinking_signature", {"thinking": ON, "messages": messages}) == (
        {"messages": [said("user", TEXT), said("assistant", USE), *tail]},
        "thinking blocks dropped, thinking turned off",
    )
    # adaptive thinking demands nothing
    adaptive = {"thinking": {"type": "adaptive"}, "messages": messages}
    found = after(Api.MESSAGES, "thinking_signature", adaptive)
    assert found is not None
    assert found[0]["thinking"] == {"type": "adaptive"}


def test_a_turn_that_another_model_began_has_no_thinking_to_drop() -> None:
    messages = [said("user", TEXT), said("assistant", USE), said("user", RESULT)]
    found = after(Api.MESSAGES, "thinking_signature", {"messages": messages, "thinking": ON})
    assert found == ({"messages": messages}, "thinking turned off")


def test_a_message_of_thinking_alone_goes_as_a_whole() -> None:
    messages = [said("user", TEXT), said("assistant", THOUGHT), said("user", TEXT)]
    found = after(Api.MESSAGES, "thinking_signature", {"messages": messages})
    assert found == ({"messages": [said("user", TEXT), said("user", TEXT)]}, "thinking blocks dropped")
    assert after(Api.MESSAGES, "thinking_signature", {"messages": [said("assistant", THOUGHT)]}) is None


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
ANSWER = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "a"}],
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "4"}
ASK = {"role": "user", "content": "hi"}


def bare(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "id"}


def test_reasoning_goes_with_the_ids_that_hang_on_it() -> None:
    items = [ASK, REASONING, CALL, OUTPUT, {"type": "item_reference", "id": "rs_2"}, {"id": "rs_3"}, ANSWER]
    assert after(Api.RESPONSES, "encrypted_reasoning", {"input": items, "store": False}) == (
        {"input": [ASK, bare(CALL), OUTPUT, bare(ANSWER)], "store": False},
        "reasoning items dropped",
    )
    assert after(Api.RESPONSES, "encrypted_reasoning", {"input": [ASK, CALL]}) is None
    assert after(Api.RESPONSES, "encrypted_reasoning", {"input": [REASONING]}) is None
    assert after(Api.RESPONSES, "encrypted_reasoning", {"input": "hi"}) is None


def test_items_need_no_ids() -> None:
    items = [ASK, {**REASONING, "id": "item_1"}, {**CALL, "id": "item_2"}, OUTPUT, {**ANSWER, "id": "x"}]
    assert after(Api.RESPONSES, "item_ids", {"input": items}) == (
        {"input": [ASK, bare(CALL), OUTPUT, bare(ANSWER)]},
        "item ids dropped",
    )
    reference = {"type": "item_reference", "id": "msg_1"}
    assert after(Api.RESPONSES, "item_ids", {"input": [*items, reference]}) is None
    assert after(Api.RESPONSES, "item_ids", {"input": [REASONING]}) is None
    assert after(Api.RESPONSES, "item_ids", {"input": [ASK]}) is None


def test_reasoning_told_with_earlier_answers_is_dropped() -> None:
    answer = {"role": "assistant", "content": "a"}
    told = {"reasoning": "hm", **answer, "reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]}
    user = {"role": "user", "content": "b", "reasoning": "mine"}
    assert after(
        Api.CHAT, "reasoning_content", {"messages": [told, user], "reasoning": {"effort": "low"}}
    ) == (
        {"messages": [answer, user], "reasoning": {"effort": "low"}},
        "reasoning dropped",
    )
    assert after(Api.CHAT, "reasoning_content", {"messages": [answer]}) is None


def test_an_earlier_response_is_forgotten_only_where_the_input_tells_it_all() -> None:
    whole = {"previous_response_id": "resp_1", "input": [ASK, ANSWER, ASK]}
    assert after(Api.RESPONSES, "previous_response", whole) == (
        {"input": [ASK, ANSWER, ASK]},
        "previous_response_id dropped",
    )
    called = {
        "previous_response_id": "resp_1",
        "input": [{"role": "developer", "content": ""}, ASK, CALL, OUTPUT],
    }
    assert after(Api.RESPONSES, "previous_response", called) is not None


@pytest.mark.parametrize(
    "items",
    [
        "go on",
        [ASK],
        [OUTPUT],
        [ANSWER, ASK],
        [ASK, ANSWER, OUTPUT],
        [ASK, {"type": "item_reference", "id": "msg_1"}, ANSWER],
        [],
    ],
)
def test_a_conversation_is_never_lost(items: Any) -> None:
    assert (
        after(Api.RESPONSES, "previous_response", {"previous_response_id": "resp_1", "input": items}) is None
    )
    assert after(Api.RESPONSES, "previous_response", {"input": items}) is None


def test_ids_of_calls_still_belong_together() -> None:
    call = {"id": "functions.Bash:0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "x" * 80}]},
        {"role": "tool", "tool_call_id": "functions.Bash:0", "content": "functions.Bash:0"},
        {"role": "tool", "tool_call_id": "x" * 80, "content": "b"},
        {"role": "assistant", "content": None, "tool_calls": [{**call, "id": "abcDEF123"}]},
        {"role": "tool", "tool_call_id": "abcDEF123", "content": "c"},
    ]
    found = after(Api.CHAT, "tool_ids", {"messages": messages})
    assert found is not None
    assert found[1] == "tool call ids renamed"
    new = found[0]["messages"]
    first, second = (each["id"] for each in new[0]["tool_calls"])
    assert (new[1]["tool_call_id"], new[2]["tool_call_id"]) == (first, second)
    assert first != second
    for name in (first, second):
        assert len(name) == 9
        assert name.isascii()
        assert name.isalnum()
    assert new[1]["content"] == "functions.Bash:0"
    assert new[3:] == messages[3:]
    assert after(Api.CHAT, "tool_ids", {"messages": messages[3:]}) is None
    assert after(Api.CHAT, "tool_ids", {"messages": messages}) == found  # always the same ones


def test_ids_of_calls_in_the_other_apis() -> None:
    server = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search"}
    found = after(
        Api.MESSAGES, "tool_ids", {"messages": [said("assistant", USE, server), said("user", RESULT)]}
    )
    assert found is not None
    use, other = found[0]["messages"][0]["content"]
    assert found[0]["messages"][1]["content"][0]["tool_use_id"] == use["id"] != "toolu_1"
    assert other == server
    found = after(Api.RESPONSES, "tool_ids", {"input": [ASK, CALL, OUTPUT]})
    assert found is not None
    assert found[0]["input"][1]["call_id"] == found[0]["input"][2]["call_id"] != "call_1"
    assert found[0]["input"][1]["id"] == "fc_1"


def test_markers_of_a_cache_go_and_their_name_elsewhere_stays() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    tool = {"name": "f", "input_schema": {"properties": {"cache_control": {}}}}
    body = {
        **mark,
        "system": [{**TEXT, **mark}],
        "tools": [{**tool, **mark}],
        "messages": [
            said("assistant", {**USE, **mark}),
            said("user", {**RESULT, "content": [{**TEXT, **mark}], **mark}),
        ],
    }
    assert after(Api.MESSAGES, "cache_control", body) == (
        {
            "system": [TEXT],
            "tools": [tool],
            "messages": [said("assistant", USE), said("user", {**RESULT, "content": [TEXT]})],
        },
        "cache_control dropped",
    )


@pytest.mark.parametrize(
    "kind",
    [
        "item_ids",
        "reasoning_content",
        "thinking_signature",
        "encrypted_reasoning",
        "tool_ids",
        "cache_control",
        "",
        "x",
    ],
)
def test_where_there_is_nothing_of_it_nothing_changes(kind: str) -> None:
    for api in Api:
        assert (
            mended(api, b'{"model":"m","messages":[{"role":"user","content":"hi"}],"input":"x"}', kind)
            is None
        )
        assert mended(api, b'{"messages":3,"input":{},"thinking":[],"tools":"x"}', kind) is None
        for junk in (b"", b"[]", b"{", b"\xff"):
            assert mended(api, junk, kind) is None


KEYS = [
    "messages",
    "input",
    "content",
    "type",
    "role",
    "id",
    "call_id",
    "thinking",
    "cache_control",
    "tool_calls",
]
KEYS += ["reasoning_content", "tool_use_id", "tool_call_id", "previous_response_id", "system", "tools", "x"]
WORDS = [
    "thinking",
    "assistant",
    "user",
    "reasoning",
    "tool_use",
    "tool_result",
    "rs_1",
    "function_call",
    "enabled",
]
odd = st.recursive(
    st.none() | st.integers() | st.sampled_from(WORDS) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=40,
)
KINDS = [
    "reasoning_content",
    "item_ids",
    "thinking_signature",
    "encrypted_reasoning",
    "previous_response",
    "tool_ids",
    "cache_control",
]


@given(
    st.dictionaries(st.sampled_from(KEYS), odd, max_size=6),
    st.sampled_from(list(Api)),
    st.sampled_from(KINDS),
)
def test_odd_bodies_never_break(body: dict[str, Any], api: Api, kind: str) -> None:
    data = json.dumps(body, indent=1).encode()
    found = mended(api, data, kind)
    if found is not None:
        assert isinstance(json.loads(found[0]), dict)
        assert found[0] != data
        # done once, there is nothing left to do
        again = mended(api, found[0], kind)
        assert again is None or again[1] == found[1] == "thinking turned off"


blocks = st.lists(st.sampled_from([THOUGHT, HIDDEN, TEXT, USE, RESULT]), max_size=4)
turns = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), blocks), max_size=6)


@given(turns, st.sampled_from([None, ON]), st.sampled_from([None, 1]))
def test_all_but_the_thinking_is_kept(
    conversation: list[tuple[str, list[dict[str, Any]]]], thinking: Any, indent: int | None
) -> None:
    body = {
        "a": 1.50,
        "thinking": thinking,
        "messages": [said(role, *b) for role, b in conversation],
        "z": [None],
    }
    found = mended(Api.MESSAGES, json.dumps(body, indent=indent).encode(), "thinking_signature")
    if found is None:
        return
    new = json.loads(found[0])
    assert ("thinking" not in new) == ("thinking turned off" in found[1])
    expected = []
    for role, each in conversation:
        if role == "assistant":
            kept = [block for block in each if block not in (THOUGHT, HIDDEN)]
            if kept or not each:
                expected.append(said(role, *kept))
        else:
            expected.append(said(role, *each))
    assert new["messages"] == expected
    assert (new["a"], new["z"]) == (1.5, [None])
