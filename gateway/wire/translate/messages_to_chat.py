"""PURE: a client that speaks Anthropic's messages, a target that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

from gateway.wire.api import Api
from gateway.wire.translate.chat_reply import message_reply
from gateway.wire.translate.chat_stream import MessageStream
from gateway.wire.translate.fields import Changes, Fields, decode, encode
from gateway.wire.translate.messages_request import chat_request
from gateway.wire.translate.messages_turns import Manner
from gateway.wire.translate.names import CHAT_TOOL_NAME, ToolNames

# The client's names of what may have to be left out; usage it did not ask for.
_ASKED_AS = {"user": "metadata.user_id", "service_tier": "service_tier"}


class MessagesToChat:
    """A Translation. `local` is a target in this process: it knows top_k and long names, and the line that
    changes with every request is taken out of the system prompt, so that prompts can be reused.

    `thoughts` says that the target takes `reasoning_content` and `thinking_blocks` in earlier messages;
    OpenAI refuses them. `limit_field` is what it calls the longest answer: OpenAI's newer models refuse
    `max_tokens`, some other servers know nothing else. `refuses` are fields that it must not be sent.
    """

    api = Api.CHAT
    path = "/v1/chat/completions"

    def __init__(
        self,
        *,
        local: bool,
        thoughts: bool = False,
        limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens",
        refuses: Set[str] = frozenset(),
    ) -> None:
        self.changed: tuple[str, ...] = ()
        self._limit_field = limit_field
        self._refuses = refuses
        self._changes = Changes()
        self._names = ToolNames(None if local else CHAT_TOOL_NAME, self._changes)
        self._manner = Manner(self._names, self._changes, local=local, thoughts=thoughts and not local)
        self._stream = MessageStream(self._names)
        # Bound once: they are asked for every event.
        self.event = self._stream.event
        self.end = self._stream.end

    def request(self, body: bytes) -> bytes:
        made = chat_request(Fields("", decode(body)), self._manner, self._limit_field)
        for name in self._refuses & made.keys():
            del made[name]
            if name in _ASKED_AS:
                self._changes.note(_ASKED_AS[name])
        self._stream.stops = made.get("stop", [])
        self.changed = self._changes.names
        return encode(made)

    def whole(self, body: bytes) -> bytes:
        return encode(message_reply(decode(body), self._stream.stops, self._names))
