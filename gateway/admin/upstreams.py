"""The operations on upstreams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import UNSET, UnsetType, structs

from gateway.admin import standings
from gateway.admin.context import Args, Context, Table, something
from gateway.errors import MissingError, RefusedError
from gateway.failover.ability import Ability
from gateway.routing.rule import LOCAL
from gateway.snapshot import AuthStyle, Credential, Spread, Upstream
from gateway.store import shown, upstreams
from gateway.store import standings as stored
from gateway.store.change import Change, Changed
from gateway.store.presets import PRESETS, Preset
from gateway.wire.dialect import Dialect

TABLE = Table("upstreams")


class Ref(Args):
    """Names an upstream."""

    name: str


class AbilityEntry(Args):
    """What the models can do whose names match `pattern`; what is left out is not known."""

    pattern: str = "*"
    context: int | None = None
    vision: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    prefill: bool | None = None
    responses: bool | None = None


class Fields(Args):
    """What an upstream may be given; what is left out stays, or comes from the preset."""

    dialect: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    auth: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    query: dict[str, str] | UnsetType = UNSET
    connect_s: float | UnsetType = UNSET
    list_models: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    note: str | UnsetType = UNSET
    abilities: list[AbilityEntry] | UnsetType = UNSET
    spread: str | UnsetType = UNSET


class Add(Fields, kw_only=True):
    """A new upstream, from a preset or from scratch."""

    name: str
    preset: str | UnsetType = UNSET


class Set(Fields, kw_only=True):
    """What changes of an upstream."""

    name: str


class Reset(Ref):
    """What to forget: all of the upstream, or of one credential. The name `local` is this machine."""

    credential: str | None = None


@TABLE.verb("list", reads=True)
async def list_(context: Context, _: Args) -> object:
    """List the upstreams."""
    return [shown.upstream(upstream) for upstream in context.store.snapshot.upstreams.values()]


@TABLE.verb("show", Ref, reads=True)
async def show(context: Context, args: Ref) -> object:
    """Show an upstream, its credentials, and what of it is left alone now."""
    upstream = _known(context, args.name)
    snapshot, found = context.store.snapshot, await standings.known(context)
    return {
        **shown.upstream(upstream),
        "credentials": [
            {**shown.credential(credential), **standings.of_credential(found, credential)}
            for credential in snapshot.credentials.get(args.name, ())
        ],
        "cooling": standings.cooling(found, snapshot, backend=args.name),
    }


@TABLE.verb("add", Add)
async def add(context: Context, args: Add) -> object:
    """Add an upstream."""
    preset = None if args.preset is UNSET else args.preset
    made = new_upstream(args.name, preset, given_fields(args))
    done = await context.store.change(context.actor, lambda change: upstreams.add(change, made))
    return _shown(done)


@TABLE.verb("set", Set)
async def set_(context: Context, args: Set) -> object:
    """Change an upstream."""
    given = something(given_fields(args))

    def verb(change: Change) -> Upstream:
        return upstreams.put(change, replace(upstreams.find(change, args.name), **given))

    return _shown(await context.store.change(context.actor, verb))


@TABLE.verb("remove", Ref)
async def remove(context: Context, args: Ref) -> object:
    """Remove an upstream that nothing refers to."""
    return _shown(
        await context.store.change(context.actor, lambda change: upstreams.remove(change, args.name))
    )


@TABLE.verb("test", Ref, reads=True)
async def test(context: Context, args: Ref) -> object:
    """Ask an upstream for its models, to see that it can be reached and takes our credential."""
    _known(context, args.name)
    return await context.running("upstreams.test").test_upstream(args.name)


@TABLE.verb("reset", Reset)
async def reset(context: Context, args: Reset) -> object:
    """Forget what is known against an upstream, so that it is asked again at once."""
    if args.name != LOCAL:
        _known(context, args.name)
    snapshot, found = context.store.snapshot, await standings.known(context)
    credential = None if args.credential is None else _credential(context, args.name, args.credential)
    cleared = [
        one
        for one in standings.cooling(found, snapshot, backend=args.name)
        if credential is None or one["credential"] == credential.name
    ]
    number = None if credential is None else credential.id
    if context.live is not None:
        await context.live.reset(args.name, number)
    else:
        await context.store.change(context.actor, lambda _: stored.clear(args.name, number))
    return {"upstream": args.name, "credential": args.credential, "cleared": cleared}


@TABLE.verb("presets", reads=True)
async def presets(_: Context, __: Args) -> object:
    """List the upstreams that are known by name."""
    return [_shown_preset(preset) for preset in PRESETS.values()]


def given_fields(args: Fields) -> dict[str, Any]:
    """The fields that were given, as a record has them. Raises RefusedError for an unknown word."""
    given = {
        name: getattr(args, name) for name in Fields.__struct_fields__ if getattr(args, name) is not UNSET
    }
    if "dialect" in given:
        given["dialect"] = _word("dialect", given["dialect"], Dialect)
    if "auth" in given:
        given["auth"] = _word("auth", given["auth"], AuthStyle)
    if "spread" in given:
        given["spread"] = _word("spread", given["spread"], Spread)
    if "abilities" in given:
        given["abilities"] = tuple(Ability(**structs.asdict(entry)) for entry in given["abilities"])
    for name in ("headers", "query"):
        if name in given:
            given[name] = tuple(given[name].items())
    return given


def new_upstream(name: str, preset: str | None, given: dict[str, Any]) -> Upstream:
    """The upstream that a preset and the given fields make together; the fields win."""
    ground = _preset(preset) if preset is not None else None
    base_url = given.get("base_url") or (ground.base_url if ground else None)
    if base_url is None:
        hint = ground.hint if ground else "give --base-url, or --preset with one of: " + ", ".join(PRESETS)
        raise RefusedError(f"the upstream {name!r} needs a base URL; {hint}")
    if ground is None:
        dialect = given.get("dialect", Dialect.OPENAI)
        auth = AuthStyle.X_API_KEY if dialect is Dialect.ANTHROPIC else AuthStyle.BEARER
        ground = replace(
            PRESETS["anthropic"] if dialect is Dialect.ANTHROPIC else PRESETS["openai"], auth=auth
        )
    made = Upstream(
        name=name,
        dialect=ground.dialect,
        base_url=base_url,
        auth=ground.auth,
        headers=ground.headers,
        query=ground.query,
        list_models=ground.list_models,
        abilities=ground.abilities,
    )
    return replace(made, **given)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise RefusedError(f"there is no preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def _known(context: Context, name: str) -> Upstream:
    known = context.store.snapshot.upstreams
    if name not in known:
        raise MissingError(f"there is no upstream {name!r}; known: {', '.join(known) or 'none yet'}")
    return known[name]


def _credential(context: Context, upstream: str, name: str) -> Credential:
    held = context.store.snapshot.credentials.get(upstream, ())
    for credential in held:
        if credential.name == name:
            return credential
    known = ", ".join(credential.name for credential in held) or "none yet"
    raise MissingError(f"the upstream {upstream!r} has no credential {name!r}; known: {known}")


def _word(
    key: str, value: str, kind: type[Dialect] | type[AuthStyle] | type[Spread]
) -> Dialect | AuthStyle | Spread:
    try:
        return kind(value)
    except ValueError:
        raise RefusedError(f"{key} must be one of {', '.join(kind)}, not {value[:80]!r}") from None


def _shown_preset(preset: Preset) -> dict[str, object]:
    return {
        "name": preset.name,
        "title": preset.title,
        "dialect": str(preset.dialect),
        "base_url": preset.base_url,
        "auth": str(preset.auth),
        "headers": dict(preset.headers),
        "list_models": preset.list_models,
        "abilities": [shown.ability(each) for each in preset.abilities],
        "key_env": preset.key_env,
        "hint": preset.hint,
    }


def _shown(done: Changed[Upstream]) -> dict[str, object]:
    return {**shown.upstream(done.value), "warnings": list(done.warnings)}
