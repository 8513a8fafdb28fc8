"""PURE: what a client is told when nothing is left, or when a stream breaks (design 5.8).

Of several outcomes the one that is most useful to the client gives the status, in this order:
its own fault, which it can mend at once; what passes by itself (limit, overload, too slow, a fault
of the target: the client may come back); what a different request would mend (too long, not
supported); and last what only the operator can mend (unpaid, refused, missing). The message
names every attempt whichever it was.

`should_retry` is true only where waiting is known to help and the wait is one that a client
should take: everything else has been tried again here already, and SDKs would multiply that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.failover.outcome import Failure, Outcome
from gateway.failover.plan import NO_CREDENTIAL, Plan

LONGEST_WAIT_S = 60.0  # both SDKs sleep as long as they are told, without a word
UNTOLD_WAIT_S = 10.0  # a hint where nothing is known
OFFLINE_WAIT_S = 2.0  # so soon a network that is back is noticed
_MESSAGE_LIMIT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the client is told. `kind` is the OpenAI error type; the Anthropic one follows from the status.

    `relay` is the upstream's own reply, to be passed on as it is instead of all the rest.
    `overloaded` lets the renderer choose 529 where the dialect has it.
    """

    status: int
    kind: str
    code: str | None
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    should_retry: bool = False
    relay: Failure | None = None
    overloaded: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A target and why it did not answer; `sent` is false for one that was left out."""

    label: str
    failure: Failure
    sent: bool = True


# The order is that of usefulness, see above.
_RENDERED: dict[Outcome, tuple[int, str, str]] = {
    Outcome.CLIENT_FAULT: (400, "invalid_request_error", "invalid_request"),
    Outcome.RATE_LIMITED: (429, "rate_limit_error", "rate_limit_exceeded"),
    Outcome.OVERLOADED: (503, "server_error", "overloaded"),
    Outcome.SLOW: (504, "server_error", "upstream_timeout"),
    Outcome.SERVER_FAULT: (502, "server_error", "upstream_error"),
    Outcome.CONNECT_FAULT: (502, "server_error", "upstream_unreachable"),
    Outcome.LOCAL_FAULT: (503, "server_error", "model_unavailable"),
    Outcome.CONTEXT_TOO_LONG: (400, "invalid_request_error", "context_length_exceeded"),
    Outcome.UNSUPPORTED: (400, "invalid_request_error", "unsupported"),
    Outcome.BILLING: (429, "insufficient_quota", "insufficient_quota"),
    Outcome.AUTH: (502, "server_error", "provider_auth_failed"),
    Outcome.MODEL_MISSING: (404, "invalid_request_error", "model_not_found"),
}
_USEFULNESS = {outcome: place for place, outcome in enumerate(_RENDERED)}
# What the client could mend itself; under a local-only policy everything else is the typed 503.
_CLIENTS = (Outcome.CLIENT_FAULT, Outcome.CONTEXT_TOO_LONG, Outcome.UNSUPPORTED)
# The codes of these are our own words, because nothing spoke for the target: upstream_tls_error, say.
_OURS = (Outcome.CONNECT_FAULT, Outcome.LOCAL_FAULT)
_WAITING = (Outcome.RATE_LIMITED, Outcome.OVERLOADED)
_PASSING = (Outcome.SLOW, Outcome.SERVER_FAULT, Outcome.CONNECT_FAULT, Outcome.LOCAL_FAULT)


def give_up(plan: Plan, tried: Sequence[Tried], *, why: str = "") -> Verdict:
    """The verdict on a request that nothing answered. `why` says what kept it from further tries."""
    left_out = [Tried(s.label, s.failure, sent=False) for s in plan.skipped if s.failure is not None]
    every = [*tried, *left_out]
    if not every:
        return _nothing_to_try(plan)
    message = _told(every, plan, why)
    wait_s = _soonest(every)
    asked = [each.label for each in tried if each.sent]
    # Who was asked twice has been retried here; an SDK that did it again would multiply that.
    helps = wait_s is not None and wait_s <= LONGEST_WAIT_S and len(set(asked)) == len(asked)
    best = min(every, key=lambda each: _USEFULNESS[each.failure.outcome])
    failure, outcome = best.failure, best.failure.outcome
    if plan.local_only and not (best.sent and outcome in _CLIENTS):
        return _local_only(every, message, wait_s, helps=helps)
    status, kind, code = _RENDERED[outcome]
    sole = len(every) == 1
    if outcome in _CLIENTS:
        status = _blames_client(failure) or status
        if outcome is not Outcome.CONTEXT_TOO_LONG:  # clients look for that one word
            code = failure.code or code
        message = failure.message if sole else message
    elif outcome in _OURS:
        code = failure.code or code
        status = 503 if failure.offline else status
    elif outcome is Outcome.AUTH and all(each.failure.code == NO_CREDENTIAL for each in every):
        status, code = 503, NO_CREDENTIAL
    return Verdict(
        status=status,
        kind=kind,
        code=code,
        message=message,
        param=failure.param if outcome in _CLIENTS else None,
        retry_after_s=_capped(wait_s)
        if _passes(outcome, wait_s)
        else OFFLINE_WAIT_S
        if failure.offline
        else None,
        should_retry=outcome in _WAITING and helps,
        # What was kept from further tries must say so itself.
        relay=failure if not why and _relayable(best, tried, sole=sole) else None,
        overloaded=outcome is Outcome.OVERLOADED,
    )


def broken(label: str, failure: Failure) -> Verdict:
    """The verdict on a stream that broke after it was committed."""
    status, kind, code = _RENDERED.get(failure.outcome, _RENDERED[Outcome.SERVER_FAULT])
    if failure.outcome in (Outcome.SERVER_FAULT, Outcome.CONNECT_FAULT):
        code = failure.code or "upstream_stream_interrupted"
    elif failure.outcome is Outcome.LOCAL_FAULT:
        code = failure.code or "generation_failed"
    return Verdict(
        status=status,
        kind=kind,
        code=code,
        message=f"the answer of {label} broke off: {failure.message}",
        overloaded=failure.outcome is Outcome.OVERLOADED,
    )


def _nothing_to_try(plan: Plan) -> Verdict:
    if plan.local_only:
        return Verdict(
            status=503,
            kind="server_error",
            code="local_only",
            message="the policy of this rule keeps requests on this machine and the rule names no local "
            "target; add one, e.g. `mlx-gateway rules set RULE --to local:NAME`",
        )
    return Verdict(
        status=503,
        kind="server_error",
        code="no_target",
        message="the rule of this model names no target; `mlx-gateway rules check` says more",
    )


def _local_only(every: Sequence[Tried], message: str, wait_s: float | None, *, helps: bool) -> Verdict:
    """Design 5.7: a 503 of its own type, so that nobody mistakes it for a cloud's."""
    waits = any(each.failure.outcome in _WAITING for each in every)
    return Verdict(
        status=503,
        kind="server_error",
        code="local_only",
        message=f"{message}; the policy of this rule keeps requests on this machine",
        retry_after_s=_capped(wait_s) if waits or wait_s is not None else None,
        should_retry=waits and helps,
    )


