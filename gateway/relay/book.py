"""Booking: what telemetry is told of a request when it is over."""

from __future__ import annotations

from gateway.relay.exchange import Exchange
from gateway.telemetry.finished import Finished

CLIENT_LEFT = 499  # nobody saw a status: the client left, or was cut off


def finished(exchange: Exchange, status: int, now: float) -> Finished:
    """The facts of one request; `status` is what the client saw."""
    inbound, session, served = exchange.inbound, exchange.session, exchange.served
    since = exchange.started
    content_at = exchange.first_content_at
    return Finished(
        request_id=inbound.request_id,
        method=inbound.method,
        path=inbound.path,
        status=status,
        seconds=now - since,
        stream=inbound.stream,
        client=inbound.client,
        model=inbound.model or "",
        rule=exchange.rule,
        served_by=served.candidate.label if served is not None else "",
        trace=session.trace(now),
        attempts=tuple((a.label, a.outcome) for a in session.attempts if a.outcome is not None),
        first_content_s=content_at - since if content_at is not None else None,
        usage=served.usage if served is not None else None,
        broken=exchange.failure.message if exchange.failure is not None else "",
    )
