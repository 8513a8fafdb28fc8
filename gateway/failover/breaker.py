"""PURE: which targets and credentials are left alone for a while, and for how long.

States of a target, which is one model of one backend asked with one credential:
HEALTHY  asked as usual. Every finished attempt is counted.
COOLING  left alone until a point in time: five failures in a row, or more than half of at least
         five within a minute (30 s, doubling to 300 s, +-20 %); or a limit that the upstream told
         (exactly its Retry-After); or a missing model (60 s).
PROBING  the time is over and one request tries whether it answers again; the others still treat
         it as cooling. The probe's first content lets the next one try, its clean end heals, its
         failure cools for twice as long. A probe that was cancelled gives its place back.

Who moves it: `admit` HEALTHY or COOLING to PROBING, `record` to HEALTHY or COOLING, `release` from
PROBING back. Nobody else, and nothing by the passing of time alone.

A cooldown is a guess, so a request that has nothing else still goes to a cooling target. Not so
when it is `barred`: the upstream itself said when it wants to be asked again, or refused the
credential for good. A later cooldown never shortens one that runs, and no success ends one that
the upstream told.

Credentials are marked for all their models: refused (401, 403) until their version changes, unpaid
for 5 min, doubling to 1 h. The version is part of the key, so a changed secret starts afresh.

Not handled here: a whole network that is down (the plan leaves its targets out), and the length of
the local queue (the pool says that itself, each time it is asked).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from gateway.failover.outcome import MEANING, Failure, Mark, Outcome
from gateway.failover.window import Window
from gateway.routing.rule import LOCAL

IN_A_ROW = 5
LEAST = 5  # finished attempts in the window before their share counts
FIRST_S, LONGEST_S = 30.0, 300.0
MISSING_S = 60.0
UNTOLD_LIMIT_S = 10.0  # a 429 that does not say when to come back
BILLING_S, BILLING_LONGEST_S = 300.0, 3600.0
FOREVER = float("inf")


class Key(NamedTuple):
    """What is cooled: a model of a backend, asked with one version of one credential."""

    backend: str
    credential_id: int | None
    model: str
    version: int = 0


class State(StrEnum):
    """Where a target stands."""

    HEALTHY = "healthy"
    COOLING = "cooling"
    PROBING = "probing"


class Admission(IntEnum):
    """The answer to one who wants to ask a target now; false is no."""

    NO = 0
    YES = 1
    PROBE = 2  # yes, and nobody else may until this one has content or is over


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a target stands now. `until` is when it may be asked again; `wait_s` how long that is.

    `barred` is a cooldown that must be kept even when nothing else is left.
    """

    state: State
    until: float = 0.0
    wait_s: float = 0.0
    reason: str = ""
    outcome: Outcome = Outcome.OK  # what brought it here
    barred: bool = False

    @property
    def ready(self) -> bool:
        """Whether it may be asked like any other: healthy, or due for a probe."""
        return self.state is State.HEALTHY or (self.state is State.COOLING and self.wait_s <= 0)

    def as_failure(self) -> Failure:
        """What a target that is left alone has come to, without having been asked."""
        waits = self.outcome in (Outcome.RATE_LIMITED, Outcome.OVERLOADED)
        return Failure(
            outcome=self.outcome, message=self.reason, retry_after_s=self.wait_s if waits else None
        )


HEALTHY = Judgement(State.HEALTHY)


@dataclass(slots=True)
class _Target:
    window: Window
    in_a_row: int = 0
    cooldowns: int = 0  # since the last success; each doubles the next
    since: float = 0.0  # when it began to cool, the last time
    until: float = 0.0  # 0: not cooling
    told_until: float = 0.0  # that part of it which the upstream told
    outcome: Outcome = Outcome.OK
    probing: bool = False


@dataclass(slots=True)
class _Credential:
    outcome: Outcome
    since: float
    until: float
    strikes: int


_CredentialKey = tuple[str, int, int]  # backend, id, version
Dump = dict[str, list[dict[str, Any]]]


