"""PURE: one request's engine: events go in, commands come out (design 5.1 to 5.8).

The life of a request:
WAITING    nothing is live; an attempt is due at a later time (a backoff, a told wait).
TRYING     at least one attempt is live; none has shown content. More than one may be live: that
           is how a hedge or a rescue is added without changing a caller.
COMMITTED  one attempt answers the client; all others were cancelled. No way leads back.
OVER       done, broken, given up, or the client left; whatever comes now is ignored.

After a failure, in this order: a client's own fault ends it, whatever is left. Then what was not
tried yet follows at once, else what may be tried again, after its wait (`remaining` knows both).
Either is kept from happening by the deadline, by the policy's number of attempts, by a body that
can't be sent again, and by the retry budget of the daemon. When nothing is left: one verdict.

A kept-alive connection that the peer had closed is nobody's failure: once in a request the same
candidate is opened again at once, which costs neither an attempt nor budget nor a mark.

Each attempt has its own slice of the one deadline: what is left is shared with the targets that
may still follow, and the last one gets the rest. Ticks that come early or late do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from gateway.failover.breaker import Admission, Breakers, Judgement
from gateway.failover.budget import RetryBudget
from gateway.failover.command import (
    Break,
    Cancel,
    ClientLeft,
    Command,
    Commit,
    Content,
    Done,
    Ended,
    Event,
    Failed,
    GiveUp,
    Open,
    Tick,
)
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Candidate, Plan
from gateway.failover.policy import Policy
from gateway.failover.record import AttemptRecord, trace
from gateway.failover.remaining import Remaining
from gateway.failover.verdict import Tried, broken, give_up

__all__ = [
    "AttemptRecord",
    "Break",
    "Cancel",
    "ClientLeft",
    "Command",
    "Commit",
    "Content",
    "Done",
    "Ended",
    "Event",
    "Failed",
    "GiveUp",
    "Open",
    "Session",
    "Tick",
]


@dataclass(slots=True)
class _Live:
    record: AttemptRecord
    until: float  # when its first content must be there
    probe: bool  # it holds the place of its target's probe


class Session:
    """One request from its first attempt to its end. See the head of this file."""

    __slots__ = (
        "_breakers",
        "_budget",
        "_committed",
        "_due",
        "_first_content_s",
        "_live",
        "_opened",
        "_over",
        "_remaining",
        "_replayable",
        "_spared",
        "_tried",
        "attempts",
        "deadline",
        "plan",
        "policy",
    )

    def __init__(
        self,
        plan: Plan,
        policy: Policy,
        *,
        stream: bool,
        breakers: Breakers,
        budget: RetryBudget,
        jitter: Callable[[], float],
        started: float,
        replayable: Callable[[], bool],
    ) -> None:
        self.plan = plan
        self.policy = policy
        self.deadline = started + policy.deadline_s
        self.attempts: list[AttemptRecord] = []
        self._first_content_s = policy.first_content_s(stream=stream)
        self._breakers = breakers
        self._budget = budget
        self._replayable = replayable
        self._remaining = Remaining(plan.candidates, policy, jitter)
        self._live: dict[int, _Live] = {}
        self._tried: list[Tried] = []
        self._due: tuple[float, Candidate] | None = None
        self._opened = 0  # attempts that count
        self._spared = False  # the free try after a stale connection is used up
        self._committed: int | None = None
        self._over = False

    @property
    def timer(self) -> float | None:
        """When a `Tick` is due; None when nothing is waited for any more."""
        if self._over:
            return None
        if self._committed is not None:
            return self.deadline
        times = [live.until for live in self._live.values()]
        if self._due is not None:
            times.append(self._due[0])
        return min(times, default=self.deadline)

    def trace(self, now: float) -> str:
        """All attempts in one line, for the header and the log."""
        return trace(self.attempts, now, self.plan.skipped)

    def start(self, now: float) -> list[Command]:
        """The first commands. The first attempt is never charged to the daemon's budget."""
        self._budget.deposit(now)
        return self._open_one_of(self._remaining.untried, now) or self._later(now)

    def step(self, event: Event, now: float) -> list[Command]:
        """What to do now that `event` has happened."""
        if self._over:
            return []
        match event:
            case Content():
                return self._content(event.number, now)
            case Ended():
                return self._ended(event.number, now)
            case Failed():
                return self._failed(event.number, event.failure, now)
            case Tick():
                return self._tick(now)
            case ClientLeft():
                return self._client_left(now)
            case _:
                assert_never(event)

    # Events, each with what it does to the attempts that are live.

    def _content(self, number: int, now: float) -> list[Command]:
        if number not in self._live or self._committed is not None:
            return []
        return self._commit(number, now) if now < self.deadline else self._expire(now)

    def _commit(self, number: int, now: float) -> list[Command]:
        winner = self._live.pop(number)
        commands: list[Command] = [self._cancel(loser, now) for loser in list(self._live.values())]
        self._live = {number: winner}
        self._committed = number
        self._due = None
        winner.record.committed = True
        self._release(winner)  # it answers, so the next request may try as well
        return [*commands, Commit(number)]

    def _ended(self, number: int, now: float) -> list[Command]:
        live = self._live.get(number)
        if live is None:
            return []
        commands: list[Command] = []
        if self._committed is None:
            commands = self._content(number, now)
            if self._over:
                return commands
        record = live.record
        record.end(Outcome.OK, now)
        self._breakers.record(record.candidate.key, None, now, started=record.started)
        self._over = True
        return [*commands, Done(number)]

    def _failed(self, number: int, failure: Failure, now: float) -> list[Command]:
        live = self._live.pop(number, None)
        if live is None:
            return []
        self._write_down(live, failure, now)
        if failure.outcome is Outcome.CLIENT_LEFT:
            return self._client_left(now)  # however the shell learned it, nobody waits any more
        if self._committed is not None:
            return self._break(live.record, failure)
        return self._next(live.record.candidate, failure, now)

    def _tick(self, now: float) -> list[Command]:
        if now >= self.deadline:
            return self._expire(now)
        commands: list[Command] = []
        if self._committed is None:
            for live in [live for live in self._live.values() if live.until <= now]:
                limit_s = live.until - live.record.started
                failure = Failure(outcome=Outcome.SLOW, message=f"no content within {limit_s:.3g} s")
                commands.append(self._cancel(live, now, failure))
                commands += self._next(live.record.candidate, failure, now)
        if self._due is not None and self._due[0] <= now:
            candidate = self._due[1]
            self._due = None
            commands += self._open_again(candidate, now)
        return commands

    def _client_left(self, now: float) -> list[Command]:
        left = Failure(outcome=Outcome.CLIENT_LEFT, message="the client left")
        self._over = True
        return [self._cancel(live, now, left) for live in list(self._live.values())]

    def _expire(self, now: float) -> list[Command]:
        """The deadline has come, before or after commit."""
        limit = f"the deadline of {self.policy.deadline_s:g} s has passed"
        failure = Failure(outcome=Outcome.SLOW, message=limit)
        live = list(self._live.values())
        commands: list[Command] = [self._cancel(each, now, failure) for each in live]
        if self._committed is not None:
            return [*commands, *self._break(live[0].record, failure)]
        self._tried += [Tried(each.record.label, failure) for each in live]
        return [*commands, *self._give_up(limit)]

    # What comes next.

    def _next(self, candidate: Candidate, failure: Failure, now: float) -> list[Command]:
        if failure.stale and not self._spared and now < self.deadline and self._replayable():
            self._spared = True
            self._opened -= 1
            return self._open_again(candidate, now)
        self._tried.append(Tried(candidate.label, failure))
        self._remaining.note(candidate, failure, now, asked=True)
        if failure.outcome is Outcome.CLIENT_FAULT:
            # It would be the same elsewhere, and one that still races can only find that out later.
            others = [self._cancel(each, now) for each in list(self._live.values())]
            return [*others, *self._give_up()]
        if self._live or self._due is not None:
            return []  # somebody else is still in the race
        untried = self._remaining.following()
        if not untried:
            return self._later(now)
        why = self._kept_from_more(now, at=now)
        if why:
            return self._give_up(why)
        return self._open_one_of(untried, now) or self._later(now)

    def _later(self, now: float) -> list[Command]:
        """Nobody new may be asked: ask one again, now or when its wait is over, or give up."""
        again = self._remaining.again(now)
        if again is None:
            return self._give_up()
        due, candidate = again
        why = self._kept_from_more(now, at=due)
        if why:
            return self._give_up(why)
        if due <= now:
            return self._open_again(candidate, now)
        self._due = again
        return []

    def _kept_from_more(self, now: float, *, at: float) -> str:
        """What stands against one more attempt, to be made at `at`; empty when it may be, and is paid."""
        if at >= self.deadline:
            return f"the deadline of {self.policy.deadline_s:g} s leaves no time for another attempt"
        if self._opened >= self.policy.attempts:
            return f"the policy's limit of attempts, {self.policy.attempts}, is reached"
        if not self.attempts:
            return ""
        if not self._replayable():
            return "a part of the request's body was sent, and it can't be sent again"
        if not self._budget.withdraw(now):
            return "the gateway's budget for retries is used up for now"
        return ""

    def _open_one_of(self, candidates: list[Candidate], now: float) -> list[Command]:
        """Open the first that the breaker lets through, else the first that is not barred."""
        cooling: Candidate | None = None
        for candidate in list(candidates):
            admission = self._breakers.admit(candidate.key, now)
            if admission:
                self._remaining.untried.remove(candidate)
                return [self._open(candidate, now, probe=admission is Admission.PROBE)]
            judgement = self._breakers.judge(candidate.key, now)
            if judgement.barred:
                self._remaining.untried.remove(candidate)
                self._leave_alone(candidate, judgement, now)
            elif cooling is None:
                cooling = candidate
        if cooling is None:
            return []
        self._remaining.untried.remove(cooling)
        return [self._open(cooling, now, probe=False)]

    def _open_again(self, candidate: Candidate, now: float) -> list[Command]:
        """Open one that was asked before, or had to be waited for; a cooldown of its own is no reason
        against it now, unless the upstream told that.
        """
        admission = self._breakers.admit(candidate.key, now)
        judgement = self._breakers.judge(candidate.key, now)
        if not admission and judgement.barred:
            self._leave_alone(candidate, judgement, now)
            return self._later(now)
        self._tried = [each for each in self._tried if each.sent or each.label != candidate.label]
        return [self._open(candidate, now, probe=admission is Admission.PROBE)]

    def _leave_alone(self, candidate: Candidate, judgement: Judgement, now: float) -> None:
        failure = judgement.as_failure()
        self._tried.append(Tried(candidate.label, failure, sent=False))
        self._remaining.note(candidate, failure, now, asked=False)

    # The deeds.

    def _open(self, candidate: Candidate, now: float, *, probe: bool) -> Open:
        self._opened += 1
        number = len(self.attempts) + 1
        followers = max(0, min(self._remaining.followers(candidate), self.policy.attempts - self._opened))
        slice_s = (self.deadline - now) / (followers + 1)
        # Where nobody set a limit, the last one may think as long as the request lasts: cutting it off
        # would only turn a late answer into none.
        patient = self.policy.first_token_s is None and not followers
        until = now + (slice_s if patient else min(self._first_content_s, slice_s))
        record = AttemptRecord(number, candidate, now)
        self.attempts.append(record)
        self._live[number] = _Live(record, until, probe)
        return Open(number, candidate, until)

    def _cancel(self, live: _Live, now: float, failure: Failure | None = None) -> Cancel:
        number = live.record.number
        del self._live[number]
        if failure is not None:
            self._write_down(live, failure, now)
        else:
            live.record.ended = now
            self._release(live)
        return Cancel(number)

    def _write_down(self, live: _Live, failure: Failure, now: float) -> None:
        record = live.record
        record.end(failure.outcome, now, failure)
        self._release(live)
        self._breakers.record(record.candidate.key, failure, now, started=record.started)

    def _release(self, live: _Live) -> None:
        if live.probe:
            live.probe = False
            self._breakers.release(live.record.candidate.key)

    def _give_up(self, why: str = "") -> list[Command]:
        self._over = True
        return [GiveUp(give_up(self.plan, self._tried, why=why))]

    def _break(self, record: AttemptRecord, failure: Failure) -> list[Command]:
        self._over = True
        return [Break(record.number, broken(record.label, failure))]
