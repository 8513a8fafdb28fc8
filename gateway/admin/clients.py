"""The operations on client keys. A key is in the answer to `add` and nowhere else, ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import UNSET, UnsetType

from gateway.admin.context import Args, Context, Table, something
from gateway.errors import MissingError
from gateway.snapshot import ClientKey
from gateway.store import clients, shown
from gateway.store.change import Change, Changed

TABLE = Table("clients")


class Ref(Args):
    """Names a client key."""

    name: str


class Add(Ref):
    """A new client key."""

    admin: bool = False
    expires_days: float | None = None


class Set(Ref):
    """What changes of a client key; `expires_days` null means never."""

    admin: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    expires_days: float | UnsetType | None = UNSET


@TABLE.verb("list", reads=True)
async def list_(context: Context, _: Args) -> object:
    """List the client keys."""
    return [shown.client(client) for client in context.store.snapshot.clients.values()]


@TABLE.verb("show", Ref, reads=True)
async def show(context: Context, args: Ref) -> object:
    """Show a client key: how it begins, never the key."""
    for client in context.store.snapshot.clients.values():
        if client.name == args.name:
            return shown.client(client)
    raise MissingError(f"there is no client key {args.name!r}; `mlx-gateway clients list` shows them")


@TABLE.verb("add", Add)
async def add(context: Context, args: Add) -> object:
    """Make a client key and show it, this once."""
    done = await context.store.change(
        context.actor,
        lambda change: clients.add(change, args.name, admin=args.admin, expires_days=args.expires_days),
    )
    new = done.value
    return {**shown.client(new.client), "key": new.key.reveal(), "warnings": list(done.warnings)}


@TABLE.verb("set", Set)
async def set_(context: Context, args: Set) -> object:
    """Change what a client key may do, whether it works, or when it ends."""
    given: dict[str, Any] = {
        name: getattr(args, name) for name in ("admin", "enabled") if getattr(args, name) is not UNSET
    }
    if args.expires_days is not UNSET:
        given["expires_at"] = clients.expiry(args.expires_days)

    def verb(change: Change) -> ClientKey:
        return clients.put(change, replace(clients.find(change, args.name), **something(given)))

    return _shown(await context.store.change(context.actor, verb))


@TABLE.verb("remove", Ref)
async def remove(context: Context, args: Ref) -> object:
    """Remove a client key; it stops working at once."""
    return _shown(await context.store.change(context.actor, lambda change: clients.remove(change, args.name)))


def _shown(done: Changed[ClientKey]) -> dict[str, object]:
    return {**shown.client(done.value), "warnings": list(done.warnings)}
