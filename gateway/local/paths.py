"""Which calls local models answer, and what reads each and writes its answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway.local.chat import read_chat
from gateway.local.completion import read_completion
from gateway.local.counting import read_count
from gateway.local.embedding import read_embedding
from gateway.local.mailbox import ModelFolder
from gateway.local.options import Asked
from gateway.local.output import Answer, ChatAnswer, TextAnswer
from gateway.local.reply import Embedding, Reader, Stream, Whole
from gateway.local.request import Embed, Generate

CHAT = "/v1/chat/completions"
# Of the tokens of a chat's prompt: the client asks for it in Anthropic's words, the pool in the chat's.
COUNT = "/v1/messages/count_tokens"

_READERS: Mapping[str, Callable[[bytes], Asked]] = MappingProxyType(
    {
        CHAT: read_chat,
        "/v1/completions": read_completion,
        "/v1/embeddings": read_embedding,
        COUNT: read_count,
    }
)
PATHS = frozenset(_READERS)


def read_body(path: str, body: bytes) -> Asked:
    """What the body of a call asks for; raises RequestError or Unsupported naming the field."""
    return _READERS[path](body)


def reader_of(path: str, asked: Asked, folder: ModelFolder) -> Reader:
    """What makes the JSON that this call wants of what the engine says."""
    work = asked.work
    if isinstance(work, Embed):
        return Embedding(folder.name, packed=asked.base64)
    assert isinstance(work, Generate)
    kind, prefix = (ChatAnswer, "chatcmpl") if path == CHAT else (TextAnswer, "cmpl")
    answer: Answer = kind(
        stream=asked.stream,
        include_usage=asked.include_usage,
        probs=work.top_logprobs is not None,
        answer_id=f"{prefix}-{uuid.uuid4().hex[:24]}",
        created=int(time.time()),
        model=folder.name,
        system_fingerprint=f"fp_{folder.fingerprint[:10]}",
    )
    if asked.stream:
        return Stream(answer, choices=work.rows, include_usage=asked.include_usage)
    return Whole(answer, choices=work.rows)
