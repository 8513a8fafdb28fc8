"""The head of an answer: what of the target's head is passed on, and what the gateway adds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from gateway.errors import RequestError
from gateway.failover.verdict import Verdict
from gateway.relay.attempt import Attempt
from gateway.wire.dialect import Dialect
from gateway.wire.failure import error_body, error_event

JSON = "application/json"
EVENTS = "text/event-stream"
SERVER = "mlx-gateway"  # aiohttp's own would tell its version and Python's


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Where a request went: what `x-gateway-*` says of it."""

    request_id: str
    rule: str
    attempts: str
    served_by: str | None = None
    changed: tuple[str, ...] = ()  # what of the request was left out or converted for who served
    local_only: bool = False
    total_ms: float = 0.0

    def headers(self) -> Iterable[tuple[str, str]]:
        yield "x-request-id", self.request_id
        yield "x-gateway-rule", self.rule
        if self.served_by is not None:
            yield "x-gateway-served-by", self.served_by
        if self.attempts:
            yield "x-gateway-attempts", self.attempts
        if self.changed:
            yield "x-gateway-changed", ", ".join(self.changed)
        if self.local_only:
            yield "x-gateway-locality", "local-only"
        yield "server-timing", f"gateway;dur={self.total_ms:.1f}"


def put_head(response: web.StreamResponse, attempt: Attempt, trail: Trail) -> None:
    """Give `response` the status and headers of what it relays."""
    assert attempt.reply is not None
    response.set_status(attempt.reply.status)
    for name, value in attempt.reply.headers:  # the backend let through what a client may see
        response.headers[name] = value
    if attempt.translation is not None:  # whatever the target called what it said
        response.headers["content-type"] = JSON if attempt.watch is None else EVENTS
    put_trail(response, trail)


def put_trail(response: web.StreamResponse, trail: Trail) -> None:
    for name, value in trail.headers():
        response.headers[name] = value
    response.headers["server"] = SERVER


def refusal(dialect: Dialect, verdict: Verdict, trail: Trail) -> web.Response:
    """The one error that a client gets when nothing is left."""
    relayed = verdict.relay
    if relayed is not None and relayed.body is not None and relayed.status is not None:
        response = web.Response(status=relayed.status, body=relayed.body)
        for name, value in relayed.headers:
            response.headers[name] = value
    else:
        status = status_of(dialect, verdict)
        body = error_body(
            dialect,
            status=status,
            message=verdict.message,
            kind=verdict.kind,
            code=verdict.code,
            param=verdict.param,
            request_id=trail.request_id,
        )
        response = web.Response(status=status, body=body, content_type=JSON)
    if verdict.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(verdict.retry_after_s)))
    if not verdict.should_retry:
        response.headers["x-should-retry"] = "false"
    put_trail(response, trail)
    return response


def broken_event(dialect: Dialect, verdict: Verdict, request_id: str, *, number: int | None = None) -> bytes:
    """The one error event that ends a stream whose head is out already; `number` as for `error_event`."""
    return error_event(
        dialect,
        status=status_of(dialect, verdict),
        message=verdict.message,
        kind=verdict.kind,
        code=verdict.code,
        param=verdict.param,
        request_id=request_id,
        number=number,
    )


def status_of(dialect: Dialect, verdict: Verdict) -> int:
    """Anthropic has a status of its own for an overloaded server."""
    return 529 if verdict.overloaded and dialect is Dialect.ANTHROPIC else verdict.status


def refused_request(dialect: Dialect, error: RequestError, request_id: str) -> web.Response:
    """The answer to a request that was wrong before any target was asked."""
    body = error_body(
        dialect,
        status=error.status,
        message=error.message,
        kind=error.kind,
        code=error.code,
        param=error.param,
        request_id=request_id,
    )
    response = web.Response(status=error.status, body=body, content_type=JSON)
    response.headers["x-should-retry"] = "false"
    return response
