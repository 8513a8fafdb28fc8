"""The rules of the chaos, by family: each has targets that fail, and a last one that is well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.truth import Ask, Dialect, chance
from tests.scenarios.daemon import Daemon

# Longer than a busy machine may keep the upstreams of the chaos themselves from answering.
_PATIENCE = {"first_token_s": 2.5, "idle_s": 3.0}
_NAMES = 24  # of models per family: each has a breaker of its own, so that not all cool all the time


@dataclass(frozen=True, slots=True)
class Family:
    """Rules of one policy, one for each dialect. `shaky`: which of a dialect's upstreams come first."""

    name: str
    shaky: tuple[str, ...]
    knobs: dict[str, Any] = field(default_factory=dict)
    local: bool = False  # the target that is well is a local model
    share: int = 2

    @property
    def attempts(self) -> int:
        return int(self.knobs.get("attempts", 3))

    @property
    def continues(self) -> bool:
        return self.knobs.get("mid_stream") == "continue"

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        return ("openai",) if self.local else ("openai", "anthropic")

    def targets(self, dialect: Dialect, turned: bool = False) -> list[str]:
        """Where its rule leads; `turned` has the shaky ones in the other order."""
        shaky = [f"{dialect[:2]}{number}" for number in self.shaky]
        last = "local:demo" if self.local else (f"{dialect[:2]}steady")
        return [*(reversed(shaky) if turned else shaky), last]


FAMILIES = (
    Family("quick", ("1",), share=4),
    Family("wide", ("1", "2"), {"attempts": 6}, share=3),
    Family("hasty", ("3",), {**_PATIENCE, "attempts": 4}),
    Family(
        "hedged", ("3",), {**_PATIENCE, "first_token_s": 4.0, "hedge_after_s": 0.3, "attempts": 4}, share=3
    ),
    Family("onward", ("3",), {**_PATIENCE, "mid_stream": "continue", "attempts": 6}, share=3),
    Family(
        "onward-local", ("3",), {**_PATIENCE, "mid_stream": "continue", "attempts": 6}, local=True, share=1
    ),
    Family("quick-local", ("1",), {"attempts": 5}, local=True, share=1),
)
BY_NAME = {family.name: family for family in FAMILIES}


def pattern(family: Family, dialect: Dialect) -> str:
    return f"{family.name}-{dialect[:2]}-*"


async def settle(daemon: Daemon) -> None:
    """Write policies and rules."""
    for family in FAMILIES:
        if family.knobs:
            await daemon.admin("policies.add", name=family.name, knobs=family.knobs)
        policy = family.name if family.knobs else "default"
        for dialect in family.dialects:
            await daemon.rule(*family.targets(dialect), policy=policy, pattern=pattern(family, dialect))


def ask_for(seed: int | str, number: int) -> Ask:
    """The request of this number."""
    rng = chance(seed, "ask", number)
    family = rng.choices(FAMILIES, [each.share for each in FAMILIES])[0]
    dialect = rng.choice(family.dialects)
    # New names come at other times for each rule: a fresh breaker everywhere at once would be one burst of
    # failures, which is more than the gateway's budget for retries lets through.
    turn = number + 29 * FAMILIES.index(family) + 13 * family.dialects.index(dialect)
    model = pattern(family, dialect)[:-1] + str(turn // 200 % _NAMES)
    # A comment tells that a local model went on; SDKs don't show it.
    sdk = rng.random() < 0.2 and not (family.local and family.continues)
    return Ask(
        id=f"r{seed}x{number}",
        family=family.name,
        model=model,
        dialect=dialect,
        sdk=sdk,
        stream=rng.random() < 0.75,
        count=rng.randint(2, 30),
        leaves_s=rng.choice((0.0, 0.005, 0.02, 0.1, 0.5)) * rng.random() if rng.random() < 0.06 else None,
    )
