"""PURE: base URLs of upstreams: one spelling for each, and no place where a key may not go."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from gateway.errors import RefusedError

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?\Z")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*\Z")
_PORTS = {"https": 443, "http": 80}
# Names that mean a machine in the same house.
_NEAR = (".local", ".lan", ".internal", ".home.arpa", ".localdomain")
_ENDPOINTS = (
    "/chat/completions", "/completions", "/responses", "/messages", "/embeddings", "/models",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A normalised base URL, and a warning where one is due."""

    text: str
    warning: str | None = None


def base_url(text: str) -> BaseUrl:
    """Normalise what an operator wrote, or raise RefusedError saying what is wrong with it.

    No slash at the end; no path means /v1; https, or http where the way is inside this house.
    """
    parts = _split(text)
    host = _check_host(parts, text)
    if parts.scheme == "http" and _is_public(host):
        raise RefusedError(
            f"base URL {_show(text)} would send the key in clear text through the internet; write https://"
        )
    warning = None
    if parts.scheme == "http" and not _is_loopback(host):
        warning = f"http to {host}: whoever is on the same network can read the key and the prompts"
    path = _check_path(parts.path, text)
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    shown_host = f"[{host}]" if ":" in host else host
    return BaseUrl(f"{parts.scheme}://{shown_host}{port}{path}", warning)


def _split(text: str) -> SplitResult:
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise RefusedError(
            f"base URL {_show(text)} holds a space, a backslash or a character that no URL has; "
            "write it like https://api.example.com/v1"
        )
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise RefusedError(f"base URL {_show(text)} can't be read: {error}") from error
    if parts.scheme not in _PORTS:
        raise RefusedError(f"base URL {_show(text)} must begin with https:// (http:// for this machine)")
    if "@" in parts.netloc:
        raise RefusedError("the base URL holds a user name or password; put the key in a credential")
    if "?" in text or "#" in text:
        raise RefusedError(
            f"base URL {_show(text)} has a query or a fragment; fixed queries are the key `query`"
        )
    return parts


def _check_host(parts: SplitResult, text: str) -> str:
    host = (parts.hostname or "").lower()
    address = _address(host)
    if address is not None:
        if address.is_unspecified or address.is_multicast:
            raise RefusedError(f"base URL {_show(text)} names no single host; write its address or 127.0.0.1")
        return str(address)
    if not _HOST.match(host) or len(host) > 253 or host.rstrip(".").rpartition(".")[2].isdigit():
        raise RefusedError(f"base URL {_show(text)} has no valid host name")
    if parts.port == 0:
        raise RefusedError(f"base URL {_show(text)} has port 0; write a port from 1 to 65535")
    return host


def _check_path(path: str, text: str) -> str:
    bare = path.rstrip("/")
    if not _PATH.match(bare) or "//" in bare or any(part in (".", "..") for part in bare.split("/")):
        raise RefusedError(f"base URL {_show(text)} has a path that can't be used; write it like /v1")
    for endpoint in _ENDPOINTS:
        if bare.endswith(endpoint):
            raise RefusedError(
                f"base URL {_show(text)} is one endpoint; give the part before {endpoint}, "
                "for the client's own path is put behind it"
            )
    return bare or "/v1"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")


def _is_public(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_global
    bare = host.rstrip(".")
    return "." in bare and not _is_loopback(host) and not bare.endswith(_NEAR)


def _show(text: str) -> str:
    # What came may hold a password.
    return repr(text[:120]) if "@" not in text else "(not shown)"
