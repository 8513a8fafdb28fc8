"""PURE: what a request may try, in which order, and what was left out and why.

The order is the rule's, except that what would answer too late stands behind what would not (a local
model that must be loaded first, say), and what cools behind both. At most one cooling candidate is in
a plan, the one due soonest: it is the last resort (design 5.6), and one is enough to notice that
something answers again. One that is barred is in it only when nothing else is; the session waits for
its time, or gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gateway.failover.breaker import FOREVER, Judgement, Key
from gateway.failover.outcome import Failure, Outcome
from gateway.failover.policy import Policy
from gateway.routing.rule import LOCAL
from gateway.routing.table import Aim

NO_CREDENTIAL = "no_credential"


class CredentialRef(NamedTuple):
    """Which credential may be shown; the secret stays where it is."""

    id: int
    name: str
    version: int


_NOBODY: tuple[None, None, int] = (None, None, 0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that can be tried: a model of a backend, shown one credential or none."""

    aim_index: int  # its place among the rule's targets; the credentials of a target share it
    backend: str
    model: str
    credential: str | None = None
    credential_id: int | None = None
    credential_version: int = 0
    late: Failure | None = field(default=None, compare=False)  # why others are tried before it
    prefill: bool = field(default=False, compare=False)  # it can go on from text that was sent already

    @property
    def label(self) -> str:
        return f"{self.backend}/{self.model}" if self.model else self.backend

    @property
    def key(self) -> Key:
        return Key(self.backend, self.credential_id, self.model, self.credential_version)

    @property
    def is_local(self) -> bool:
        return self.backend == LOCAL


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that is not tried. `outcome` is what trying it would have come to, None when the
    policy alone keeps it out; `failure` is the same with all that is known, for the verdict.
    """

    label: str
    reason: str
    outcome: Outcome | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request may try. With `local_only` no candidate is off this machine."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    policy: Policy
    local_only: bool

    def heirs(self, broken_off: Candidate) -> list[Candidate]:
        """Who may go on where `broken_off` stopped in the middle of its answer, best first: a local model
        itself, which can do so exactly, then the other local ones, then whoever takes the text so far.
        """
        able = [each for each in self.candidates if each.is_local or each.prefill]
        itself = [each for each in able if each.is_local and each == broken_off]
        others = [each for each in able if each not in itself]
        return [*itself, *sorted(others, key=lambda each: not each.is_local)]


def make_plan(
    aims: Sequence[Aim],
    policy: Policy,
    *,
    credentials: Mapping[str, Sequence[CredentialRef]],
    unusable: Callable[[Aim], Failure | None],
    judge: Callable[[Key], Judgement],
    late: Callable[[Aim], Failure | None] = lambda aim: None,
    prefills: Callable[[Aim], bool] = lambda aim: False,
) -> Plan:
    """Plan a request without doing anything; `explain` asks the same.

    `credentials`: the usable ones of each upstream. An upstream that is not in it needs none; one
    with an empty place needs one and has none. `unusable`: why an aim can't answer this request
    at all. `judge`: how a target stands with the breaker, now. `late`: why an aim should be tried only
    when the others have failed. `prefills`: whether an aim can go on from text that was sent already.
    """
    ready: list[Candidate] = []
    later: list[Candidate] = []
    cooling: list[tuple[Candidate, Judgement]] = []
    skipped: list[Skipped] = []
    stays: Outcome | None = None  # an outcome that the policy does not let move on
    for index, aim in enumerate(aims):
        # The one place that keeps a request on this machine (design 5.7): what is not in the plan is
        # never opened, never asked for its models, never counted in tokens.
        if policy.stay_local and aim.backend != LOCAL:
            skipped.append(Skipped(aim.label, "the policy keeps requests on this machine"))
            continue
        if stays is not None:
            skipped.append(Skipped(aim.label, f"the policy does not move on after {stays}"))
            continue
        failure = unusable(aim)
        if failure is not None:
            skipped.append(Skipped(aim.label, failure.message, failure.outcome, failure))
            stays = None if failure.outcome in policy.on else failure.outcome
            continue
        refs = credentials.get(aim.backend)
        if refs is not None and not refs:
            skipped.append(_without_credential(aim))
            stays = None if Outcome.AUTH in policy.on else Outcome.AUTH
            continue
        why, prefill = late(aim), prefills(aim)
        if why is not None and why.outcome not in policy.on:
            why = None
        cool: list[Judgement] = []
        for number, name, version in refs or (_NOBODY,):
            candidate = Candidate(index, aim.backend, aim.model, name, number, version, why, prefill)
            judgement = judge(candidate.key)
            if not judgement.ready:
                cooling.append((candidate, judgement))
                cool.append(judgement)
            elif why is not None:
                later.append(candidate)
            else:
                ready.append(candidate)
        if len(cool) == len(refs or (_NOBODY,)) and not any(each.outcome in policy.on for each in cool):
            stays = cool[0].outcome
    ready += later
    if cooling:
        _settle(ready, cooling, skipped)
    return Plan(tuple(ready), tuple(skipped), policy, policy.stay_local)


def _settle(
    ready: list[Candidate], cooling: list[tuple[Candidate, Judgement]], skipped: list[Skipped]
) -> None:
    """Choose the last resort among those that cool; the others are left out with their reason."""
    cooling.sort(key=lambda pair: (pair[1].barred, pair[1].until, pair[0].aim_index))
    last, judgement = cooling[0]
    rest = cooling
    if not judgement.barred or (not ready and judgement.until < FOREVER):
        ready.append(replace(last, late=judgement.as_failure()))
        rest = cooling[1:]
    skipped += [Skipped(candidate.label, j.reason, j.outcome, j.as_failure()) for candidate, j in rest]


def _without_credential(aim: Aim) -> Skipped:
    reason = f"{aim.backend} has no credential; add one with `mlx-gateway credentials add {aim.backend}`"
    return Skipped(
        aim.label, reason, Outcome.AUTH, Failure(outcome=Outcome.AUTH, message=reason, code=NO_CREDENTIAL)
    )