class Breakers:
    """All targets that were asked lately. `jitter` gives numbers from 0 to 1."""

    __slots__ = ("_credentials", "_jitter", "_limit", "_targets")

    def __init__(self, jitter: Callable[[], float] = lambda: 0.5, *, limit: int = 4096) -> None:
        self._jitter = jitter
        self._limit = limit
        self._targets: dict[Key, _Target] = {}
        self._credentials: dict[_CredentialKey, _Credential] = {}

    def judge(self, key: Key, now: float) -> Judgement:
        """How `key` stands, without changing anything."""
        target = self._targets.get(key)
        judgement = _judge_target(target, now) if target is not None and target.until else HEALTHY
        if self._credentials:
            credential = self._credential(key)
            if credential is not None and credential.until > now:
                of_credential = _judge_credential(credential, now)
                # Where both are in the way, the one that leaves no choice speaks.
                return judgement if judgement.barred and not of_credential.barred else of_credential
        return judgement

    def admit(self, key: Key, now: float) -> Admission:
        """May `key` be asked by one who has a choice? The first after a cooldown is its probe."""
        judgement = self.judge(key, now)
        if judgement is HEALTHY:
            return Admission.YES
        if not judgement.ready:
            return Admission.NO
        self._targets[key].probing = True
        return Admission.PROBE

    def release(self, key: Key) -> None:
        """The probe has content, or was cancelled: the next request may try."""
        target = self._targets.get(key)
        if target is not None:
            target.probing = False

    def record(self, key: Key, failure: Failure | None, now: float, *, started: float | None = None) -> None:
        """Write down how an attempt ended that was opened at `started`; None is a clean end.

        An attempt that was opened before its target began to cool says nothing about it now.
        """
        since = now if started is None else started
        if failure is None:
            self._succeeded(key, now, since)
        elif not failure.stale:
            self._failed(key, failure, now, since)

    def cooling(self, now: float) -> list[tuple[Key, Judgement]]:
        """Every target that is not healthy, for those who look at the daemon."""
        judged = [(key, self.judge(key, now)) for key in self._targets]
        return [(key, judgement) for key, judgement in judged if judgement is not HEALTHY]

    def dump(self, now: float) -> Dump:
        """What should survive a restart, as plain data. Times are what is left of them, because
        this clock does not outlive the process.
        """
        return {
            "targets": [
                {
                    "key": list(key),
                    "left_s": target.until - now,
                    "told_s": max(0.0, target.told_until - now),
                    "cooldowns": target.cooldowns,
                    "outcome": target.outcome.value,
                }
                for key, target in self._targets.items()
                if target.until > now
            ],
            "credentials": [
                {
                    "key": list(key),
                    "left_s": None if credential.until == FOREVER else credential.until - now,
                    "strikes": credential.strikes,
                    "outcome": credential.outcome.value,
                }
                for key, credential in self._credentials.items()
                if credential.until > now
            ],
        }

    def load(self, data: Dump, now: float) -> None:
        """Take over what `dump` gave; what is known already stays."""
        for row in data["targets"]:
            backend, credential_id, model, version = row["key"]
            key = Key(backend, credential_id, model, version)
            if key in self._targets:
                continue
            target = self._known(key)
            target.since = now
            target.until = now + row["left_s"]
            target.told_until = now + row["told_s"]
            target.cooldowns = row["cooldowns"]
            target.outcome = Outcome(row["outcome"])
        for row in data["credentials"]:
            backend, credential_id, version = row["key"]
            left = FOREVER if row["left_s"] is None else row["left_s"]
            self._credentials.setdefault(
                (backend, credential_id, version),
                _Credential(Outcome(row["outcome"]), now, now + left, row["strikes"]),
            )

    def _succeeded(self, key: Key, now: float, started: float) -> None:
        target = self._known(key)
        target.window.add(now, marked=False)
        if started < target.since:
            return
        target.in_a_row = target.cooldowns = 0
        if target.until:
            target.probing = False
            target.window = _window()
            target.until = target.told_until if target.told_until > now else 0.0
        if self._credentials and key.credential_id is not None:
            credential = self._credential(key)
            if (
                credential is not None
                and credential.outcome is Outcome.BILLING
                and started >= credential.since
            ):
                del self._credentials[key.backend, key.credential_id, key.version]

    def _failed(self, key: Key, failure: Failure, now: float, started: float) -> None:
        mark = MEANING[failure.outcome].mark
        if mark is Mark.DEAD and failure.passing:
            mark = Mark.TARGET
        if mark in (Mark.DEAD, Mark.BILLING):
            if key.credential_id is not None:
                self._mark(key.backend, key.credential_id, key.version, failure.outcome, now)
                return
            # There is no credential to blame, the upstream wants one. Somebody has to give it one, and
            # when that is done it must be noticed soon.
            mark = Mark.TARGET
        match mark:
            case Mark.COUNTS:
                self._count(key, failure, now, started)
            case Mark.LIMIT:
                told = failure.retry_after_s is not None
                wait_s = failure.retry_after_s if failure.retry_after_s is not None else UNTOLD_LIMIT_S
                _cool(self._known(key), failure, now, wait_s, told=told)
            case Mark.TARGET:
                _cool(self._known(key), failure, now, MISSING_S)
            case _:
                pass

    def _count(self, key: Key, failure: Failure, now: float, started: float) -> None:
        target = self._known(key)
        if target.until > now or started < target.since:
            return  # it cools already: one who had no choice asked, or one who asked before that
        target.window.add(now, marked=True)
        target.in_a_row += 1
        good, bad = target.window.totals(now)
        told = failure.retry_after_s
        local = key.backend == LOCAL
        if target.until or target.in_a_row >= IN_A_ROW or (good + bad >= LEAST and bad > good):
            wait_s = min(LONGEST_S, FIRST_S * 2**target.cooldowns) * (0.8 + 0.4 * self._jitter())
            target.cooldowns = min(target.cooldowns + 1, 16)
            # The pool knows when it has room again, and that is sooner than any guess.
            _cool(target, failure, now, told if told is not None and local else wait_s)
        if told is not None and not local:
            _cool(target, failure, now, told)

    def _mark(self, backend: str, credential_id: int, version: int, outcome: Outcome, now: float) -> None:
        for key in [k for k in self._credentials if k[:2] == (backend, credential_id) and k[2] != version]:
            del self._credentials[key]  # the secret that it had before
        known = self._credentials.get((backend, credential_id, version))
        if known is not None and known.until > now:
            if outcome is Outcome.AUTH:
                known.outcome, known.until = outcome, FOREVER
            return
        strikes = known.strikes + 1 if known is not None else 1
        wait_s = FOREVER
        if outcome is Outcome.BILLING:
            wait_s = min(BILLING_LONGEST_S, BILLING_S * 2 ** min(strikes - 1, 16))
        self._credentials[backend, credential_id, version] = _Credential(outcome, now, now + wait_s, strikes)

    def _credential(self, key: Key) -> _Credential | None:
        if key.credential_id is None:
            return None
        return self._credentials.get((key.backend, key.credential_id, key.version))

    def _known(self, key: Key) -> _Target:
        target = self._targets.get(key)
        if target is None:
            if len(self._targets) >= self._limit:
                self._forget_one()
            target = self._targets[key] = _Target(_window())
        return target

    def _forget_one(self) -> None:
        """Make room: clients choose the names of models, so there may be any number of keys."""
        oldest = list(itertools.islice(self._targets, 16))
        del self._targets[next((key for key in oldest if not self._targets[key].until), oldest[0])]


