"""The operations on credentials. A secret goes in and never comes out again."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from gateway.admin import standings
from gateway.admin.context import Args, Context, Table
from gateway.errors import MissingError, RefusedError
from gateway.snapshot import Credential
from gateway.store import credentials, shown
from gateway.store.change import Changed
from gateway.store.secrets import check_secret

TABLE = Table("credentials")


Weight = Annotated[int, Meta(ge=1, le=1000)]


class Filter(Args):
    """Which credentials to list."""

    upstream: str | None = None


class Ref(Args):
    """Names a credential."""

    upstream: str
    name: str = "default"


class Add(Ref, kw_only=True):
    """A new credential."""

    secret: str
    weight: Weight = 1

    def __repr__(self) -> str:
        return f"Add(upstream={self.upstream!r}, name={self.name!r})"


class Set(Ref):
    """What changes of a credential."""

    secret: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"Set(upstream={self.upstream!r}, name={self.name!r}, enabled={self.enabled!r})"


@TABLE.verb("list", Filter, reads=True)
async def list_(context: Context, args: Filter) -> object:
    """List the credentials."""
    snapshot = context.store.snapshot
    if args.upstream is not None and args.upstream not in snapshot.upstreams:
        raise MissingError(f"there is no upstream {args.upstream!r}; known: {', '.join(snapshot.upstreams)}")
    found = await standings.known(context)
    return [
        {**shown.credential(credential), **standings.of_credential(found, credential)}
        for upstream, held in snapshot.credentials.items()
        for credential in held
        if args.upstream in (None, upstream)
    ]


@TABLE.verb("show", Ref, reads=True)
async def show(context: Context, args: Ref) -> object:
    """Show a credential: its hint, never its secret."""
    for credential in context.store.snapshot.credentials.get(args.upstream, ()):
        if credential.name == args.name:
            found = await standings.known(context)
            return {**shown.credential(credential), **standings.of_credential(found, credential)}
    raise MissingError(f"there is no credential {args.upstream}/{args.name}; `mlx-gateway credentials list`")


@TABLE.verb("add", Add)
async def add(context: Context, args: Add) -> object:
    """Seal a secret for an upstream."""
    secret = check_secret(args.secret)
    return _shown(
        await context.store.change(
            context.actor,
            lambda change: credentials.add(change, args.upstream, args.name, secret, weight=args.weight),
        )
    )


@TABLE.verb("set", Set)
async def set_(context: Context, args: Set) -> object:
    """Replace the secret of a credential, weigh it, or switch it on or off."""
    if args.secret is UNSET and args.enabled is UNSET and args.weight is UNSET:
        raise RefusedError("nothing to set: give a new secret, weight, or enabled")
    secret = None if args.secret is UNSET else check_secret(args.secret)
    enabled = None if args.enabled is UNSET else args.enabled
    weight = None if args.weight is UNSET else args.weight
    return _shown(
        await context.store.change(
            context.actor,
            lambda change: credentials.put(
                change, args.upstream, args.name, secret=secret, enabled=enabled, weight=weight
            ),
        )
    )


@TABLE.verb("remove", Ref)
async def remove(context: Context, args: Ref) -> object:
    """Remove a credential."""
    return _shown(
        await context.store.change(
            context.actor, lambda change: credentials.remove(change, args.upstream, args.name)
        )
    )


def _shown(done: Changed[Credential]) -> dict[str, object]:
    return {**shown.credential(done.value), "warnings": list(done.warnings)}
