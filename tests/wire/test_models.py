from __future__ import annotations

import json

import pytest

from gateway.wire.dialect import Dialect
from gateway.wire.models import ModelEntry, model_list, model_one

ENTRIES = [ModelEntry("qwen3-8b", "local"), ModelEntry("gpt-4o", "openai")]


def test_openais_list() -> None:
    assert json.loads(model_list(Dialect.OPENAI, ENTRIES)) == {
        "object": "list",
        "data": [
            {"id": "qwen3-8b", "object": "model", "created": 0, "owned_by": "local"},
            {"id": "gpt-4o", "object": "model", "created": 0, "owned_by": "openai"},
        ],
    }


def test_anthropics_list() -> None:
    page = json.loads(model_list(Dialect.ANTHROPIC, ENTRIES))
    assert [m["id"] for m in page["data"]] == ["qwen3-8b", "gpt-4o"]
    assert {m["type"] for m in page["data"]} == {"model"}
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "qwen3-8b", "gpt-4o")
    empty = json.loads(model_list(Dialect.ANTHROPIC, []))
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_one_model_is_an_item_of_the_list(dialect: Dialect) -> None:
    assert json.loads(model_one(dialect, ENTRIES[0])) == json.loads(model_list(dialect, ENTRIES))["data"][0]
