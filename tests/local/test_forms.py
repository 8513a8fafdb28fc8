"""Answers that are kept to a form: a random model writes what fits, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.failover.outcome import Outcome
from gateway.local.pool import LocalPool
from tests.local.asking import joined, refused, stream, text_of, whole

pytestmark = pytest.mark.asyncio(loop_scope="session")
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green"]},
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["colour", "size"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}


def tool(name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


TOOLS = [
    tool("paint", SCHEMA),
    tool("stop", {"type": "object", "properties": {}, "additionalProperties": False}),
]


def check(text: str) -> None:
    found = json.loads(text)
    assert set(found) == {"colour", "size"}
    assert found["colour"] in ("red", "green")
    assert found["size"] in range(1, 10)


@pytest.mark.parametrize("seed", range(3))
async def test_an_answer_fits_its_schema_and_ends_there(pool: LocalPool, seed: int) -> None:
    fields: dict[str, Any] = {"response_format": FORM, "temperature": 1.5, "seed": seed, "max_tokens": 400}
    (choice,) = (await whole(pool, "tiny", **fields))["choices"]
    assert choice["finish_reason"] == "stop"
    check(choice["message"]["content"])
    assert text_of(await stream(pool, "tiny", **fields)) == choice["message"]["content"]


async def test_any_json_object(pool: LocalPool) -> None:
    for seed in range(3):
        body = await whole(
            pool, "tiny", response_format={"type": "json_object"}, temperature=1, seed=seed, max_tokens=480
        )
        (choice,) = body["choices"]
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(choice["message"]["content"]), dict)
        else:
            assert choice["message"]["content"].lstrip().startswith("{")


async def test_several_choices_and_neighbours_keep_each_to_his_own_form(pool: LocalPool) -> None:
    many, free = await asyncio.gather(
        whole(pool, "tiny", response_format=FORM, n=4, temperature=1.5, seed=3, max_tokens=400),
        whole(pool, "tiny", "free", max_tokens=40, logit_bias={"256": -100}),
    )
    for choice in many["choices"]:
        check(choice["message"]["content"])
    assert len({choice["message"]["content"] for choice in many["choices"]}) > 1
    assert free["choices"][0]["finish_reason"] == "length"


async def test_a_schema_that_can_not_be_kept_is_refused(pool: LocalPool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=x)y"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    failure = await refused(pool, "tiny", response_format=form)
    assert failure.outcome in (Outcome.UNSUPPORTED, Outcome.CLIENT_FAULT)
    assert failure.param is not None
    assert failure.param.startswith("response_format")


@pytest.mark.parametrize("seed", range(2))
async def test_a_forced_call_is_made_and_its_arguments_fit(pool: LocalPool, seed: int) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    fields |= {"temperature": 1.5, "seed": seed, "max_tokens": 400}
    (choice,) = (await whole(pool, "thinker", **fields))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    if call["function"]["name"] == "paint":
        check(call["function"]["arguments"])
    else:
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("stop", {})
    chunks = await stream(pool, "thinker", **fields)
    assert [one["function"] for one in joined(chunks)] == [call["function"]]


async def test_a_named_call_is_of_that_tool(pool: LocalPool) -> None:
    choice = {"type": "function", "function": {"name": "paint"}}
    for seed in range(2):
        body = await whole(
            pool, "thinker", tools=TOOLS, tool_choice=choice, temperature=1.5, seed=seed, max_tokens=400
        )
        for call in body["choices"][0]["message"]["tool_calls"]:
            assert call["function"]["name"] == "paint"
            check(call["function"]["arguments"])


async def test_arguments_are_streamed_while_they_are_written(pool: LocalPool) -> None:
    named = {"type": "function", "function": {"name": "paint"}}
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": named, "parallel_tool_calls": False}
    chunks = await stream(pool, "thinker", **fields, temperature=1, seed=1, max_tokens=400)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0]["function"] == {"name": "paint", "arguments": ""}
    assert len(calls) > 4
    check("".join(call["function"]["arguments"] for call in calls))
    assert deltas[-1] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_forced_calls_of_a_model_without_a_format_for_them_are_refused(pool: LocalPool) -> None:
    failure = await refused(pool, "tiny", tools=TOOLS, tool_choice="required")
    assert (failure.outcome, failure.param) == (Outcome.UNSUPPORTED, "tools")
