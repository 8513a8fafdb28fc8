"""PURE: a named set of failover knobs (design 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.failover.outcome import Outcome

# Outcomes after which the next target of the rule may be tried, unless the policy says less.
MOVABLE: frozenset[Outcome] = frozenset(Outcome) - {
    Outcome.OK,
    Outcome.CLIENT_FAULT,
    Outcome.CLIENT_LEFT,
}


class MidStream(StrEnum):
    """What happens when a stream breaks after commit."""

    ERROR = "error"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long to wait, how often to try and where a request may go. Durations are seconds.

    `first_token_s` None means: 60 s for a stream as long as another target may follow, and for a whole
    reply as long as `deadline_s`, because a provider sends its headers only when it is finished.
    """

    name: str
    first_token_s: float | None = None
    idle_s: float = 90.0
    deadline_s: float = 600.0
    attempts: int = 3
    retry_base_s: float = 0.5
    max_wait_s: float = 10.0
    max_queue: int = 32
    hedge_after_s: float | None = None
    mid_stream: MidStream = MidStream.ERROR
    stay_local: bool = False
    on: frozenset[Outcome] = MOVABLE

    def first_content_s(self, *, stream: bool) -> float:
        """How long an attempt may take until its first content."""
        if self.first_token_s is not None:
            return self.first_token_s
        return min(60.0, self.deadline_s) if stream else self.deadline_s


DEFAULT = Policy(name="default")
LOCAL_ONLY = Policy(name="local-only", stay_local=True)
BUILT_IN: dict[str, Policy] = {p.name: p for p in (DEFAULT, LOCAL_ONLY)}
