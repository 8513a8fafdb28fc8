"""Client keys: made here, shown once, known afterwards by their hash alone."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from gateway.errors import MissingError, RefusedError
from gateway.snapshot import ClientKey
from gateway.store import shown
from gateway.store.change import Change
from gateway.store.models import ClientKeyRow
from gateway.store.names import check_name, check_new
from gateway.store.secrets import Secret

PREFIX = "mlxg_"
_SHOWN = len(PREFIX) + 4
_DAY_S = 86400.0
_MOST_DAYS = 3650.0


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that has just been made: the only moment at which it is known."""

    client: ClientKey
    key: Secret


def digest_of(key: str) -> bytes:
    """What a key is looked up by. It is 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def find(change: Change, name: str) -> ClientKey:
    """The client key; MissingError when there is none."""
    for client in change.before.clients.values():
        if client.name == name:
            return client
    known = ", ".join(client.name for client in change.before.clients.values()) or "none yet"
    raise MissingError(f"there is no client key {name!r}; known: {known}")


def add(change: Change, name: str, *, admin: bool = False, expires_days: float | None = None) -> NewKey:
    """Make a key for a caller of the gateway."""
    check_name(name, "client")
    check_new(name, [client.name for client in change.before.clients.values()], "client key")
    key = PREFIX + secrets.token_urlsafe(32)
    row = ClientKeyRow.create(
        name=name,
        digest=digest_of(key),
        prefix=key[:_SHOWN],
        admin=admin,
        enabled=True,
        expires_at=expiry(expires_days),
    )
    client = ClientKey(
        id=row.id,
        name=name,
        digest=digest_of(key),
        prefix=key[:_SHOWN],
        admin=admin,
        expires_at=row.expires_at,
    )
    change.record("clients", name, "add", after=dict(shown.client(client)))
    return NewKey(client, Secret(key))


def put(change: Change, client: ClientKey) -> ClientKey:
    """Write what a key may do, whether it works and when it ends; the key itself never changes."""
    before = find(change, client.name)
    ClientKeyRow.update(admin=client.admin, enabled=client.enabled, expires_at=client.expires_at).where(
        ClientKeyRow.id == client.id
    ).execute()
    change.record(
        "clients", client.name, "set", before=dict(shown.client(before)), after=dict(shown.client(client))
    )
    return client


def remove(change: Change, name: str) -> ClientKey:
    """Remove a key; it stops working with the next snapshot."""
    client = find(change, name)
    ClientKeyRow.delete().where(ClientKeyRow.id == client.id).execute()
    change.record("clients", name, "remove", before=dict(shown.client(client)))
    return client


def expiry(days: float | None) -> float | None:
    """The Unix time so many days from now; None is never."""
    if days is None:
        return None
    if not 0 < days <= _MOST_DAYS:
        raise RefusedError(f"expires_days must be more than 0 and at most {_MOST_DAYS:g}, not {days:g}")
    return time.time() + days * _DAY_S
