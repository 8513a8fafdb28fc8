"""The words in which a target is asked: what of a conversation it can't know, and what it counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.failover.ability import Ability
from gateway.failover.outcome import Outcome
from gateway.local.paths import COUNT
from gateway.relay.inbound import RESPONSES_API, Inbound
from gateway.relay.kept import Kept
from gateway.relay.planner import Planner
from gateway.relay.speech import Speaker, Words
from gateway.wire.api import Api, api_of
from gateway.wire.body import read_json
from gateway.wire.dialect import Dialect, dialect_of
from gateway.wire.translate.responses_history import Turn
from tests.house import rule, snapshot, upstream
from tests.relay.puppet import Puppet
from tests.relay.test_planner import planner_of

CLOUD = upstream("a")


def inbound(path: str, *, client: str = "me", **fields: Any) -> Inbound:
    return Inbound(
        request_id="req_1",
        method="POST",
        path=path,
        query="",
        dialect=dialect_of(path),
        api=api_of(path),
        headers=(),
        body=read_json(json.dumps({"model": "m", **fields}).encode()),
        client=client,
    )


def going_on(previous: str = "resp_2", **how: Any) -> Inbound:
    return inbound("/v1/responses", previous_response_id=previous, input="And?", **how)


@pytest.fixture
def kept() -> Kept:
    """Two turns, the second a call."""
    kept = Kept()
    asked = {"type": "message", "id": "msg_1", "role": "user", "content": "Weather?"}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
    cut = {**call, "id": "fc_2", "call_id": "c2", "status": "incomplete"}
    told = {"type": "function_call_output", "id": "fco_1", "call_id": "c1", "output": "sunny"}
    first = Turn(response_id="resp_1", previous=None, input_items=[asked], output_items=[call, cut])
    second = Turn(response_id="resp_2", previous="resp_1", input_items=[told], output_items=[])
    for turn in (first, second):
        kept.keep("me", turn, {"id": turn.response_id})
    return kept


def asked_of(words: Words) -> dict[str, Any]:
    assert words.body is not None
    assert words.body.data is not None
    found: dict[str, Any] = json.loads(words.body.data)
    return found


def test_an_upstream_of_the_same_api_gets_the_turns_before(kept: Kept) -> None:
    words = Speaker(kept).words(going_on(), "other", CLOUD, Ability())
    assert (words.path, words.translation) == ("/v1/responses", None)
    assert words.changed == ("previous_response_id",)
    asked = asked_of(words)
    assert (asked["model"], "previous_response_id" in asked) == ("other", False)
    assert asked["input"] == [
        {"type": "message", "role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"role": "user", "content": "And?"},
    ]


def test_what_it_refuses_is_mended_in_the_turns_before_too(kept: Kept) -> None:
    words = Speaker(kept).words(going_on(), "m", CLOUD, Ability(), mend=["tool_ids"])
    assert words.changed == ("previous_response_id", "tool call ids renamed")
    _, call, result, _ = asked_of(words)["input"]
    assert call["call_id"] == result["call_id"] != "c1"


@pytest.mark.parametrize(
    "asked", [going_on("resp_far"), going_on(client="you"), inbound("/v1/responses", input="x")]
)
def test_what_is_not_known_here_stays_as_it_is(kept: Kept, asked: Inbound) -> None:
    words = Speaker(kept).words(asked, "m", CLOUD, Ability())
    assert words.changed == ()
    assert words.body is not None
    assert words.body.data == asked.body.data  # type: ignore[union-attr]


def test_one_that_has_no_responses_is_asked_in_a_chat_with_them(kept: Kept) -> None:
    words = Speaker(kept).words(going_on(), "m", CLOUD, Ability(), mend=[RESPONSES_API])
    assert words.path == "/v1/chat/completions"
    roles = [message["role"] for message in asked_of(words)["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]


async def test_a_turn_that_is_gone_keeps_a_request_from_everybody(kept: Kept) -> None:
    kept.delete("resp_1", "me")
    speaker = Speaker(kept)
    with pytest.raises(RequestError) as refused:
        speaker.check(going_on(), "m", CLOUD, Ability())
    assert refused.value.code == "previous_response_not_found"
    planner = planner_of(local=Puppet())
    planner.speaker = speaker
    known = snapshot(rules=[rule("m", "local", "a")], upstreams=[CLOUD])
    way = await planner.way(going_on(), known)
    assert way.plan.candidates == ()
    assert {skipped.outcome for skipped in way.plan.skipped} == {Outcome.UNSUPPORTED}


MESSAGES = [{"role": "user", "content": "hi"}]
CLAUDE = upstream("c", dialect=Dialect.ANTHROPIC)


def test_tokens_are_counted_here_as_those_of_the_message_would_be() -> None:
    speaker = Speaker(Kept())
    words = speaker.words(inbound(COUNT, messages=MESSAGES), "tiny", None, Ability())
    answer = speaker.words(inbound("/v1/messages", messages=MESSAGES), "tiny", None, Ability())
    assert (words.path, words.dialect) == (COUNT, Dialect.OPENAI)
    assert asked_of(words) == asked_of(answer)
    assert words.translation is not None
    assert words.translation.api is Api.OTHER


async def test_only_who_speaks_anthropic_counts_elsewhere() -> None:
    planner: Planner = planner_of(local=Puppet(names=["m"]))
    known = snapshot(rules=[rule("m", "local", "a", "c")], upstreams=[CLOUD, CLAUDE])
    way = await planner.way(inbound(COUNT, messages=MESSAGES), known)
    assert [each.label for each in way.plan.candidates] == ["local/m", "c/m"]
    (skipped,) = way.plan.skipped
    assert skipped.outcome is Outcome.UNSUPPORTED
    assert f"nothing like POST {COUNT}" in skipped.reason
    way = await planner.way(inbound(COUNT, messages=3), known)
    assert [each.label for each in way.plan.candidates] == ["c/m"], "the upstream may have words for it"
