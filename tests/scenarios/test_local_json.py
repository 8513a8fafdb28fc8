"""Answers in a form (response_format): guaranteed, whatever the model would like to say.

Most is asked of a model with random weights: that its answers are valid can only come of the form.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab
from tests.local.models import make_model
from tests.scenarios.daemon import Daemon
from tests.scenarios.parrots import BEGIN, make_parrot
from tests.scenarios.schemas import faults
from tests.scenarios.talk import (
    CHAT,
    body_of,
    choice,
    content,
    joined,
    post,
    reason,
    refusal,
    running,
    stream,
    whole,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

Schema = dict[str, Any]
# So that random weights come to an end: quotes and brackets that close are likelier, blanks are not.
TERSE = {str(ord(letter)): 3 for letter in '"}]'} | {str(ord(blank)): -5 for blank in " \t\r\n"}
DRAWN: dict[str, Any] = {"temperature": 1, "max_tokens": 400, "logit_bias": TERSE}


def record(**properties: Any) -> Schema:
    """A strict object, as OpenAI wants it: everything required, nothing else allowed."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


STRING = {"type": "string", "maxLength": 12}
SCHEMAS: dict[str, Schema] = {
    "flags": record(on=record(left={"type": "boolean"}, right={"type": "boolean"})),
    "enum": record(
        color={"enum": ["red", "green", "dark blue"]}, size={"type": "string", "enum": ["s", "xl"]}
    ),
    "numbers": record(
        whole={"type": "integer", "minimum": -3, "maximum": 120},
        real={"type": "number", "minimum": 0, "maximum": 1},
    ),
    "text": record(name={"type": "string", "minLength": 2, "maxLength": 8}, note=STRING),
    "pattern": record(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    "null": record(maybe={"type": ["string", "null"], "maxLength": 6}, gone={"type": "null"}),
    "list": record(items={"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 1, "maxItems": 3}),
    "choice": record(pet={"anyOf": [record(cat={"const": "meow"}), record(dog={"const": "woof"})]}),
    "reference": {
        **record(one={"$ref": "#/$defs/point"}, other={"$ref": "#/$defs/point"}),
        "$defs": {"point": record(x={"enum": [0, 1]}, y={"enum": [0, 1]})},
    },
    "tree": {
        **record(name={"enum": ["a", "b"]}, below={"type": "array", "items": {"$ref": "#"}, "maxItems": 1}),
    },
    "const": {"const": "42"},
    "top level list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
    "quotes": record(**{'a "b"': {"const": 'c\\d "e"\n'}, "ü": {"const": "é😀"}}),
}


def form(schema: Any, *, strict: bool | None = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


@pytest.fixture(scope="module")
def furnish() -> Callable[[Path], None]:
    def make(models: Path) -> None:
        make_model(models / "random")
        make_parrot(models / "prose", {BEGIN: ["Well, ", "let me ", "think."]})
        script = ["<think>", "it is red", "</think>", "I would ", "say ", "red."]
        make_parrot(models / "thinker", {BEGIN: script})

    return make


@pytest.mark.parametrize("name", SCHEMAS)
async def test_finished_answers_fit_their_schema(daemon: Daemon, name: str) -> None:
    schema = SCHEMAS[name]

    async def one(seed: int) -> bool:
        body = await whole(daemon, "random", "hello", seed=seed, response_format=form(schema), **DRAWN)
        if choice(body)["finish_reason"] == "length":
            return False
        assert choice(body)["finish_reason"] == "stop"
        assert faults(json.loads(content(body)), schema) == []
        return True

    finished = await asyncio.gather(*(one(seed) for seed in range(4)))
    assert sum(finished) >= 3, "too many were cut for what must be short"


async def test_any_object_is_an_object(daemon: Daemon) -> None:
    async def one(seed: int) -> bool:
        fields = {"seed": seed, "response_format": {"type": "json_object"}, **DRAWN}
        body = await whole(daemon, "random", "hello", **fields)
        chunks = await stream(daemon, "random", "hello", **fields)
        assert joined(chunks) == content(body)
        assert reason(chunks) == choice(body)["finish_reason"]
        if choice(body)["finish_reason"] == "length":
            return False
        assert isinstance(json.loads(content(body)), dict)
        return True

    assert any(await asyncio.gather(*(one(seed) for seed in range(6))))


async def test_streamed_and_whole_are_the_same(daemon: Daemon) -> None:
    fields = {"response_format": form(SCHEMAS["enum"]), "seed": 3, **DRAWN}
    body = await whole(daemon, "random", "hello", **fields)
    chunks = await stream(daemon, "random", "hello", **fields)
    assert joined(chunks) == content(body)
    assert len([chunk for chunk in chunks if chunk["choices"][0]["delta"].get("content")]) > 3
    assert reason(chunks) == "stop"


async def test_each_choice_has_a_form_of_its_own(daemon: Daemon) -> None:
    schema = SCHEMAS["numbers"]
    body = await whole(daemon, "random", "hello", n=4, seed=1, response_format=form(schema), **DRAWN)
    for index in range(4):
        if choice(body, index)["finish_reason"] == "stop":
            assert faults(json.loads(content(body, index)), schema) == []
    assert len({content(body, index) for index in range(4)}) > 1


async def test_answer_that_is_cut_says_so(daemon: Daemon) -> None:
    for answer in ({"type": "json_object"}, form(SCHEMAS["enum"])):
        body = await whole(
            daemon, "random", "hello", seed=1, response_format=answer, **DRAWN | {"max_tokens": 4}
        )
        assert choice(body)["finish_reason"] == "length"
        assert content(body).lstrip().startswith("{")


async def test_model_that_wants_to_say_something_else_is_kept_from_it(daemon: Daemon) -> None:
    for model, bias in (("prose", TERSE), ("demo", {})):
        fields = {"response_format": form(SCHEMAS["enum"]), "seed": 2, **DRAWN, "logit_bias": bias}
        body = await whole(daemon, model, "Who are you?", **fields)
        assert faults(json.loads(content(body)), SCHEMAS["enum"]) == []


async def test_form_is_of_the_answer_and_not_of_the_thoughts(daemon: Daemon) -> None:
    body = await whole(daemon, "thinker", "hello", response_format=form(SCHEMAS["enum"]), seed=2, **DRAWN)
    assert choice(body)["message"]["reasoning_content"] == "it is red"
    assert faults(json.loads(content(body)), SCHEMAS["enum"]) == []


async def test_text_is_free(daemon: Daemon) -> None:
    for answer in ({"type": "text"}, None):
        assert content(await whole(daemon, "demo", "Count to 3", response_format=answer)) == "1 2 3"


async def test_schemas_that_are_not_strict_hold_as_well(daemon: Daemon) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema |= {"additionalProperties": {"type": "null"}}
    for strict in (False, None):
        fields = {"response_format": form(schema, strict=strict), "seed": 4, **DRAWN}
        body = await whole(daemon, "random", "hello", **fields)
        if choice(body)["finish_reason"] == "stop":
            assert faults(json.loads(content(body)), schema) == []


async def test_form_goes_together_with_all_else(daemon: Daemon) -> None:
    schema = record(ok={"type": "boolean"})
    fields = {"response_format": form(schema), "seed": 5, "logprobs": True, "frequency_penalty": 0.5}
    body = await whole(daemon, "random", "hello", top_p=0.9, top_k=50, stop="never", **fields | DRAWN)
    assert faults(json.loads(content(body)), schema) == []
    told = bytes(byte for entry in choice(body)["logprobs"]["content"] for byte in entry["bytes"])
    assert told.decode() == content(body)


async def test_form_beside_a_stream_without_one(daemon: Daemon) -> None:
    endless = {"max_tokens": 1500, "logit_bias": {"256": -100}}
    async with running(daemon, "random", "hello", **endless) as beside:
        for seed in range(3):
            fields = {"response_format": form(SCHEMAS["flags"]), "seed": seed, **DRAWN}
            body = await whole(daemon, "random", "hello", **fields)
            assert faults(json.loads(content(body)), SCHEMAS["flags"]) == []
        await beside.past(len(beside.texts) + 10)


@pytest.mark.parametrize(
    "schema",
    [
        record(kind={"type": "string", "format": "date"}),
        {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 2, "maxItems": 3},
        record(a={"not": {"type": "string"}}),
        {"if": {"type": "string"}, "then": {"minLength": 3}},
        {"type": "object", "minProperties": 2, "propertyNames": {"pattern": "^x"}},
    ],
    ids=str,
)
async def test_schema_beyond_what_can_be_guaranteed_is_refused_or_held(
    daemon: Daemon, schema: Schema
) -> None:
    """Never: taken, and then not honoured. Keywords that this suite can't check must be refused."""
    body = body_of("random", "hello", response_format=form(schema), seed=6, **DRAWN)
    status, found = await post(daemon, CHAT, body)
    if status == 400:
        assert found["error"]["param"].startswith("response_format")
        return
    assert status == 200
    if choice(found)["finish_reason"] == "stop":
        assert _holds(json.loads(content(found)), schema)


def _holds(value: Any, schema: Schema) -> bool:
    """The five schemas above, as Python."""
    if "if" in schema:
        return not isinstance(value, str) or len(value) >= 3
    if "minProperties" in schema:
        return len(value) >= 2 and all(name.startswith("x") for name in value)
    if "uniqueItems" in schema:
        return faults(value, schema) == []
    if "kind" in schema["properties"]:
        return re.fullmatch(r"\d{4}-\d\d-\d\d", value["kind"]) is not None
    return not isinstance(value["a"], str)


@pytest.mark.parametrize(
    "answer",
    [
        "json",
        {},
        {"type": "sound"},
        {"type": 7},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": 7},
        form(7),
        form([]),
        form({"type": 123}),
        form({"type": "hiccup"}),
        form({"type": "object", "properties": 3}),
        form({"type": "string", "pattern": "("}),
        form({"$ref": "#/$defs/nowhere"}),
        form({"$ref": "https://schemas.example/s.json"}),
        form({"type": "integer", "minimum": 5, "maximum": 1}),
        form({"enum": []}),
    ],
    ids=str,
)
async def test_form_that_is_none_is_refused_by_name(daemon: Daemon, answer: Any) -> None:
    for streamed in (False, True):
        error = await refusal(daemon, "random", "hello", response_format=answer, stream=streamed)
        assert error["param"].startswith("response_format")
        assert error["type"] == "invalid_request_error"


async def test_references_are_never_fetched(daemon: Daemon, lab: Lab) -> None:
    await refusal(daemon, "random", "hello", response_format=form({"$ref": f"{lab.url}/schema.json"}))
    assert lab.accepted == 0


async def test_bad_schema_leaves_the_next_request_alone(daemon: Daemon) -> None:
    await refusal(daemon, "random", "hello", response_format=form({"type": "hiccup"}))
    fields = {"response_format": form(SCHEMAS["const"]), **DRAWN}
    assert json.loads(content(await whole(daemon, "random", "hello", seed=0, **fields))) == "42"
