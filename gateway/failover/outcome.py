"""PURE: what an attempt came to, and what that means for the next one (design 5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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
