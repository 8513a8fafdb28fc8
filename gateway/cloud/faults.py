"""What the network and aiohttp raise, told as a `Failure`: the one place where foreign faults get our words.

The split follows from whether the request can have been seen: without a connection it is a connect
fault and safe to try again; an accepted connection that ends without a proper reply is the server's
fault. A kept-alive connection that the peer had already closed is marked `stale`: nobody's fault.
"""

from __future__ import annotations

import errno
import os

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from gateway.failover.outcome import Failure, Outcome

# Everything that a connection may raise while it is used; TimeoutError is an OSError.
FOREIGN = (aiohttp.ClientError, HttpProcessingError, OSError)
_OF_THE_NETWORK = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ETIMEDOUT}
)


def is_disconnect(error: BaseException) -> bool:
    """Did the peer just end the connection (rather than say something wrong)?"""
    return isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError))


def connecting(error: BaseException, upstream: str, *, connect_s: float) -> Failure:
    """No connection came to be: the upstream has seen nothing of the request."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return _connect(f"the host name of upstream {upstream} can't be resolved", "upstream_dns_error")
        case aiohttp.ClientConnectorCertificateError():
            return _connect(
                f"upstream {upstream} shows a certificate that is not trusted: {_why(error)}",
                "upstream_tls_error",
            )
        case aiohttp.ClientConnectorSSLError():
            return _connect(f"no TLS connection to upstream {upstream}: {_why(error)}", "upstream_tls_error")
        case TimeoutError():
            return _connect(
                f"no connection to upstream {upstream} within {connect_s:g} s", "upstream_unreachable"
            )
    return _connect(f"no connection to upstream {upstream}: {_why(error)}", "upstream_unreachable")


def is_doubtful(error: BaseException) -> bool:
    """May the machine's own network be why no connection came to be? Not where the peer has answered."""
    if isinstance(error, (aiohttp.ClientConnectorDNSError, TimeoutError)):
        return True
    inner = getattr(error, "os_error", error)
    return isinstance(inner, OSError) and inner.errno in _OF_THE_NETWORK


def offline(reason: str) -> Failure:
    """The machine's own network is why; nothing is said of the upstream."""
    return Failure(
        outcome=Outcome.CONNECT_FAULT,
        message=f"this machine is offline: {reason}",
        code="offline",
        offline=True,
    )


def pool_full(limit: int) -> Failure:
    """All connections that the configuration allows are in use, by whatever upstream."""
    return Failure(
        outcome=Outcome.OVERLOADED,
        message=f"all {limit} connections to upstreams are in use",
        code="connections_in_use",
    )


def awaiting_head(error: BaseException, upstream: str, *, stale: bool) -> Failure:
    """The request went out, or part of it, and no proper head of a reply came back."""
    if stale:
        return Failure(
            outcome=Outcome.CONNECT_FAULT,
            message=f"upstream {upstream} had closed the kept-alive connection",
            code="upstream_disconnected",
            stale=True,
        )
    if isinstance(error, HttpProcessingError):
        return Failure(
            outcome=Outcome.SERVER_FAULT,
            message=f"upstream {upstream} sent something that is not an HTTP reply",
            code="upstream_bad_reply",
        )
    return Failure(
        outcome=Outcome.SERVER_FAULT,
        message=f"upstream {upstream} ended the connection without a reply",
        code="upstream_disconnected",
    )


def head_too_late(upstream: str) -> Failure:
    """The deadline for the head has passed."""
    return Failure(
        outcome=Outcome.SLOW,
        message=f"upstream {upstream} did not answer in time",
        code="upstream_timeout",
    )


def broken_body(upstream: str, why: str = "ended the reply before its end") -> Failure:
    """The reply had begun and did not come to its end, or can't be read."""
    return Failure(
        outcome=Outcome.SERVER_FAULT,
        message=f"upstream {upstream} {why}",
        code="upstream_stream_interrupted",
    )


def bad_reply(upstream: str, why: str, *, status: int | None = None) -> Failure:
    """A head that can't lead to an answer: a redirect, an encoding that nobody asked for."""
    return Failure(
        outcome=Outcome.SERVER_FAULT,
        message=f"upstream {upstream} {why}",
        code="upstream_bad_reply",
        status=status,
    )


def kept_here() -> Failure:
    """A request that must stay on this machine stands at the door: a fault of the gateway, which the
    plan has to keep from happening.
    """
    return Failure(
        outcome=Outcome.UNSUPPORTED,
        message="the gateway was about to send a request elsewhere that must stay on this machine",
        code="local_only",
    )


def closed_here() -> Failure:
    """Somebody on our side closed the reply while another was still reading it."""
    return Failure(outcome=Outcome.CLIENT_LEFT, message="the reply was closed by the gateway")


def _connect(message: str, code: str) -> Failure:
    return Failure(outcome=Outcome.CONNECT_FAULT, message=message, code=code)


def _why(error: BaseException) -> str:
    """The system's own few words, without the addresses that the library puts around them."""
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    verify = getattr(inner, "verify_message", None)
    if verify:
        return str(verify)
    reason = getattr(inner, "reason", None)
    if isinstance(reason, str):
        return reason.lower().replace("_", " ")
    number = getattr(inner, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) else type(inner).__name__
