"""What it costs to hold answers to a JSON schema: 8 of 8 rows with one against 8 without."""

from __future__ import annotations

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import ask, chat, wave
from tests.benchmarks.local.pair import Pair

_ROWS, _TOKENS = 8, 48
_NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}, "minItems": 1000}
_SCHEMA = {
    "type": "object",
    "properties": {"numbers": _NUMBERS},
    "required": ["numbers"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": _SCHEMA}}


async def measure(pair: Pair) -> None:
    figures.title(f"{_ROWS} of {_ROWS} rows held to a JSON schema (gateway)")
    await _is_held(pair)
    plain, held = [], []
    for number in range(2 * pair.rounds):
        order = (False, True) if number % 2 == 0 else (True, False)
        for constrained in order:
            (held if constrained else plain).append(await _rate(pair, constrained=constrained))
    figures.row(
        "gateway",
        f"held {figures.median(held):6.0f} tokens/s",
        f"free {figures.median(plain):6.0f} tokens/s",
        figures.ratio(held, plain) + " (aim 0.85)",
    )


async def _is_held(pair: Pair) -> None:
    """Without the mask neither model would write this."""
    request = chat(
        pair.gateway, pair.subject.short(), stream=False, max_tokens=_TOKENS, response_format=FORMAT
    )
    answer = await ask(pair.gateway, request, tokens=_TOKENS)
    assert b'numbers\\"' in answer.data, "the answer does not follow the schema"


async def _rate(pair: Pair, *, constrained: bool) -> float:
    side = pair.gateway
    fields = {"response_format": FORMAT} if constrained else {}
    requests = [chat(side, pair.subject.short(), max_tokens=_TOKENS, **fields) for _ in range(_ROWS)]
    took, _ = await wave(side, requests, tokens=_TOKENS)
    return _ROWS * _TOKENS / took
