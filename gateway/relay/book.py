"""Booking: what telemetry is told of a request when it is over."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.relay.exchange import Exchange
from gateway.telemetry.finished import Finished
from gateway.wire.usage import Usage

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
        lost=tuple(a.label for a in session.attempts if a.outcome is None and a.ended is not None),
        continued=exchange.continued,
        other_usage=_together(each.usage for each in exchange.opened if each is not served),
        broken=exchange.failure.message if exchange.failure is not None else "",
    )


def _together(usages: Iterable[Usage | None]) -> Usage | None:
    """What the attempts have cost that did not bring the answer to its end, as far as they told it."""
    told = [usage for usage in usages if usage is not None]
    if not told:
        return None
    return Usage(
        input_tokens=sum(each.input_tokens for each in told),
        output_tokens=sum(each.output_tokens for each in told),
        cached_tokens=sum(each.cached_tokens for each in told),
    )
