"""PURE: what an attempt came to, and what that means for the next one (design 5.3)."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_tz
from enum import StrEnum
from types import MappingProxyType

from gateway.failover.limits import reset_s
from gateway.wire.artefacts import complaint
from gateway.wire.failure import WireError
from gateway.wire.phrases import is_auth_error, is_context_error, is_model_error, is_quota_error, unable

# Nobody means an hour: a longer wait is a mistake of the upstream or a way to say no.
LONGEST_RETRY_AFTER_S = 300.0


class Outcome(StrEnum):
    """One word for what an attempt came to; the same word stands in headers, log and metrics."""

    OK = "ok"
    CLIENT_FAULT = "client_fault"
    MODEL_MISSING = "model_missing"
    CONTEXT_TOO_LONG = "context_too_long"
    UNSUPPORTED = "unsupported"
    AUTH = "auth"
    BILLING = "billing"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_FAULT = "server_fault"
    CONNECT_FAULT = "connect_fault"
    SLOW = "slow"
    LOCAL_FAULT = "local_fault"
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt did not succeed, as far as it could be told.

    `status`, `headers` and `body` are the upstream's own reply where there was one (headers in
    lower case); `message` is our sentence, fit for the client: no secret, no path.
    `stale` marks a kept-alive connection that the peer had closed: never the target's fault.
    `passing` marks a refusal that says nothing of the credential for good: a firewall's page, say.
    `offline` marks a fault of this machine's network, which says nothing of the target.
    `mend` names what of the request the target refused and would not miss: see `wire.artefacts`.
    """

    outcome: Outcome
    message: str
    status: int | None = None
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)
    stale: bool = False
    passing: bool = False
    offline: bool = False
    mend: str = ""


class Again(StrEnum):
    """Whether the same target may be asked once more by the same request."""

    NO = "no"
    ONCE = "once"
    CREDENTIAL = "next credential"
    CREDENTIAL_OR_WAIT = "next credential, or after Retry-After"
    BY_POLICY = "as often as the policy's attempts allow"


