"""Which calls are answered, and by what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.backend import Framing
from gateway.errors import RequestError
from gateway.local.mailbox import Delta, Finished, ModelFolder
from gateway.local.output import ChatAnswer, TextAnswer
from gateway.local.paths import CHAT, COUNT, PATHS, read_body, reader_of
from gateway.local.reply import Embedding, Reader, Stream, Whole
from gateway.local.request import Count, Embed, Generate

FOLDER = ModelFolder(name="lab/m", path="/m", size_bytes=1, fingerprint="0123456789abcdef")
CHAT_BODY = {"messages": [{"role": "user", "content": "x"}]}


def reader(path: str, **body: Any) -> Reader:
    return reader_of(path, read_body(path, json.dumps(body).encode()), FOLDER)


def test_the_calls_that_are_answered() -> None:
    assert {CHAT, COUNT, "/v1/completions", "/v1/embeddings"} == PATHS


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (CHAT, CHAT_BODY, Generate),
        ("/v1/completions", {"prompt": "x"}, Generate),
        ("/v1/embeddings", {"input": "x"}, Embed),
        (COUNT, CHAT_BODY, Count),
    ],
)
def test_each_call_has_its_own_fields(path: str, body: dict[str, Any], kind: type) -> None:
    assert isinstance(read_body(path, json.dumps(body).encode()).work, kind)
    with pytest.raises(RequestError):
        read_body(path, b"{}")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (CHAT, CHAT_BODY, ("chatcmpl-", ChatAnswer, "chat.completion.chunk")),
        ("/v1/completions", {"prompt": "x"}, ("cmpl-", TextAnswer, "text_completion")),
    ],
)
def test_what_is_streamed_and_what_is_whole(
    path: str, body: dict[str, Any], expected: tuple[str, type, str]
) -> None:
    prefix, answer, noun = expected
    streamed = reader(path, **body, stream=True)
    assert isinstance(streamed, Stream)
    assert streamed.framing is Framing.EVENTS
    assert isinstance(streamed._answer, answer)
    chunk = json.loads(streamed._answer.delta(Delta(1, "x")))
    assert chunk["id"].startswith(prefix)
    assert (chunk["object"], chunk["model"], chunk["system_fingerprint"]) == (noun, "lab/m", "fp_0123456789")
    found = reader(path, **body, n=3)
    assert isinstance(found, Whole)
    assert found.framing is Framing.WHOLE
    assert len(found._answers) == 3
    whole = json.loads(found._answer.whole(found._answers, Finished(id=1, prompt_tokens=2)))
    assert len(whole["choices"]) == 3
    assert whole["id"] != chunk["id"]


def test_vectors_come_whole() -> None:
    found = reader("/v1/embeddings", input="x", encoding_format="base64")
    assert isinstance(found, Embedding)
    assert found.framing is Framing.WHOLE
