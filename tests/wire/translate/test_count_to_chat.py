"""To have tokens counted is asked in the words of the message that they are for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import RequestError
from gateway.wire.api import Api
from gateway.wire.translate.count_to_chat import CountToChat
from gateway.wire.translate.messages_to_chat import MessagesToChat

ASKED: dict[str, Any] = {
    "model": "m",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
    "tool_choice": {"type": "any"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
}


def test_the_chat_is_that_of_the_message_but_for_its_limit() -> None:
    counts, message = CountToChat(), MessagesToChat(local=True)
    asked = json.loads(counts.request(json.dumps(ASKED).encode()))
    answered = json.loads(message.request(json.dumps(ASKED | {"max_tokens": 7}).encode()))
    assert answered.pop("max_completion_tokens") == 7
    assert asked == answered
    assert counts.changed == message.changed == ("cache_control", "thinking.budget_tokens")


def test_the_answer_is_the_clients_already() -> None:
    counts = CountToChat()
    assert (counts.api, counts.path) == (Api.OTHER, "/v1/messages/count_tokens")
    assert counts.whole(b'{"input_tokens":3}') == b'{"input_tokens":3}'
    assert counts.event(b"{}", None) + counts.end() == b""


def test_what_has_no_words_is_refused_by_name() -> None:
    with pytest.raises(RequestError) as refused:
        CountToChat().request(json.dumps(ASKED | {"messages": 3}).encode())
    assert refused.value.param == "messages"