def _window() -> Window:
    return Window(slots=6, slice_s=10.0)


def _cool(target: _Target, failure: Failure, now: float, wait_s: float, *, told: bool = False) -> None:
    until = now + wait_s
    if told:
        target.told_until = max(target.told_until, until)
    if until <= max(now, target.until):
        return
    if target.until <= now:
        target.since = now
    target.until = until
    target.outcome = failure.outcome
    target.probing = False
    target.in_a_row = 0
    target.window = _window()


def _judge_target(target: _Target, now: float) -> Judgement:
    if target.probing:
        return Judgement(State.PROBING, now, 0.0, "another request is trying it right now", target.outcome)
    told = target.told_until > now
    until = target.told_until if told else target.until
    outcome = Outcome.RATE_LIMITED if told else target.outcome
    left = max(0.0, until - now)
    reason = f"cooling for another {math.ceil(left)} s after {outcome}" if left else "due for a probe"
    return Judgement(State.COOLING, until, left, reason, outcome, barred=told)


def _judge_credential(credential: _Credential, now: float) -> Judgement:
    left = credential.until - now
    if left == FOREVER:
        reason = "its credential was refused, and is left alone until it is changed"
        return Judgement(State.COOLING, FOREVER, FOREVER, reason, credential.outcome, barred=True)
    reason = f"its credential is unpaid, and cools for another {math.ceil(left)} s"
    return Judgement(State.COOLING, credential.until, left, reason, credential.outcome)
