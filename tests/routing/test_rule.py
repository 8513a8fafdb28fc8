"""Targets as people write them."""

from __future__ import annotations

import pytest

from gateway.routing.rule import Target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("local", Target("local")),
        ("local:qwen3-8b", Target("local", "qwen3-8b")),
        (" openai:{model} ", Target("openai", "{model}")),
        ("ollama:qwen3:8b", Target("ollama", "qwen3:8b")),
    ],
)
def test_a_target_is_read_and_written_alike(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert str(target) == text.strip()
    assert target.is_local == text.strip().startswith("local")


@pytest.mark.parametrize(
    ("text", "says"), [("", "no backend"), (":x", "no backend"), ("openai:", "no model")]
)
def test_half_a_target_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Target.parse(text)