def _passes(outcome: Outcome, wait_s: float | None) -> bool:
    """Does it pass by itself, at a time that is known or can be guessed?"""
    return outcome in _WAITING or (outcome in _PASSING and wait_s is not None)


def _blames_client(failure: Failure) -> int | None:
    """The upstream's status where it blames the request. A 200 that held an error does not, and a
    401 would make the client throw away its own key, which is fine.
    """
    status = failure.status
    return status if status is not None and 400 <= status < 500 and status not in (401, 403) else None


def _relayable(best: Tried, tried: Sequence[Tried], *, sole: bool) -> bool:
    """Are the upstream's own words to be passed on? Only those of the only attempt, or else the
    client would not hear of the others.
    """
    failure = best.failure
    if len(tried) != 1 or best is not tried[0] or failure.body is None or _blames_client(failure) is None:
        return False
    return failure.outcome in _CLIENTS or (sole and failure.outcome is Outcome.MODEL_MISSING)


def _soonest(every: Iterable[Tried]) -> float | None:
    """When the first of them may answer again, as far as anybody knows."""
    waits = [
        each.failure.retry_after_s
        for each in every
        if each.failure.outcome in (*_WAITING, *_PASSING) and each.failure.retry_after_s is not None
    ]
    return min(waits, default=None)


def _capped(wait_s: float | None) -> float:
    return min(LONGEST_WAIT_S, UNTOLD_WAIT_S if wait_s is None else wait_s)


def _told(every: Iterable[Tried], plan: Plan, why: str) -> str:
    """Every attempt and what it came to, then what was left out, then why it stopped there."""
    parts = [
        f"{each.label}: {each.failure.outcome if each.sent else 'not asked'} ({each.failure.message})"
        for each in every
    ]
    parts += [f"{s.label}: not asked ({s.reason})" for s in plan.skipped if s.failure is None]
    text = "no target answered: " + "; ".join(parts) + (f"; {why}" if why else "")
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 3] + "..."
