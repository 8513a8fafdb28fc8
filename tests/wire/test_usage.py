from __future__ import annotations

import pytest

from gateway.wire.usage import Usage, read_usage


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}, Usage(9, 0, 8)),
        (
            {"input_tokens": 9, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 2}},
            Usage(9, 1, 2),
        ),
        ({"input_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}, Usage(8, 0, 5)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Usage(9, 0, 4)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        ({"prompt_tokens": "9", "completion_tokens": True, "input_tokens": -1}, Usage(0, 0)),
        ({"prompt_tokens": 1.5, "prompt_tokens_details": [1], "output_tokens": 2}, Usage(0, 2)),
    ],
)
def test_usage_is_read_in_everyones_words(said: object, usage: Usage) -> None:
    assert read_usage(said) == usage


@pytest.mark.parametrize("said", [None, {}, [], "x", 5])
def test_no_usage_is_none(said: object) -> None:
    assert read_usage(said) is None
