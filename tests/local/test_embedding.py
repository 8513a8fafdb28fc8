"""The body of /v1/embeddings, and of its reply."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.local.embedding import embedding_list, read_embedding
from gateway.local.fields import Unsupported
from gateway.local.options import Asked
from gateway.local.request import Embed, Text, Tokens


def read(**fields: Any) -> Asked:
    return read_embedding(json.dumps({"input": "x", **fields}).encode())


def test_what_is_honoured() -> None:
    assert read() == Asked(work=Embed(inputs=(Text("x"),)))
    found = read(model="m", input=["a", [1, 2]], dimensions=3, encoding_format="base64", user="u", store=None)
    assert found == Asked(work=Embed(inputs=(Text("a"), Tokens([1, 2])), dimensions=3), base64=True)
    assert read(encoding_format="float") == read()
    assert found.work.rows == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "3"}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"encoding_format": []}, "encoding_format"),
        ({"model": 5}, "model"),
        ({"user": 5}, "user"),
    ],
)
def test_what_is_wrong_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert not isinstance(caught.value, Unsupported)
    assert caught.value.param == param


def test_an_unknown_field_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="prompt_name") as caught:
        read(prompt_name="query")
    assert caught.value.param == "prompt_name"


VECTORS = [[0.5, -1.25], [3.0, 0.0]]


def test_vectors_as_numbers() -> None:
    assert json.loads(embedding_list('odd"name', VECTORS, tokens=7, packed=False)) == {
        "object": "list",
        "model": 'odd"name',
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.25]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 0.0]},
        ],
    }


def test_vectors_packed_as_the_sdks_ask_for_them() -> None:
    data = json.loads(embedding_list("m", VECTORS, tokens=7, packed=True))["data"]
    found = [struct.unpack("<2f", base64.b64decode(item["embedding"])) for item in data]
    assert [list(vector) for vector in found] == VECTORS
