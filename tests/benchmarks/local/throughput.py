"""Tokens a second of 1 to 32 streams at once, and how long each waited for its first.

On a machine that others use, read the CPU time a token too: it is steadier.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import chat, wave
from tests.benchmarks.local.pair import Pair
from tests.benchmarks.local.servers import Server

PROMPT, TOKENS = 24, 48
CONCURRENT = (1, 2, 4, 8, 16, 32)
AIMS = {
    "demo": {1: 1.0, 8: 1.6, 32: 2.2},
    "demo32": {1: 1.0, 8: 1.6, 32: 2.2},
    "m6": {1: 1.0, 8: 1.4, 32: 1.5},
}


@dataclass
class _Seen:
    """What one side came to at one number of streams, over all rounds."""

    rates: list[float] = field(default_factory=list)  # tokens a second
    costs: list[float] = field(default_factory=list)  # seconds of CPU a token
    firsts: list[float] = field(default_factory=list)


async def measure(pair: Pair) -> None:
    figures.title(f"tokens/s over HTTP, streams of {TOKENS} tokens after a prompt of {PROMPT}")
    for streams in CONCURRENT:
        for side in pair.sides(0):
            await _round(pair, side, streams, waves=1)
        seen: dict[str, _Seen] = defaultdict(_Seen)
        for side in pair.turns():
            rate, cost, firsts = await _round(pair, side, streams, waves=_waves(streams))
            found = seen[side.side]
            found.rates.append(rate)
            found.costs.append(cost)
            found.firsts += firsts
        ours, theirs = seen[pair.gateway.side], seen[pair.peer.side]
        aim = AIMS[pair.subject.name].get(streams)
        figures.row(
            f"{streams} at once",
            f"gateway {figures.median(ours.rates):6.0f}",
            f"mlx_lm.server {figures.median(theirs.rates):6.0f}",
            f"{figures.ratio(ours.rates, theirs.rates):19}" + (f" (aim {aim})" if aim else " " * 10),
            f"CPU us/token {1e6 * figures.median(ours.costs):6.0f} {1e6 * figures.median(theirs.costs):6.0f}",
            f"TTFT {figures.ms(ours.firsts)} {figures.ms(theirs.firsts)}",
        )


def _waves(streams: int) -> int:
    """A round is long enough to be timed and short enough to be compared with the next."""
    return max(1, min(4, 16 // streams))


async def _round(pair: Pair, side: Server, streams: int, *, waves: int) -> tuple[float, float, list[float]]:
    spent, firsts, before = 0.0, [], side.process.cpu_s()
    for _ in range(waves):
        requests = [chat(side, pair.subject.short(PROMPT), max_tokens=TOKENS) for _ in range(streams)]
        took, answers = await wave(side, requests, tokens=TOKENS)
        spent += took
        firsts += [answer.first_s for answer in answers]
    tokens = waves * streams * TOKENS
    return tokens / spent, (side.process.cpu_s() - before) / tokens, firsts
