"""PURE: a client that speaks OpenAI's chat completions, a target that speaks Anthropic's messages."""

from __future__ import annotations

from gateway.wire.api import Api
from gateway.wire.translate.chat_request import MAX_TOKENS, messages_request
from gateway.wire.translate.fields import Changes, Fields, decode, encode
from gateway.wire.translate.messages_reply import chat_reply
from gateway.wire.translate.messages_stream import ChatStream
from gateway.wire.translate.names import MESSAGES_TOOL_NAME, ToolNames


class ChatToMessages:
    """A Translation. `created` is the second of the epoch that replies bear; `max_tokens` is the limit for
    a request that sets none, which Anthropic does not take.
    """

    api = Api.MESSAGES
    path = "/v1/messages"

    def __init__(self, *, created: int, max_tokens: int = MAX_TOKENS) -> None:
        self.changed: tuple[str, ...] = ()
        self._created = created
        self._max_tokens = max_tokens
        self._changes = Changes()
        self._names = ToolNames(MESSAGES_TOOL_NAME, self._changes)
        self._stream = ChatStream(created, self._names, include_usage=False)
        # Bound once: they are asked for every event.
        self.event = self._stream.event
        self.end = self._stream.end

    def request(self, body: bytes) -> bytes:
        asked = Fields("", decode(body))
        options = asked.left.get("stream_options")
        self._stream.include_usage = isinstance(options, dict) and options.get("include_usage") is True
        made = messages_request(asked, self._names, self._changes, self._max_tokens)
        self.changed = self._changes.names
        return encode(made)

    def whole(self, body: bytes) -> bytes:
        return encode(chat_reply(decode(body), self._created, self._names))
