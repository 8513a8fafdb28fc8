"""Tells a request's story: what happens goes in, what the session orders comes out as short lines.

Time starts at 1000 and moves only when a story says so. Chance is 0.5 unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.failover.breaker import Breakers, Key
from gateway.failover.budget import RetryBudget
from gateway.failover.command import (
    Break,
    Cancel,
    ClientLeft,
    Command,
    Commit,
    Content,
    Continue,
    Done,
    Ended,
    Event,
    Failed,
    GiveUp,
    Open,
    Tick,
)
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import CredentialRef, Plan, make_plan
from gateway.failover.policy import DEFAULT, Policy
from gateway.failover.session import Session
from gateway.failover.verdict import Verdict
from gateway.routing.rule import Target
from gateway.routing.table import Aim

START = 1000.0


def failure(outcome: str, **more: object) -> Failure:
    """A failure with a sentence of its own."""
    return Failure(outcome=Outcome(outcome), message=f"it was {outcome}", **more)  # type: ignore[arg-type]


def aims(*targets: str) -> tuple[Aim, ...]:
    parsed = [Target.parse(each) for each in targets]
    return tuple(Aim(each.backend, each.model or "") for each in parsed)


def plan_for(
    targets: Sequence[str],
    policy: Policy = DEFAULT,
    *,
    breakers: Breakers | None = None,
    keys: int = 1,
    now: float = START,
    unusable: Callable[[Aim], Failure | None] = lambda aim: None,
    late: Callable[[Aim], Failure | None] = lambda aim: None,
    prefills: Callable[[Aim], bool] = lambda aim: False,
) -> Plan:
    """A plan in which each upstream has `keys` credentials."""
    known = breakers or Breakers()
    backends = {each.backend for each in aims(*targets)} - {"local"}
    return make_plan(
        aims(*targets),
        policy,
        credentials={each: [CredentialRef(i, f"key{i}", 1) for i in range(1, keys + 1)] for each in backends},
        unusable=unusable,
        judge=lambda key: known.judge(key, now),
        late=late,
        prefills=prefills,
    )


class Play:
    """One request for `targets`."""

    def __init__(
        self,
        *targets: str,
        policy: Policy = DEFAULT,
        stream: bool = True,
        breakers: Breakers | None = None,
        budget: RetryBudget | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        replayable: Callable[[], bool] = lambda: True,
        keys: int = 1,
        now: float = START,
        **plan: Any,
    ) -> None:
        self.now = now
        self.breakers = breakers or Breakers()
        self.verdict: Verdict | None = None
        self.opened: list[Open] = []
        self.session = Session(
            plan_for(targets, policy, breakers=self.breakers, keys=keys, now=now, **plan),
            policy,
            stream=stream,
            breakers=self.breakers,
            budget=budget or RetryBudget(),
            jitter=jitter,
            started=now,
            replayable=replayable,
        )

    def start(self) -> list[str]:
        return self._told(self.session.start(self.now))

    def content(self, number: int, *, after: float = 0) -> list[str]:
        return self._step(Content(number), after)

    def ended(self, number: int, *, after: float = 0) -> list[str]:
        return self._step(Ended(number), after)

    def failed(self, number: int, outcome: str, *, after: float = 0, **more: object) -> list[str]:
        return self._step(Failed(number, failure(outcome, **more)), after)

    def refused(self, number: int, what: str, *, mendable: bool = True, after: float = 0) -> list[str]:
        """The target refuses a part of the request."""
        return self._step(Failed(number, failure("client_fault", mend=what), mendable=mendable), after)

    def broke(self, number: int, outcome: str, *, resumable: bool = True, after: float = 0) -> list[str]:
        """The committed attempt breaks off."""
        return self._step(Failed(number, failure(outcome), resumable=resumable), after)

    def left(self, *, after: float = 0) -> list[str]:
        return self._step(ClientLeft(), after)

    def tick(self, *, after: float = 0) -> list[str]:
        return self._step(Tick(), after)

    def wait(self) -> list[str]:
        """Let time pass until the session's own timer."""
        assert self.session.timer is not None
        return self.tick(after=self.session.timer - self.now)

    @property
    def due(self) -> float | None:
        """How long from now until the timer."""
        return None if self.session.timer is None else round(self.session.timer - self.now, 6)

    def key(self, target: str) -> Key:
        (aim,) = aims(target)
        shown = None if aim.backend == "local" else 1
        return Key(aim.backend, shown, aim.model, 0 if shown is None else 1)

    def _step(self, event: Event, after: float) -> list[str]:
        self.now += after
        return self._told(self.session.step(event, self.now))

    def _told(self, commands: list[Command]) -> list[str]:
        return [self._line(command) for command in commands]

    def _line(self, command: Command) -> str:
        match command:
            case Open():
                self.opened.append(command)
                shown = command.candidate.credential
                key = f" {shown}" if shown not in (None, "key1") else ""
                without = f" without {' and '.join(command.mend)}" if command.mend else ""
                return f"open {command.number} {command.candidate.label}{key}{without}"
            case Continue():
                exact = " exactly" if command.exact else ""
                return f"continue {command.of} by {command.number} {command.candidate.label}{exact}"
            case GiveUp(verdict):
                self.verdict = verdict
                return f"give up {verdict.status} {verdict.code}"
            case Break(number, verdict):
                self.verdict = verdict
                return f"break {number} {verdict.status} {verdict.code}"
            case Cancel(number):
                return f"cancel {number}"
            case Commit(number):
                return f"commit {number}"
            case Done(number):
                return f"done {number}"
