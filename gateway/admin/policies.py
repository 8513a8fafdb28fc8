"""The operations on policies."""

from __future__ import annotations

from typing import Any

from gateway.admin.context import Args, Context, Table
from gateway.errors import MissingError
from gateway.failover.policy import Policy
from gateway.store import policies, shown
from gateway.store.change import Changed

TABLE = Table("policies")


class Ref(Args):
    """Names a policy."""

    name: str


class Put(Ref):
    """A policy and the knobs to set; null takes one back to its default."""

    knobs: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it for every instance


@TABLE.verb("list", reads=True)
async def list_(context: Context, _: Args) -> object:
    """List the policies, the built-in ones first."""
    return [shown.policy(policy) for policy in context.store.snapshot.policies.values()]


@TABLE.verb("show", Ref, reads=True)
async def show(context: Context, args: Ref) -> object:
    """Show a policy with all its knobs."""
    known = context.store.snapshot.policies
    if args.name not in known:
        raise MissingError(f"there is no policy {args.name!r}; known: {', '.join(known)}")
    return shown.policy(known[args.name])


@TABLE.verb("add", Put)
async def add(context: Context, args: Put) -> object:
    """Add a policy."""
    return _shown(
        await context.store.change(context.actor, lambda change: policies.add(change, args.name, args.knobs))
    )


@TABLE.verb("set", Put)
async def set_(context: Context, args: Put) -> object:
    """Set knobs of a policy; a new name makes a new policy."""
    return _shown(
        await context.store.change(context.actor, lambda change: policies.put(change, args.name, args.knobs))
    )


@TABLE.verb("remove", Ref)
async def remove(context: Context, args: Ref) -> object:
    """Remove a policy; a built-in one goes back to what it is."""
    return _shown(
        await context.store.change(context.actor, lambda change: policies.remove(change, args.name))
    )


def _shown(done: Changed[Policy]) -> dict[str, object]:
    return {**shown.policy(done.value), "warnings": list(done.warnings)}