class Mark(StrEnum):
    """What the breaker writes down."""

    NOTHING = "nothing"
    COUNTS = "counts"  # one failure of the target, as design 5.6 counts them
    TARGET = "target"  # this backend's model is missing: cools it, counts nothing
    LIMIT = "limit"  # cools for Retry-After
    BILLING = "billing"  # cools the credential, for all its models
    DEAD = "dead"  # the credential is out until it changes


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table in design 5.3."""

    again: Again
    next_target: bool
    mark: Mark

    @property
    def next_credential(self) -> bool:
        return self.again in (Again.CREDENTIAL, Again.CREDENTIAL_OR_WAIT)


# A target that found the context too long is followed by any other: how much the next one holds
# is not known yet; one that is known to be no larger is left out of the plan as unusable.
MEANING: Mapping[Outcome, Meaning] = MappingProxyType(
    {
        Outcome.OK: Meaning(Again.NO, False, Mark.NOTHING),
        Outcome.CLIENT_FAULT: Meaning(Again.NO, False, Mark.NOTHING),
        Outcome.MODEL_MISSING: Meaning(Again.NO, True, Mark.TARGET),
        Outcome.CONTEXT_TOO_LONG: Meaning(Again.NO, True, Mark.NOTHING),
        Outcome.UNSUPPORTED: Meaning(Again.NO, True, Mark.NOTHING),
        Outcome.AUTH: Meaning(Again.CREDENTIAL, True, Mark.DEAD),
        Outcome.BILLING: Meaning(Again.CREDENTIAL, True, Mark.BILLING),
        Outcome.RATE_LIMITED: Meaning(Again.CREDENTIAL_OR_WAIT, True, Mark.LIMIT),
        Outcome.OVERLOADED: Meaning(Again.BY_POLICY, True, Mark.COUNTS),
        Outcome.SERVER_FAULT: Meaning(Again.ONCE, True, Mark.COUNTS),
        Outcome.CONNECT_FAULT: Meaning(Again.ONCE, True, Mark.COUNTS),
        Outcome.SLOW: Meaning(Again.NO, True, Mark.COUNTS),
        Outcome.LOCAL_FAULT: Meaning(Again.ONCE, True, Mark.COUNTS),
        Outcome.CLIENT_LEFT: Meaning(Again.NO, False, Mark.NOTHING),
    }
)


def classify(
    *,
    status: int,
    error: WireError,
    headers: Mapping[str, str],
    now_wall: float | None,
    body: bytes | None = None,
) -> Failure:
    """What an upstream's error reply means. A status below 300 is that of a reply which began well and
    then held an error: the request was taken, so that nothing in it blames the client.

    `headers` have lower-case names; `body` is the reply's own, to be passed on where that is right.
    """
    outcome = _in_reply(error) if status < 300 else _in_status(status, error)
    retry_after_s = _retry_after(headers, now_wall)
    if retry_after_s is None and outcome is Outcome.RATE_LIMITED and status == 429:
        reset = reset_s(headers, now_wall)
        retry_after_s = None if reset is None else min(LONGEST_RETRY_AFTER_S, reset)
    return Failure(
        outcome=outcome,
        message=_sentence(outcome, status, error),
        status=status,
        code=error.code,
        param=error.param,
        retry_after_s=retry_after_s,
        headers=tuple(headers.items()),
        body=body,
        # An API says with a type or a code what it refuses; who only says 403 stands in front of it.
        passing=status == 403 and error.kind is None and error.code is None,
        mend=complaint(error, status) if outcome is Outcome.CLIENT_FAULT else "",
    )


def parse_retry_after(value: str, now_wall: float | None) -> float | None:
    """Seconds to wait: a number or an HTTP date, at most 300. Junk and negative numbers are None, a
    date that is past is 0. Without the time of day a date can't be told.
    """
    value = value.strip()
    seconds = _number(value)
    if seconds is not None:
        return min(LONGEST_RETRY_AFTER_S, seconds)
    parts = parsedate_tz(value) if now_wall is not None and len(value) <= 64 else None
    if parts is None or now_wall is None:
        return None
    try:
        at = timegm((*parts[:6], 0, 1, 0)) - (parts[9] or 0)
    except (ValueError, OverflowError):
        return None
    return min(LONGEST_RETRY_AFTER_S, max(0.0, at - now_wall))


# A 403 that speaks of the prompt is no refusal of the credential; taking it for one would let a single
# flagged prompt shut the upstream for everybody.
_MODERATED = re.compile(r"flagged|moderation|content[ _](?:policy|filter)|safety", re.IGNORECASE)
# The client's own openai-organization or openai-project does not go with our credential.
_MISMATCHED = frozenset({"mismatched_organization", "mismatched_project"})
_UNABLE_STATUSES = frozenset({400, 404, 415, 422})
_UNSUPPORTED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "not_implemented"})


def _in_status(status: int, error: WireError) -> Outcome:
    if status == 429:
        return Outcome.BILLING if is_quota_error(error) else Outcome.RATE_LIMITED
    if status in (503, 529) or (status >= 500 and error.status == 529):
        return Outcome.OVERLOADED
    if status == 501:
        return Outcome.UNSUPPORTED
    if status >= 500:
        # Some local servers answer 500 to a prompt that is too long; it stays too long.
        return Outcome.CONTEXT_TOO_LONG if is_context_error(error) else Outcome.SERVER_FAULT
    if status < 400 or status in (408, 409, 425):
        return Outcome.SERVER_FAULT
    return _in_refusal(status, error)


def _in_refusal(status: int, error: WireError) -> Outcome:
    if status == 402 or is_quota_error(error):
        return Outcome.BILLING
    # A router has no endpoint "that supports image input": the model is there for other requests.
    if status in _UNABLE_STATUSES and unable(error):
        return Outcome.UNSUPPORTED
    if is_model_error(error, status):
        return Outcome.MODEL_MISSING
    if (status == 403 and _MODERATED.search(error.message)) or error.code in _MISMATCHED:
        return Outcome.CLIENT_FAULT
    if status in (401, 403) or is_auth_error(error):
        return Outcome.AUTH
    # A 413 about tokens per minute (Groq): no wait makes this request smaller.
    if is_context_error(error) or (status == 413 and error.status == 429):
        return Outcome.CONTEXT_TOO_LONG
    return Outcome.UNSUPPORTED if error.code in _UNSUPPORTED_CODES else Outcome.CLIENT_FAULT


def _in_reply(error: WireError) -> Outcome:
    said = error.status
    if error.malformed:
        return Outcome.SERVER_FAULT
    if said == 402 or is_quota_error(error):
        return Outcome.BILLING
    if is_context_error(error):
        return Outcome.CONTEXT_TOO_LONG
    if said is not None and is_model_error(error, said):
        return Outcome.MODEL_MISSING
    return _SAID.get(said or 0, Outcome.SERVER_FAULT)


_SAID = {
    401: Outcome.AUTH,
    429: Outcome.RATE_LIMITED,
    503: Outcome.OVERLOADED,
    529: Outcome.OVERLOADED,
}


def _number(text: str) -> float | None:
    """A number that is not negative, as strict as a header should be: float() takes nan, 1_0 and \u0661."""
    plain = re.fullmatch(r"[0-9]{1,18}(\.[0-9]{0,18})?([eE]\+?[0-9]{1,2})?", text.strip())
    return float(plain[0]) if plain else None


def _retry_after(headers: Mapping[str, str], now_wall: float | None) -> float | None:
    milliseconds = headers.get("retry-after-ms")  # OpenAI and Azure; finer than the standard one
    if milliseconds is not None:
        exact = _number(milliseconds)
        if exact is not None:
            return min(LONGEST_RETRY_AFTER_S, exact / 1000)
    value = headers.get("retry-after")
    return None if value is None else parse_retry_after(value, now_wall)


def _sentence(outcome: Outcome, status: int, error: WireError) -> str:
    """Ours, and the upstream's words only where they are about the client's request: elsewhere they
    name organisations, hosts and the beginnings of keys.
    """
    number = f" ({status})" if status >= 300 else ""
    match outcome:
        case Outcome.CLIENT_FAULT:
            return f"the upstream refused the request{number}: {error.message}"
        case Outcome.CONTEXT_TOO_LONG:
            return f"the prompt is too long for this model{number}: {error.message}"
        case Outcome.UNSUPPORTED:
            return f"the upstream does not support a part of the request{number}: {error.message}"
        case Outcome.MODEL_MISSING:
            return f"the upstream does not have this model{number}"
        case Outcome.AUTH:
            return f"the upstream refused the gateway's credential{number}"
        case Outcome.BILLING:
            return f"the upstream's account is out of credit or quota{number}"
        case Outcome.RATE_LIMITED:
            return f"the upstream's rate limit is reached{number}"
        case Outcome.OVERLOADED:
            return f"the upstream is overloaded{number}"
        case _ if error.malformed:
            return f"the upstream's reply is malformed: {error.message}"
        case _ if status < 300:
            return "the upstream sent an error in place of an answer"
        case _ if status < 400:
            return f"the upstream redirects{number}, which is not followed; check its base_url"
        case _:
            return f"the upstream failed{number}"
