"""Upstreams: what one may be, and the verbs that write them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from gateway.errors import MissingError, RefusedError
from gateway.routing.rule import Rule
from gateway.snapshot import Upstream
from gateway.store import abilities, shown
from gateway.store.change import Change
from gateway.store.models import UpstreamRow
from gateway.store.names import check_new, check_note, check_upstream_name
from gateway.store.urls import base_url

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
_CONNECT = (0.05, 60.0)
# Fixed headers are shown in lists and exports, and some belong to the connection.
_NOT_FIXED = frozenset(
    (
        *("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"),
        *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("content-length", "content-type", "content-encoding", "accept-encoding"),
    )
)


def find(change: Change, name: str) -> Upstream:
    """The upstream; MissingError when there is none."""
    upstream = change.before.upstreams.get(name)
    if upstream is None:
        known = ", ".join(change.before.upstreams) or "none yet"
        raise MissingError(f"there is no upstream {name!r}; known: {known}")
    return upstream


def add(change: Change, upstream: Upstream, *, action: str = "add") -> Upstream:
    """Write a new upstream, its base URL normalised."""
    check_upstream_name(upstream.name)
    check_new(upstream.name, change.before.upstreams, "upstream")
    made = _checked(change, upstream)
    UpstreamRow.create(name=made.name, **_columns(made))
    change.record("upstreams", made.name, action, after=dict(shown.upstream(made)))
    return made


def put(change: Change, upstream: Upstream, *, action: str = "set") -> Upstream:
    """Write an upstream that exists as it is now. A new base URL is refused while secrets are sealed
    to the old one: they must not follow to a place that they weren't given for.
    """
    before = find(change, upstream.name)
    made = _checked(change, upstream)
    held = change.before.credentials.get(made.name, ())
    if made.base_url != before.base_url and held:
        names = ", ".join(credential.name for credential in held)
        raise RefusedError(
            f"the base URL of {made.name!r} can't change while it has credentials ({names}): they are sealed "
            f"to {before.base_url}; remove them, change the URL, and enter them again"
        )
    UpstreamRow.update(**_columns(made)).where(UpstreamRow.name == made.name).execute()
    change.record(
        "upstreams",
        made.name,
        action,
        before=dict(shown.upstream(before)),
        after=dict(shown.upstream(made)),
    )
    return made


def remove(change: Change, name: str) -> Upstream:
    """Remove an upstream that no credential belongs to and no rule names."""
    upstream = find(change, name)
    held = change.before.credentials.get(name, ())
    if held:
        names = ", ".join(credential.name for credential in held)
        raise RefusedError(f"the upstream {name!r} has credentials ({names}); remove them first")
    if change.before.rules.default_target.backend == name:
        raise RefusedError(
            f"the upstream {name!r} is routing.default_target in the configuration; change that first"
        )
    users = [rule for rule in change.before.rules.rules if _names(rule, name)]
    if users:
        listed = ", ".join(f"{rule.id} ({rule.pattern})" for rule in users)
        raise RefusedError(f"the upstream {name!r} is a target of these rules: {listed}; change them first")
    UpstreamRow.delete().where(UpstreamRow.name == name).execute()
    change.record("upstreams", name, "remove", before=dict(shown.upstream(upstream)))
    return upstream


def _names(rule: Rule, upstream: str) -> bool:
    return any(target.backend == upstream for target in rule.targets)


def _checked(change: Change, upstream: Upstream) -> Upstream:
    url = base_url(upstream.base_url)
    if url.warning is not None:
        change.warn(url.warning)
    low, high = _CONNECT
    if not low <= upstream.connect_s <= high:
        raise RefusedError(f"connect_s must be between {low:g} and {high:g}, not {upstream.connect_s:g}")
    for name, value in upstream.headers:
        _check_header(name, value)
    for name, value in upstream.query:
        if not name or not (name + value).isprintable() or len(name) + len(value) > 1000:
            raise RefusedError(
                f"query {name[:64]!r}: name and value must be short and printable, the name not empty"
            )
    check_note(upstream.note)
    abilities.check(upstream.abilities)
    return replace(upstream, base_url=url.text)


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.match(name):
        raise RefusedError(f"header {name[:64]!r} is no header name")
    if name.lower() in _NOT_FIXED:
        raise RefusedError(f"header {name!r} can't be a fixed one; a key goes into a credential")
    if not value.isascii() or not value.isprintable() or len(value) > 1000:
        raise RefusedError(f"the value of header {name!r} must be short, printable ASCII")


def _columns(upstream: Upstream) -> dict[str, object]:
    return {
        "dialect": str(upstream.dialect),
        "base_url": upstream.base_url,
        "auth": str(upstream.auth),
        "headers": json.dumps(dict(upstream.headers)),
        "query": json.dumps(dict(upstream.query)),
        "connect_s": upstream.connect_s,
        "list_models": upstream.list_models,
        "enabled": upstream.enabled,
        "note": upstream.note,
        "abilities": abilities.write(upstream.abilities),
        "spread": str(upstream.spread),
    }
