"""Who may ask what, and from where: the checks that every request passes before its handler.

In this order, so that a hostile page learns nothing: the Host is one of ours (DNS rebinding),
the Origin may call (a web page in the user's browser), the key is known. Nothing here trusts
X-Forwarded-For, and no decision is made from a URL that was rebuilt from the Host header.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Collection, Iterator
from enum import Enum
from functools import lru_cache

from aiohttp import hdrs, web

from gateway.errors import RequestError
from gateway.snapshot import ClientKey, Snapshot

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Access(Enum):
    """What a route asks of its caller."""

    OPEN = "open"  # liveness: no key
    CLIENT = "client"  # a client key, once there is one
    ADMIN = "admin"  # a client key with admin rights, or admin.sock


def is_loopback(host: str) -> bool:
    """Is this an address that only this machine reaches?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_host(request: web.BaseRequest, allowed: Collection[str]) -> None:
    """Refuse a Host that is not ours, and absolute-form request targets."""
    if not request.raw_path.startswith("/"):
        raise RequestError("this is not a forward proxy; send a path that begins with /")
    host = request.headers.get(hdrs.HOST, "")
    sockname = request.transport.get_extra_info("sockname") if request.transport else None
    if not isinstance(sockname, tuple):
        return  # admin.sock: whoever may open the file is the owner
    if _is_ours(host, sockname[0], sockname[1]) or _split(host)[0] in allowed or host in allowed:
        return
    raise RequestError(
        "the Host header names another machine or port; add it to server.allowed_hosts if it is yours",
        status=403,
        code="host_not_allowed",
        kind="permission_error",
    )


@lru_cache(maxsize=256)  # an app sends the same Host each time; bounded, because anybody may send others
def _is_ours(host: str, address: str, ours: int) -> bool:
    """Does a Host header name the address and port that the connection was made to?"""
    name, port = _split(host)
    if port != ours:
        return False
    return name in (address, f"[{address}]") or (name in _LOOPBACK_NAMES and is_loopback(address))


def _split(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host.lower(), 80
    return name.lower(), int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1


def check_origin(request: web.BaseRequest, allowed: Collection[str]) -> str | None:
    """Refuse web pages that were not allowed; return the origin that was, for its CORS headers."""
    origins = request.headers.getall(hdrs.ORIGIN, ())
    if len(origins) > 1:
        raise _origin_refused()
    origin = origins[0] if origins else None
    if origin is None:
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise _origin_refused()
        return None
    if origin in allowed:
        return origin
    if origin == f"http://{request.headers.get(hdrs.HOST, '')}":
        return None  # a page of our own
    raise _origin_refused()


def _origin_refused() -> RequestError:
    return RequestError(
        "web pages may not call the gateway; add their origin to server.allowed_origins",
        status=403,
        code="origin_not_allowed",
        kind="permission_error",
    )


def check_media(request: web.BaseRequest) -> str:
    """The media type of a request's body; refuse what a simple form of a web page could send."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise RequestError("send the body without content-encoding", status=415, code="encoded_body")
    kind = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    # The three kinds that a page may send anywhere without asking first, and none at all, are refused;
    # multipart is not, for uploads need it: a page's Origin has stopped it before.
    if kind and kind not in ("text/plain", "application/x-www-form-urlencoded"):
        return kind
    raise RequestError(
        f"content-type must be application/json or multipart/form-data, not {kind or 'missing'!r:.60}; "
        "with curl add -H 'content-type: application/json'",
        status=415,
        code="unsupported_media_type",
    )


def is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def shown_keys(request: web.BaseRequest) -> Iterator[str]:
    """What the caller shows. Both ways work on every path; some apps use both, one for another server."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        yield token.strip()
    if (key := request.headers.get("x-api-key")) is not None:
        yield key


def authenticate(
    request: web.BaseRequest, access: Access, snapshot: Snapshot, *, keyless: bool
) -> ClientKey | None:
    """The caller's client key, None where no key is needed. Raises RequestError 401 or 403.

    `keyless` says that the listener is loopback, where the gateway serves without keys until one
    is defined.
    """
    if access is Access.OPEN or (keyless and access is Access.CLIENT and not snapshot.clients):
        return None
    found = (_known(shown, snapshot) for shown in shown_keys(request))
    key = next((each for each in found if each is not None), None)
    if key is None:
        raise RequestError(
            "a client key is needed: send it as Authorization: Bearer KEY or x-api-key; "
            "`mlx-gateway clients add NAME` makes one",
            status=401,
            code="invalid_api_key",
        )
    if access is Access.ADMIN and not key.admin:
        raise RequestError(
            "this needs a client key with admin rights: `mlx-gateway clients add NAME --admin`",
            status=403,
            code="admin_only",
            kind="permission_error",
        )
    return key


def _known(shown: str, snapshot: Snapshot) -> ClientKey | None:
    digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
    key = snapshot.clients.get(digest)
    # The dictionary compares digests, of which a guess tells nothing; this is the last word all the same.
    if key is None or not hmac.compare_digest(key.digest, digest) or not key.enabled:
        return None
    # Wall time: an expiry is a date in the owner's calendar, not a duration.
    if key.expires_at is not None and key.expires_at <= time.time():
        return None
    return key
