"""Whatever happens in whatever order, a session keeps its promises."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.failover.breaker import Breakers
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
    Failed,
    GiveUp,
    Open,
    Tick,
)
from gateway.failover.outcome import Outcome
from gateway.failover.plan import Candidate
from gateway.failover.policy import MOVABLE, MidStream, Policy
from gateway.failover.session import Session
from tests.failover.play import START, failure, plan_for

TARGETS = ["local:q", "local:r", "one:a", "one:b", "two:c", "three:d"]
# Those that end a request are drawn less often, or hardly any would reach its last attempt.
FAULTS = st.sampled_from([*sorted(MOVABLE) * 3, Outcome.CLIENT_FAULT, Outcome.CLIENT_LEFT])
WAITS = st.sampled_from([None, 0.0, 0.5, 3.0, 8.0, 9.0, 300.0])
POLICIES = st.builds(
    Policy,
    name=st.just("p"),
    first_token_s=st.sampled_from([None, 0.5, 4.0, 1000.0]),
    deadline_s=st.sampled_from([1.0, 20.0, 600.0]),
    attempts=st.sampled_from([3, 4, 2, 1]),
    retry_base_s=st.sampled_from([0.0, 0.5, 30.0]),
    stay_local=st.sampled_from([False, False, False, True]),
    hedge_after_s=st.sampled_from([None, None, 0.3, 2.0]),
    mid_stream=st.sampled_from(MidStream),
    on=st.just(MOVABLE) | st.just(MOVABLE) | st.sets(st.sampled_from(sorted(MOVABLE))).map(frozenset),
)


class OneRequest(RuleBasedStateMachine):
    """A request with a random plan; the machine is its shell, the peers and the rest of the daemon."""

    @initialize(
        listed=st.permutations(TARGETS),
        size=st.sampled_from([3, 2, 4, 1, 5, 0]),
        policy=POLICIES,
        stream=st.booleans(),
        keys=st.sampled_from([1, 2, 3, 0]),
        jitter=st.sampled_from([0.0, 0.5, 1.0]),
        spent=st.sampled_from([False, False, False, True]),
        prefills=st.sampled_from([frozenset(), frozenset({"one", "two"})]),
        late=st.sampled_from([frozenset(), frozenset(), frozenset({"local"})]),
        marks=st.lists(st.tuples(st.sampled_from(TARGETS), FAULTS, WAITS), max_size=8),
    )
    def begins(
        self,
        listed: list[str],
        size: int,
        policy: Policy,
        stream: bool,
        keys: int,
        jitter: float,
        spent: bool,
        prefills: frozenset[str],
        late: frozenset[str],
        marks: list[tuple[str, Outcome, float | None]],
    ) -> None:
        self.now = START
        self.policy = policy
        self.deadline = START + policy.deadline_s
        self.replayable = True
        self.breakers = Breakers(lambda: jitter)
        budget = RetryBudget()
        while spent and budget.withdraw(START):
            pass
        whole = plan_for(TARGETS, keys=keys or 1)
        self.keys = {each.key for each in whole.candidates}
        for target, outcome, wait_s in marks:
            for key in self.keys:
                if f"{key.backend}:{key.model}" == target:
                    self.breakers.record(key, failure(outcome, retry_after_s=wait_s), START - 1)
        plan = plan_for(
            listed[:size],
            policy,
            breakers=self.breakers,
            keys=keys,
            late=lambda aim: failure("slow") if aim.backend in late else None,
            prefills=lambda aim: aim.backend in prefills,
        )
        self.session = Session(
            plan,
            policy,
            stream=stream,
            breakers=self.breakers,
            budget=budget,
            jitter=lambda: jitter,
            started=START,
            replayable=lambda: self.replayable,
        )
        self.live: set[int] = set()
        self.ended: set[int] = set()
        self.committed: int | None = None
        self.broken: int | None = None  # what was committed, while another is to go on
        self.resumable = True
        self.over = False
        self.spared = False
        self.blamed = False
        self.refused: Candidate | None = None
        self.opens = 0
        self.asleep = 0  # ticks at the timer without an order
        for candidate in plan.candidates:
            assert candidate.is_local or not policy.stay_local
        self.obey(self.session.start(START))

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            assert not self.over, "an order after the last one"
            match command:
                case Open(number, candidate, until, mend):
                    assert self.committed is None and self.broken is None, "opened after commit"
                    assert not self.blamed, "a client's fault was tried elsewhere"
                    assert not mend or candidate == self.refused
                    if self.live:
                        assert self.policy.hedge_after_s is not None or mend
                    self.opened(number, candidate, until)
                case Continue(number, candidate, until, of, exact):
                    assert self.policy.mid_stream is MidStream.CONTINUE
                    assert self.resumable
                    assert self.broken == of
                    assert not self.live
                    assert candidate.is_local or candidate.prefill
                    assert not exact or candidate == self.session.attempts[of - 1].candidate
                    self.opened(number, candidate, until)
                case Cancel(number):
                    self.end(number)
                case Commit(number):
                    assert self.committed is None
                    assert self.live == {number}
                    assert self.now < self.deadline
                    self.committed, self.broken = number, None
                case GiveUp(verdict):
                    assert self.committed is None and self.broken is None
                    assert not self.live
                    assert 400 <= verdict.status < 600
                    assert verdict.status not in (401, 403)
                    assert verdict.retry_after_s is None or 0 <= verdict.retry_after_s <= 60
                    assert verdict.message
                    self.over = True
                case Break(number):
                    assert number == (self.committed if self.broken is None else self.broken)
                    assert not self.live - {number}
                    self.over = True
                case Done(number):
                    assert number == self.committed
                    self.over = True

    def opened(self, number: int, candidate: Candidate, until: float) -> None:
        self.opens += 1
        assert number == self.opens
        assert self.opens <= self.policy.attempts + self.spared
        assert self.now < self.deadline
        assert self.now < until <= self.deadline
        assert self.replayable or self.opens == 1
        assert candidate.is_local or not self.policy.stay_local
        self.live.add(number)

    def end(self, number: int) -> None:
        assert number in self.live
        self.live.discard(number)
        assert number not in self.ended
        self.ended.add(number)

    @precondition(lambda self: self.committed in self.live)
    @rule(outcome=st.sampled_from([Outcome.SERVER_FAULT, Outcome.LOCAL_FAULT, Outcome.SLOW]))
    def breaks_off(self, outcome: Outcome) -> None:
        assert self.committed is not None
        self.end(self.committed)
        self.broken, self.committed, self.resumable = self.committed, None, True
        self.obey(self.session.step(Failed(self.broken, failure(outcome), resumable=True), self.now))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def content(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        commands = self.session.step(Content(number), self.now)
        assert bool(commands) == (self.committed is None)
        self.obey(commands)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def ends_well(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        commands = self.session.step(Ended(number), self.now)
        if Cancel(number) not in commands:
            assert commands[-1] == Done(number)
            before = self.live
            self.obey(commands)
            assert before == self.live
            self.end(number)
        else:
            assert self.now >= self.deadline
            self.obey(commands)

    @precondition(lambda self: self.live)
    @rule(
        data=st.data(),
        outcome=FAULTS,
        wait_s=WAITS,
        stale=st.booleans(),
        sent=st.sampled_from([False, False, True]),
        mendable=st.booleans(),
        resumable=st.booleans(),
    )
    def fails(
        self,
        data: st.DataObject,
        outcome: Outcome,
        wait_s: float | None,
        stale: bool,
        sent: bool,
        mendable: bool,
        resumable: bool,
    ) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        self.end(number)
        alone = not self.live
        stale = stale and outcome is Outcome.CONNECT_FAULT
        if sent and not stale:
            self.replayable = False
        self.spared |= stale
        mend = "thinking" if outcome is Outcome.CLIENT_FAULT and mendable else ""
        self.refused = self.session.attempts[number - 1].candidate if mend else None
        if outcome is Outcome.CLIENT_FAULT and not mend and self.committed is None and self.broken is None:
            self.blamed = True
        answered = self.committed == number
        if answered:
            self.committed, self.broken, self.resumable = None, number, resumable
        fault = failure(outcome, retry_after_s=wait_s, stale=stale, mend=mend)
        event = Failed(number, fault, mendable=bool(mend), resumable=resumable)
        commands = self.session.step(event, self.now)
        assert not any(isinstance(each, Commit) for each in commands), "an error was committed"
        if self.broken is not None and outcome is not Outcome.CLIENT_LEFT:
            assert isinstance(commands[-1], Break | Continue)
        elif not alone and outcome is not Outcome.CLIENT_LEFT:
            assert not any(isinstance(each, GiveUp | Cancel) for each in commands), "an error won"
        self.obey(commands)
        if outcome is Outcome.CLIENT_LEFT:
            assert not self.live
            self.over = True

    @precondition(lambda self: len(self.live) == 1 and self.committed is None and self.broken is None)
    @rule(outcome=st.sampled_from([Outcome.SERVER_FAULT, Outcome.OVERLOADED]))
    def fails_and_may_be_tried_again(self, outcome: Outcome) -> None:
        (number,) = self.live
        self.end(number)
        self.obey(self.session.step(Failed(number, failure(outcome)), self.now))

    @precondition(lambda self: self.session.timer is not None)
    @rule()
    def its_time_comes(self) -> None:
        timer = self.session.timer
        assert timer is not None
        self.now = max(self.now, timer)
        commands = self.session.step(Tick(), self.now)
        self.asleep = 0 if commands else self.asleep + 1
        assert self.asleep <= self.policy.attempts, "it sleeps for ever"
        self.obey(commands)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.01, 0.4, 3.0, 30.0]), tick=st.booleans())
    def time_passes(self, seconds: float, tick: bool) -> None:
        self.now += seconds
        if tick:
            self.obey(self.session.step(Tick(), self.now))

    @rule(number=st.integers(0, 9), outcome=FAULTS)
    def the_dead_speak(self, number: int, outcome: Outcome) -> None:
        if number not in self.live:
            for event in (Content(number), Ended(number), Failed(number, failure(outcome))):
                assert self.session.step(event, self.now) == []

    @rule(data=st.data(), outcome=FAULTS, wait_s=WAITS)
    def another_request_fails(self, data: st.DataObject, outcome: Outcome, wait_s: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.keys, key=str)))
        self.breakers.record(key, failure(outcome, retry_after_s=wait_s), self.now)

    @rule(data=st.data())
    def another_request_probes(self, data: st.DataObject) -> None:
        self.breakers.admit(data.draw(st.sampled_from(sorted(self.keys, key=str))), self.now)

    @precondition(lambda self: not self.over)
    @rule(chance=st.integers(0, 3))
    def the_client_leaves(self, chance: int) -> None:
        if chance:
            return
        marks = self.breakers.dump(self.now)
        commands = self.session.step(ClientLeft(), self.now)
        assert {each.number for each in commands if isinstance(each, Cancel)} == self.live
        assert len(commands) == len(self.live)
        self.obey(commands)
        assert self.breakers.dump(self.now) == marks
        self.over = True

    @invariant()
    def it_is_always_known_what_comes(self) -> None:
        timer = self.session.timer
        if self.over:
            assert timer is None
            assert not self.live
            return
        assert timer is not None
        assert timer <= self.deadline

    @invariant()
    def every_attempt_is_told(self) -> None:
        assert len(self.session.attempts) == self.opens
        for each in self.session.attempts:
            assert (each.ended is None) == (each.number in self.live)
        told = [each for each in self.session.trace(self.now).split(", ") if each]
        assert len([each for each in told if not each.endswith(";skipped")]) == self.opens

    def teardown(self) -> None:
        if not hasattr(self, "session"):
            return
        for _ in range(50):
            if self.session.timer is None:
                break
            self.its_time_comes()
        assert self.over
        assert not self.live
        assert len(self.ended) == self.opens


OneRequest.TestCase.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
test_a_session_keeps_its_promises = OneRequest.TestCase
