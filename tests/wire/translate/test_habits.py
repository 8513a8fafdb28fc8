"""How the longest answer is called, and who takes earlier thoughts back."""

from __future__ import annotations

import json

import pytest

from gateway.wire.translate.habits import habits_of
from gateway.wire.translate.messages_to_chat import MessagesToChat
from gateway.wire.translate.responses_to_chat import ResponsesToChat


@pytest.mark.parametrize(
    ("host", "model", "field"),
    [
        ("api.openai.com", "gpt-5", "max_completion_tokens"),
        ("mine.openai.azure.com", "my-deployment", "max_completion_tokens"),
        ("openrouter.ai", "mistralai/mistral-large", "max_completion_tokens"),
        ("llm.example.com", "openai/o3-mini", "max_completion_tokens"),
        ("llm.example.com", "chatgpt-4o-latest", "max_completion_tokens"),
        ("notopenai.com", "qwen3", "max_tokens"),
        ("api.mistral.ai", "devstral-small", "max_tokens"),
        ("api.deepseek.com", "deepseek-v4-flash", "max_tokens"),
        ("127.0.0.1", "gpt-oss:20b", "max_tokens"),
        ("127.0.0.1", "olmo-2", "max_tokens"),
    ],
)
def test_the_longest_answer_is_called_as_the_server_calls_it(host: str, model: str, field: str) -> None:
    assert habits_of(host, model).limit_field == field


@pytest.mark.parametrize(
    ("host", "thoughts"), [("api.deepseek.com", True), ("api.openai.com", False), ("127.0.0.1", False)]
)
def test_thoughts_go_back_only_to_who_wants_them(host: str, thoughts: bool) -> None:
    assert habits_of(host, "m").thoughts is thoughts


def test_mistral_is_not_sent_what_it_refuses_requests_for() -> None:
    habits = habits_of("api.mistral.ai", "devstral")
    said = [{"role": "user", "content": "hi"}]
    message = MessagesToChat(local=False, **habits._asdict())
    asked = {"model": "devstral", "max_tokens": 9, "stream": True, "messages": said}
    made = json.loads(message.request(json.dumps(asked | {"metadata": {"user_id": "me"}}).encode()))
    assert made == {"model": "devstral", "messages": said, "max_tokens": 9, "stream": True}
    assert message.changed == ("metadata.user_id",)
    response = ResponsesToChat(
        response_id="resp_1", created=7, limit_field=habits.limit_field, refuses=habits.refuses
    )
    asked = {"model": "devstral", "max_output_tokens": 9, "stream": True, "input": "hi", "user": "me"}
    made = json.loads(response.request(json.dumps(asked).encode()))
    assert made == {"model": "devstral", "messages": said, "max_tokens": 9, "stream": True}
    assert response.changed == ("user",)
