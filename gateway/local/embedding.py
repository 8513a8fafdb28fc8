"""PURE: the body of /v1/embeddings, read for the local engine, and the JSON of what comes of it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.local.completion import read_texts
from gateway.local.fields import Unsupported, integer, text, wrong
from gateway.local.options import WITHOUT_EFFECT, Asked, read_object, required
from gateway.local.request import Embed


def read_embedding(body: bytes) -> Asked:
    """Read an embedding request; raise RequestError or Unsupported naming the field."""
    asked = read_object(body)
    inputs = read_texts("input", required(asked, "input", "send a text, or several"))
    dimensions, encoding = None, "float"
    for name, value in asked.items():
        if name == "dimensions":
            dimensions = integer(name, value, low=1, high=65536)
        elif name == "encoding_format":
            if value not in ("float", "base64"):
                raise wrong(name, "float or base64", value)
            encoding = value
        elif name in WITHOUT_EFFECT:
            WITHOUT_EFFECT[name](name, value)
        elif name == "model":
            text(name, value)
        else:
            raise Unsupported(name, f"{name} is not a field that the local engine knows")
    return Asked(work=Embed(inputs=inputs, dimensions=dimensions), base64=encoding == "base64")


def embedding_list(model: str, vectors: Sequence[Sequence[float]], *, tokens: int, packed: bool) -> bytes:
    """The body of the reply."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body: dict[str, Any] = {"object": "list", "data": data, "model": model, "usage": usage}
    return msgspec.json.encode(body)


def _packed(vector: Sequence[float]) -> str:
    """Little-endian 32-bit floats in base64, as OpenAI's SDKs ask for them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
