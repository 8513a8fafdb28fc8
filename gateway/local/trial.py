"""Measures a model on this machine: how fast it reads a prompt, and writes for one and for many."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.local.mailbox import Finished
from gateway.local.request import Generate, Sampling, Tokens

PROMPT_TOKENS = 512
ANSWER_TOKENS = 64
AT_ONCE = (1, 4, 8)

Ask = Callable[[Generate], Awaitable[Finished]]


async def trial(ask: Ask, *, vocabulary: int, context: int, batched: bool) -> dict[str, Any]:
    """Run it; the model is in memory. Prompts are random, so that none is in the prompt cache."""
    dice = random.Random(time.monotonic_ns())  # noqa: S311 - tokens to compute, not to guard
    size = min(PROMPT_TOKENS, (context or PROMPT_TOKENS * 2) // 2)
    tokens = min(ANSWER_TOKENS, (context or ANSWER_TOKENS * 2) // 4)

    def work(prompt: int, answer: int) -> Generate:
        chosen = [dice.randrange(vocabulary) for _ in range(prompt)]
        sampling = Sampling(temperature=0.0, min_tokens=answer)
        return Generate(prompts=(Tokens(chosen),), max_tokens=answer, sampling=sampling)

    await ask(work(16, 4))  # what is compiled or paged in at the first use
    first = await ask(work(size, 1))
    result: dict[str, Any] = {
        "prompt_tokens": size,
        "answer_tokens": tokens,
        "prefill_tps": round(size / max(first.prefill_s, 1e-9), 1),
        "ttft_ms": round(first.prefill_s * 1000, 1),
        "decode_tps": {},
    }
    for count in AT_ONCE if batched else AT_ONCE[:1]:
        began = time.monotonic()
        done = await asyncio.gather(*(ask(work(16, tokens)) for _ in range(count)))
        took = time.monotonic() - began
        result["decode_tps"][str(count)] = round(sum(one.completion_tokens for one in done) / took, 1)
    return result
