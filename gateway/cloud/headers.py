"""PURE: which header fields cross the gateway, in both directions; everything else stops here.

Both ways it is an allow-list (design 6.2): what nobody thought of is dropped. Upstream never see the
client's key, cookies, addresses or anything of one hop; clients never see cookies or account names.

What the client says in `anthropic-version` and `anthropic-beta` wins over an upstream's fixed field,
because only the client knows the API that it was written for. Every other fixed field wins.

The gateway answers with an `x-request-id` of its own, so the upstream's is kept as
`x-upstream-request-id`; Anthropic's `request-id` keeps its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

Fields = list[tuple[str, str]]

_UP = frozenset({"content-type", "accept", "user-agent", "idempotency-key", "traceparent", "tracestate"})
_UP_PREFIXES = ("openai-", "anthropic-", "x-stainless-")
_UP_NEVER = frozenset({"openai-api-key", "anthropic-api-key"})
_CLIENT_WINS = frozenset({"anthropic-version", "anthropic-beta"})

_DOWN = frozenset(
    {
        "content-type",
        "content-disposition",  # the name of a downloaded file
        "retry-after",
        "request-id",
        "x-upstream-request-id",
    }
)
_DOWN_PREFIXES = ("openai-", "anthropic-", "x-ratelimit-")
_RENAMED = {"x-request-id": "x-upstream-request-id"}
_DOWN_NEVER = frozenset({"openai-organization", "openai-project", "anthropic-organization-id"})


def upstream_headers(client: Iterable[tuple[str, str]], fixed: Mapping[str, str] | None = None) -> Fields:
    """What of a client's fields an upstream may see, names in lower case; then the upstream's fixed fields.

    Of a field that `fixed` (names in lower case) also has, one is left. The credential, the length and
    the host are no business of the client's and are added by whoever sends.
    """
    fixed = fixed or {}
    kept: Fields = []
    named: set[str] = set()
    for given, value in client:
        name = _up(given)
        if name is None or (name in fixed and name not in _CLIENT_WINS):
            continue
        if name == "connection":
            named |= _named(value)
        elif is_sendable(value):
            kept.append((name, value))
    if named:
        kept = [field for field in kept if field[0] not in named]
    if fixed:
        present = {name for name, _ in kept}
        kept += [(name, value) for name, value in fixed.items() if name not in present]
    return kept


def downstream_headers(upstream: Iterable[tuple[str, str]]) -> Fields:
    """What of an upstream's fields a client may see, names in lower case.

    Applying it twice changes nothing. Length, encoding and connection are the relay's own.
    """
    kept: Fields = []
    named: set[str] = set()
    for given, value in upstream:
        name = _down(given)
        if name is None:
            continue
        if name == "connection":
            named |= _named(value)
        elif value.isascii() and is_sendable(value):
            kept.append((name, value))
    if named:
        kept = [field for field in kept if field[0] not in named]
    return kept


def is_sendable(value: str) -> bool:
    """Can this be the value of a field: latin-1 without control characters (a tab is none)?"""
    if value.isascii() and value.isprintable():
        return True
    return all(char == "\t" or " " <= char <= "~" or "\xa0" <= char <= "\xff" for char in value)


# The same few names come with every request, so what they mean is remembered: bounded, because a
# client may make names up.


@lru_cache(maxsize=512)
def _up(name: str) -> str | None:
    """The name in lower case where the field may go up (or names others that may not), else None."""
    name = name.lower()
    if name in _UP_NEVER:
        return None
    return name if name in _UP or name.startswith(_UP_PREFIXES) or name == "connection" else None


@lru_cache(maxsize=512)
def _down(name: str) -> str | None:
    """The name under which a field comes down, None where it does not."""
    name = name.lower()
    name = _RENAMED.get(name, name)
    if name in _DOWN_NEVER:
        return None
    return name if name in _DOWN or name.startswith(_DOWN_PREFIXES) or name == "connection" else None


def _named(value: str) -> set[str]:
    """The fields that a Connection field declares to be of this hop only."""
    return {part.strip().lower() for part in value.split(",")}
