"""TTFT of a long prompt that nobody sent before, and of one that shares all but its end with an earlier one."""

from __future__ import annotations

from collections import defaultdict

from tests.benchmarks.local import figures
from tests.benchmarks.local.ask import ask, chat
from tests.benchmarks.local.pair import Pair
from tests.benchmarks.local.servers import Server
from tests.benchmarks.local.subject import messages

SIZES = (1024, 8192)


async def measure(pair: Pair) -> None:
    figures.title("TTFT with a shared prefix (a system message; the question differs)")
    for size in SIZES:
        if size + 100 > pair.subject.context:
            continue
        cold: dict[str, list[float]] = defaultdict(list)
        warm: dict[str, list[float]] = defaultdict(list)
        rounds = pair.rounds if size <= 1024 else max(1, pair.rounds // 3)
        for side in pair.turns(rounds):
            first, second = await _twice(pair, side, size)
            cold[side.side].append(first)
            warm[side.side].append(second)
        for side in pair.sides(0):
            name = side.side
            figures.row(
                f"{size} tokens, {name}",
                f"cold {figures.ms(cold[name])}",
                f"warm {figures.ms(warm[name])}",
                figures.ratio(cold[name], warm[name]) + " cold/warm (aim 10)",
            )
        ours, theirs = pair.gateway.side, pair.peer.side
        figures.row(
            "  mlx_lm.server / gateway",
            f"cold {figures.ratio(cold[theirs], cold[ours])}",
            f"warm {figures.ratio(warm[theirs], warm[ours])}",
        )


async def _twice(pair: Pair, side: Server, size: int) -> tuple[float, float]:
    subject = pair.subject
    system = subject.system(size)
    waited = []
    for _ in range(2):
        request = chat(side, messages(system, subject.tail()), max_tokens=2, **subject.endless)
        waited.append((await ask(side, request, tokens=2)).first_s)
    return waited[0], waited[1]
