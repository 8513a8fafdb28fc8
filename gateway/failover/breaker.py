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
from typing import NamedTuple

from gateway.failover.health import CredentialMark, Row, TargetHealth
from gateway.failover.outcome import MEANING, Failure, Mark, Outcome
from gateway.routing.rule import LOCAL

IN_A_ROW = 5
LEAST = 5  # finished attempts in the window before their share counts
FIRST_S, LONGEST_S = 30.0, 300.0
MISSING_S = 60.0
UNTOLD_LIMIT_S = 10.0  # a 429 that does not say when to come back
BILLING_S, BILLING_LONGEST_S = 300.0, 3600.0
WAKING_S = 10.0  # so long after a sleep the network may be the reason for anything
FOREVER = math.inf


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
        wait_s = self.wait_s if self.wait_s < FOREVER else None
        return Failure(outcome=self.outcome, message=self.reason, retry_after_s=wait_s)


HEALTHY = Judgement(State.HEALTHY)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a target stands; without a model a credential, for all its models."""

    backend: str
    model: str | None
    credential_id: int | None
    version: int
    judgement: Judgement


_CredentialKey = tuple[str, int, int]  # backend, id, version
Dump = dict[str, list[Row]]


class Breakers:
    """All targets that were asked lately. `jitter` gives numbers from 0 to 1.

    `version` grows with every change of what `dump` tells, and `marks` with those of credentials;
    `on_change` is called after each.
    """

    __slots__ = (
        "_credentials",
        "_jitter",
        "_lenient_until",
        "_limit",
        "_targets",
        "marks",
        "on_change",
        "version",
    )

    def __init__(self, jitter: Callable[[], float] = lambda: 0.5, *, limit: int = 4096) -> None:
        self._jitter = jitter
        self._limit = limit
        self._lenient_until = -FOREVER
        self._targets: dict[Key, TargetHealth] = {}
        self._credentials: dict[_CredentialKey, CredentialMark] = {}
        self.version = self.marks = 0
        self.on_change: Callable[[], None] | None = None

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
        elif not failure.stale and not failure.offline:
            self._failed(key, failure, now, since)

    def forgive(self, *, since: float, now: float, slept_s: float) -> None:
        """The machine has slept: what failed after `since`, or will within 10 s, is its network's fault.

        `slept_s` is the part of the sleep that this clock has not counted: every cooldown ends as much
        sooner. What an upstream told, and what is known of credentials, is not forgiven.
        """
        self._lenient_until = now + WAKING_S
        for credential in self._credentials.values():
            credential.until -= slept_s
        for key, target in self._targets.items():
            if target.until:
                target.until -= slept_s
                target.told_until -= slept_s
            if key.backend == LOCAL:
                continue
            target.start_over()
            if target.until and target.since >= since:
                target.cooldowns = max(0, target.cooldowns - 1)
                target.until = target.told_until if target.told_until > now else 0.0
        self._changed(mark=True)

    def cooling(self, now: float) -> list[tuple[Key, Judgement]]:
        """Every target that is not healthy, for those who look at the daemon."""
        judged = [(key, self.judge(key, now)) for key in self._targets]
        return [(key, judgement) for key, judgement in judged if judgement is not HEALTHY]

    def standings(self, now: float) -> list[Standing]:
        """Every target and every credential that is left alone, each for itself."""
        targets = [
            Standing(key.backend, key.model, key.credential_id, key.version, _judge_target(target, now))
            for key, target in self._targets.items()
            if target.until
        ]
        credentials = [
            Standing(backend, None, credential_id, version, _judge_credential(mark, now))
            for (backend, credential_id, version), mark in self._credentials.items()
            if mark.until > now
        ]
        return [*credentials, *targets]

    def dump(self, now: float) -> Dump:
        """What should survive a restart, as plain data. Times are what is left of them, because
        this clock does not outlive the process.
        """
        targets, credentials = self._targets.items(), self._credentials.items()
        return {
            "targets": [target.to_row(key, now) for key, target in targets if target.until > now],
            "credentials": [mark.to_row(key, now) for key, mark in credentials if mark.until > now],
        }

    def load(self, data: Dump, now: float) -> None:
        """Take over what `dump` gave; what is known already stays."""
        for row in data["targets"]:
            backend, credential_id, model, version = row["key"]
            key = Key(backend, credential_id, model, version)
            if key not in self._targets:
                self._targets[key] = self._fit(TargetHealth.from_row(row, now))
        for row in data["credentials"]:
            backend, credential_id, version = row["key"]
            self._credentials.setdefault((backend, credential_id, version), CredentialMark.from_row(row, now))

    def reset(self, backend: str, credential_id: int | None = None) -> int:
        """Forget all that is known of a backend, or of one of its credentials: it is asked as if it had
        never failed. Returns how many cooldowns and marks that ended.
        """
        targets = [key for key in self._targets if _is_of(key, backend, credential_id)]
        marked = [key for key in self._credentials if _is_of(key, backend, credential_id)]
        cleared = sum(self._targets.pop(key).until > 0 for key in targets)
        for credential in marked:
            del self._credentials[credential]
        if cleared or marked:
            self._changed(mark=True)
        return cleared + len(marked)

    def _succeeded(self, key: Key, now: float, started: float) -> None:
        target = self._known(key)
        target.window.add(now, marked=False)
        if started < target.since:
            return
        if target.until > now:
            self._changed()
        target.in_a_row = target.cooldowns = 0
        if target.until:
            target.probing = False
            target.start_over()
            target.until = target.told_until if target.told_until > now else 0.0
        if self._credentials and key.credential_id is not None:
            credential = self._credential(key)
            if (
                credential is not None
                and credential.outcome is Outcome.BILLING
                and started >= credential.since
            ):
                del self._credentials[key.backend, key.credential_id, key.version]
                self._changed(mark=True)

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
                self._cool(self._known(key), failure, now, wait_s, told=told)
            case Mark.TARGET:
                self._cool(self._known(key), failure, now, MISSING_S)
            case _:
                pass

    def _count(self, key: Key, failure: Failure, now: float, started: float) -> None:
        target = self._known(key)
        spared = now < self._lenient_until and key.backend != LOCAL and not failure.retry_after_s
        if spared or target.until > now or started < target.since:
            return  # it cools already: one who had no choice asked, or one who asked before that
        target.window.add(now, marked=True)
        target.in_a_row += 1
        good, bad = target.window.totals(now)
        told = failure.retry_after_s
        local = key.backend == LOCAL
        if target.until or target.in_a_row >= IN_A_ROW or (good + bad >= LEAST and bad > good):
            wait_s = min(LONGEST_S, FIRST_S * 2**target.cooldowns) * (0.8 + 0.4 * self._jitter())
            target.cooldowns = min(target.cooldowns + 1, 16)
            self._changed()
            # The pool knows when it has room again, and that is sooner than any guess.
            self._cool(target, failure, now, told if told is not None and local else wait_s)
        if told is not None and not local:
            self._cool(target, failure, now, told)

    def _mark(self, backend: str, credential_id: int, version: int, outcome: Outcome, now: float) -> None:
        for key in [k for k in self._credentials if k[:2] == (backend, credential_id) and k[2] != version]:
            del self._credentials[key]  # the secret that it had before
            self._changed(mark=True)
        known = self._credentials.get((backend, credential_id, version))
        if known is not None and known.until > now:
            if outcome is Outcome.AUTH and known.until < FOREVER:
                known.outcome, known.until = outcome, FOREVER
                self._changed(mark=True)
            return
        strikes = known.strikes + 1 if known is not None else 1
        wait_s = FOREVER
        if outcome is Outcome.BILLING:
            wait_s = min(BILLING_LONGEST_S, BILLING_S * 2 ** min(strikes - 1, 16))
        mark = CredentialMark(outcome, now, now + wait_s, strikes)
        self._credentials[backend, credential_id, version] = mark
        self._changed(mark=True)

    def _cool(
        self, target: TargetHealth, failure: Failure, now: float, wait_s: float, *, told: bool = False
    ) -> None:
        if target.cool(failure.outcome, now, wait_s, told=told):
            self._changed()

    def _changed(self, *, mark: bool = False) -> None:
        self.version += 1
        self.marks += mark
        if self.on_change is not None:
            self.on_change()

    def _credential(self, key: Key) -> CredentialMark | None:
        if key.credential_id is None:
            return None
        return self._credentials.get((key.backend, key.credential_id, key.version))

    def _known(self, key: Key) -> TargetHealth:
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = self._fit(TargetHealth())
        return target

    def _fit(self, target: TargetHealth) -> TargetHealth:
        """Make room for one more."""
        if len(self._targets) >= self._limit:
            self._forget_one()
        return target

    def _forget_one(self) -> None:
        """Make room: clients choose the names of models, so there may be any number of keys."""
        oldest = list(itertools.islice(self._targets, 16))
        gone = next((key for key in oldest if not self._targets[key].until), oldest[0])
        if self._targets.pop(gone).until:
            self._changed()


def _is_of(key: Key | _CredentialKey, backend: str, credential_id: int | None) -> bool:
    return key[0] == backend and credential_id in (None, key[1])


def _judge_target(target: TargetHealth, now: float) -> Judgement:
    if target.probing:
        return Judgement(State.PROBING, now, 0.0, "another request is trying it right now", target.outcome)
    told = target.told_until > now
    until = target.told_until if told else target.until
    outcome = Outcome.RATE_LIMITED if told else target.outcome
    left = max(0.0, until - now)
    reason = f"cooling for another {math.ceil(left)} s after {outcome}" if left else "due for a probe"
    return Judgement(State.COOLING, until, left, reason, outcome, barred=told)


def _judge_credential(credential: CredentialMark, now: float) -> Judgement:
    left = credential.until - now
    if left == FOREVER:
        reason = "its credential was refused, and is left alone until it is changed"
        return Judgement(State.COOLING, FOREVER, FOREVER, reason, credential.outcome, barred=True)
    reason = f"its credential is unpaid, and cools for another {math.ceil(left)} s"
    return Judgement(State.COOLING, credential.until, left, reason, credential.outcome)
