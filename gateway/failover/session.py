"""PURE: one request's engine: events go in, commands come out (design 5.1 to 5.8).

The life of a request:
WAITING     nothing is live; an attempt is due at a later time (a backoff, a told wait).
TRYING      at least one attempt is live; none has shown content. More than one is live when the policy
            hedges: the next target starts when nothing has come for a while.
COMMITTED   one attempt answers the client; all others were cancelled. No way leads back.
CONTINUING  the committed attempt broke, and another is to go on from what the client has.
OVER        done, broken, given up, or the client left; whatever comes now is ignored.

After a failure, in this order: a client's own fault ends it, whatever is left. Then what was not
tried yet follows at once, else what may be tried again, after its wait (`remaining` knows both).
Either is kept from happening by the deadline, by the policy's number of attempts, by a body that
can't be sent again, and by the retry budget of the daemon. When nothing is left: one verdict.

An error never wins a race: while another attempt is live, not even a client's own fault ends it, since
that is only what this one target says. A request that was refused for something it can do without is
sent to the same target once more without it; that is an attempt, but nobody's failure.

A broken answer is gone on with only if the policy says so and the shell finds that it can be: by the
same local model first, which can do it exactly, then by any other local model of the plan, then by
upstreams that say that they take the beginning of an answer.

A kept-alive connection that the peer had closed is nobody's failure: once in a request the same
candidate is opened again at once, which costs neither an attempt nor budget nor a mark.

Ticks that come early or late do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

from gateway.failover.breaker import Admission, Breakers, Judgement
from gateway.failover.budget import RetryBudget
from gateway.failover.command import (
    Break,
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
    Tick,
)
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import Candidate, Plan
from gateway.failover.policy import MidStream, Policy
from gateway.failover.race import Race, Runner
from gateway.failover.record import AttemptRecord, trace
from gateway.failover.remaining import Remaining
from gateway.failover.verdict import Tried, broken, give_up


class Session:
    """One request from its first attempt to its end. See the head of this file."""

    __slots__ = (
        "_answering",
        "_blamed",
        "_breakers",
        "_broken",
        "_budget",
        "_due",
        "_over",
        "_race",
        "_remaining",
        "_replayable",
        "_spared",
        "_tried",
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
        self._breakers = breakers
        self._budget = budget
        self._replayable = replayable
        self._remaining = Remaining(plan.candidates, policy, jitter)
        self._race = Race(
            policy,
            breakers,
            self._remaining,
            deadline=self.deadline,
            first_content_s=policy.first_content_s(stream=stream),
        )
        self._tried: list[Tried] = []
        self._due: tuple[float, Candidate] | None = None
        self._spared = False  # the free try after a stale connection is used up
        self._blamed = False  # a target called it the client's own fault
        self._answering: int | None = None  # who is committed now
        self._broken: tuple[AttemptRecord, Failure] | None = None  # who was, while another is to go on
        self._over = False

    @property
    def attempts(self) -> list[AttemptRecord]:
        """All attempts so far, in their order."""
        return self._race.attempts

    @property
    def timer(self) -> float | None:
        """When a `Tick` is due; None when nothing is waited for any more."""
        if self._over:
            return None
        if self._answering is not None:
            return self.deadline
        times = [live.until for live in self._race.live.values()]
        if self._due is not None:
            times.append(self._due[0])
        return min([*times, self._race.hedge_at, self.deadline])

    def trace(self, now: float) -> str:
        """All attempts in one line, for the header and the log."""
        return trace(self.attempts, now, self.plan)

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
                return self._failed(event, now)
            case Tick():
                return self._tick(now)
            case ClientLeft():
                return self._client_left(now)
            case _:
                assert_never(event)

    # Events, each with what it does to the attempts that are live.

    def _content(self, number: int, now: float) -> list[Command]:
        if number not in self._race.live or self._answering is not None:
            return []
        return self._commit(number, now) if now < self.deadline else self._expire(now)

    def _commit(self, number: int, now: float) -> list[Command]:
        winner = self._race.live.pop(number)
        commands: list[Command] = [self._race.cancel(loser, now) for loser in list(self._race.live.values())]
        self._race.live = {number: winner}
        self._answering = number
        self._broken = self._due = None
        self._race.hedge_at = math.inf
        winner.record.committed = True
        self._race.release(winner)  # it answers, so the next request may try as well
        return [*commands, Commit(number)]

    def _ended(self, number: int, now: float) -> list[Command]:
        live = self._race.live.get(number)
        if live is None:
            return []
        commands: list[Command] = []
        if self._answering is None:
            commands = self._content(number, now)
            if self._over:
                return commands
        record = live.record
        record.end(Outcome.OK, now)
        self._breakers.record(record.candidate.key, None, now, started=record.started)
        self._over = True
        return [*commands, Done(number)]

    def _failed(self, event: Failed, now: float) -> list[Command]:
        live, failure = self._race.live.pop(event.number, None), event.failure
        if live is None:
            return []
        self._race.write_down(live, failure, now)
        if failure.outcome is Outcome.CLIENT_LEFT:
            return self._client_left(now)  # however the shell learned it, nobody waits any more
        if self._answering == event.number:
            self._answering, self._broken = None, (live.record, failure)
            return self._go_on(now) if event.resumable else self._break()
        if self._broken is not None:
            return self._go_on(now)
        if event.mendable and failure.mend not in live.mend:
            return self._mend(live, failure, now)
        return self._next(live.record.candidate, failure, now)

    def _tick(self, now: float) -> list[Command]:
        if now >= self.deadline:
            return self._expire(now)
        commands: list[Command] = []
        if self._answering is None:
            for live in [live for live in self._race.live.values() if live.until <= now]:
                limit_s = live.until - live.record.started
                failure = Failure(outcome=Outcome.SLOW, message=f"no content within {limit_s:.3g} s")
                commands.append(self._race.cancel(live, now, failure))
                if self._broken is not None:
                    return [*commands, *self._go_on(now)]
                commands += self._next(live.record.candidate, failure, now)
        if self._due is not None and self._due[0] <= now:
            candidate = self._due[1]
            self._due = None
            commands += self._open_again(candidate, now)
        if self._race.hedge_at <= now and not self._over:
            commands += self._hedge(now)
        return commands

    def _client_left(self, now: float) -> list[Command]:
        left = Failure(outcome=Outcome.CLIENT_LEFT, message="the client left")
        self._over = True
        return [self._race.cancel(live, now, left) for live in list(self._race.live.values())]

    def _expire(self, now: float) -> list[Command]:
        """The deadline has come, before or after commit."""
        limit = f"the deadline of {self.policy.deadline_s:g} s has passed"
        failure = Failure(outcome=Outcome.SLOW, message=limit)
        live = list(self._race.live.values())
        commands: list[Command] = [self._race.cancel(each, now, failure) for each in live]
        if self._answering is not None:
            self._broken = (live[0].record, failure)
        if self._broken is not None:
            return [*commands, *self._break()]
        self._tried += [Tried(each.record.label, failure) for each in live]
        return [*commands, *self._give_up(limit)]

    # What comes next.

    def _next(self, candidate: Candidate, failure: Failure, now: float) -> list[Command]:
        alone = not self._race.live
        if failure.stale and alone and not self._spared and now < self.deadline and self._replayable():
            self._spared = True
            self._race.opened -= 1
            return self._open_again(candidate, now)
        self._tried.append(Tried(candidate.label, failure))
        self._remaining.note(candidate, failure, now, asked=True)
        self._blamed |= failure.outcome is Outcome.CLIENT_FAULT
        if not alone:
            # Somebody else is still in the race, and is not left alone in it any longer than need be.
            if self._hedges:
                self._race.hedge_at = now
            return []
        if self._blamed:
            return self._give_up()  # it would be the same elsewhere
        untried = self._remaining.following()
        if not untried:
            return self._later(now)
        why = self._kept_from_more(now, at=now)
        if why:
            return self._give_up(why)
        return self._open_one_of(untried, now) or self._later(now)

    def _mend(self, live: Runner, failure: Failure, now: float) -> list[Command]:
        """Ask the same target again without what it refused; if that can't be, the refusal stands."""
        candidate = live.record.candidate
        if self._kept_from_more(now, at=now):
            return self._next(candidate, failure, now)
        return [self._race.open(candidate, now, probe=False, mend=(*live.mend, failure.mend))]

    @property
    def _hedges(self) -> bool:
        return self.policy.hedge_after_s is not None and not self._blamed

    def _hedge(self, now: float) -> list[Command]:
        """Start the next target beside those that are live, if one is well and may be asked now."""
        self._race.hedge_at = math.inf
        racing = {each.record.candidate.aim_index for each in self._race.live.values()}
        for candidate in self._remaining.untried if self._race.live and self._hedges else ():
            if candidate.aim_index in racing or not self._breakers.judge(candidate.key, now).ready:
                continue
            if self._kept_from_more(now, at=now):
                return []
            admission = self._breakers.admit(candidate.key, now)
            self._remaining.untried.remove(candidate)
            return [self._race.open(candidate, now, probe=admission is Admission.PROBE)]
        return []

    def _go_on(self, now: float) -> list[Command]:
        """Have somebody go on from where the committed attempt broke off, or say that it broke."""
        assert self._broken is not None
        broken_off = self._broken[0]
        if self.policy.mid_stream is MidStream.CONTINUE:
            asked = {each.candidate for each in self.attempts[broken_off.number :]}
            for candidate in self.plan.heirs(broken_off.candidate):
                if candidate in asked or not self._breakers.judge(candidate.key, now).ready:
                    continue
                if self._kept_from_more(now, at=now):
                    break
                probe = self._breakers.admit(candidate.key, now) is Admission.PROBE
                opened = self._race.open(candidate, now, probe=probe)
                self._race.hedge_at = math.inf
                exact = candidate.is_local and candidate == broken_off.candidate
                return [Continue(opened.number, candidate, opened.until, broken_off.number, exact)]
        return self._break()

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
        if self._race.opened >= self.policy.attempts:
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
                return [self._race.open(candidate, now, probe=admission is Admission.PROBE)]
            judgement = self._breakers.judge(candidate.key, now)
            if judgement.barred:
                self._remaining.untried.remove(candidate)
                self._leave_alone(candidate, judgement, now)
            elif cooling is None:
                cooling = candidate
        if cooling is None:
            return []
        self._remaining.untried.remove(cooling)
        return [self._race.open(cooling, now, probe=False)]

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
        return [self._race.open(candidate, now, probe=admission is Admission.PROBE)]

    def _leave_alone(self, candidate: Candidate, judgement: Judgement, now: float) -> None:
        failure = judgement.as_failure()
        self._tried.append(Tried(candidate.label, failure, sent=False))
        self._remaining.note(candidate, failure, now, asked=False)

    # How it ends.

    def _give_up(self, why: str = "") -> list[Command]:
        self._over = True
        return [GiveUp(give_up(self.plan, self._tried, why=why))]

    def _break(self) -> list[Command]:
        assert self._broken is not None
        record, failure = self._broken
        self._over = True
        return [Break(record.number, broken(record.label, failure))]
