"""PURE: a client that has Anthropic's tokens counted, a target that counts those of a chat."""

from __future__ import annotations

from gateway.wire.api import Api
from gateway.wire.translate.messages_to_chat import MessagesToChat


class CountToChat:
    """A Translation for the local engine: the prompt is made as that of a message is, to the letter. The
    answer is the client's already, and there are no streams.
    """

    api = Api.OTHER
    path = "/v1/messages/count_tokens"

    def __init__(self) -> None:
        self.changed: tuple[str, ...] = ()

    def request(self, body: bytes) -> bytes:
        message = MessagesToChat(local=True)
        made = message.request(body)
        self.changed = message.changed
        return made

    def whole(self, body: bytes) -> bytes:
        return body

    def event(self, data: bytes, name: str | None) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""
