"""What a run came to: every answer judged, the figures, and what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.chaos.families import BY_NAME
from tests.chaos.host import Host
from tests.chaos.truth import CANARY, Ask, Got, Worth, judge
from tests.chaos.world import Hit

LEAST_SUCCESS = 0.999
# In a short run one answer is more than a thousandth: a machine that stands still for a moment costs some.
_FEW = 3
_ALARMS = re.compile(r"Traceback|was never retrieved|failed inside the gateway|was destroyed but")
_SHOWN = 10


@dataclass(slots=True)
class Case:
    """One request and its answer, judged."""

    ask: Ask
    got: Got
    hits: list[Hit]
    worth: Worth
    why: str
    excuse: str = ""  # why it does not count

    @property
    def extra_calls(self) -> int:
        """Calls beyond what the policy allows. A stale connection is asked again for nothing, once."""
        stale = any(hit.reused and hit.fault in ("reset", "refused") for hit in self.hits)
        return len(self.hits) - BY_NAME[self.ask.family].attempts - stale

    def __str__(self) -> str:
        asked = f"{self.ask.id} {self.ask.model} {'stream' if self.ask.stream else 'whole'}"
        hits = ", ".join(
            f"{hit.upstream}:{hit.fault}{':' + hit.breaks if hit.breaks else ''}" for hit in self.hits
        )
        return (
            f"{self.worth} {asked}{' sdk' if self.ask.sdk else ''} [{hits}] {self.why} ({self.got.attempts})"
        )


def case_of(ask: Ask, got: Got, hits: list[Hit], host: Host) -> Case:
    worth, why = judge(ask, got)
    case = Case(ask, got, hits, worth, why)
    if worth == "lost" and not host.was_out(got.began, got.over):
        case.worth = "wrong"  # a connection that died, and the daemon had not
    case.excuse = _excuse(case, host)
    return case


def _excuse(case: Case, host: Host) -> str:
    if case.worth in ("left", "lost"):
        return case.worth
    if case.worth != "told":
        return ""
    family = BY_NAME[case.ask.family]
    # Nobody can go on with an answer that is said; that its end is missing is told.
    breaks = {hit.breaks for hit in case.hits} if case.ask.stream else set()
    if "tail" in breaks or ("after" in breaks and not family.continues):
        return "told break"
    if family.local and host.lacked_worker(case.got.began, case.got.over):
        return "no worker"
    return ""


@dataclass(slots=True)
class Report:
    """A run's figures. `wrong` are sentences, each of which is a reason to fail."""

    seed: int
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def judge(self, cases: list[Case]) -> None:
        """Fill in what the answers say."""
        counted = [case for case in cases if not case.excuse]
        right = [case for case in counted if case.worth == "right"]
        silent = [case for case in cases if case.worth in ("short", "wrong")]
        excused = Counter(case.excuse for case in cases if case.excuse)
        success = len(right) / len(counted) if counted else 0.0
        hits = [len(case.hits) for case in cases if case.worth != "lost"]
        self.figures |= {
            "requests": len(cases),
            "counted": len(counted),
            "success": round(success, 5),
            "silently short or wrong": len(silent),
            "told breaks": excused.pop("told break", 0),
            **{f"not counted, {why}": number for why, number in sorted(excused.items())},
            "told for want of budget": sum("budget for retries" in case.got.told for case in cases),
            "right, but without [DONE]": sum(
                case.worth == "right" and case.ask.stream and not case.ask.sdk and not case.got.closed
                for case in cases
            ),
            "went on": sum("continued-by" in " ".join(case.got.comments) for case in cases),
            "calls per request": round(sum(hits) / max(1, len(hits)), 3),
            "most calls": max(hits, default=0),
            **_added(right),
        }
        failed = [case for case in counted if case.worth not in ("right", "short", "wrong")]
        if success < LEAST_SUCCESS and len(failed) > _FEW:
            self.wrong.append(f"success {success:.3%}")
            self.wrong += [str(case) for case in failed[:_SHOWN]]
        self.figures["failed"] = [str(case) for case in failed[:_SHOWN]]
        self.wrong += [str(case) for case in silent[:_SHOWN]]
        self.wrong += [f"too many calls: {case}" for case in cases if case.extra_calls > 0][:_SHOWN]

    def read(self, log: list[str]) -> None:
        """Look through the daemon's log."""
        alarms = [line for line in log if _ALARMS.search(line)]
        told = [line for line in log if CANARY in line]
        self.figures |= {"log lines": len(log), "alarms": len(alarms), "canaries": len(told)}
        self.wrong += [f"log: {line}" for line in alarms[:_SHOWN]]
        self.wrong += [f"a secret in the log: {line}" for line in told[:_SHOWN]]


def _added(right: list[Case]) -> dict[str, float]:
    """What failed targets cost those who got their answer: time until content, beyond the usual."""
    waits = [(case, case.got.first - case.got.began) for case in right if case.got.first is not None]
    clean = [wait for case, wait in waits if _clean(case)]
    usual = median(clean) if clean else 0.0
    found = {"usual first content ms": round(usual * 1000, 1)}
    for name, waited in (("quick", ("quick", "wide")), ("waiting", ("hasty", "hedged", "onward"))):
        added = sorted(
            max(0.0, wait - usual) for case, wait in waits if not _clean(case) and case.ask.family in waited
        )
        if added:
            found[f"added by {name} faults, p50 ms"] = round(added[len(added) // 2] * 1000, 1)
            found[f"added by {name} faults, p99 ms"] = round(added[int(len(added) * 0.99)] * 1000, 1)
    return found


def _clean(case: Case) -> bool:
    return case.got.attempts.count("dur=") <= 1 and all(hit.fault in ("well", "torn") for hit in case.hits)
