"""`upstreams`: the cloud APIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from gateway.cli.abilities import AbilityType, AbilityView, in_words
from gateway.cli.command import Noun, common
from gateway.cli.credentials import CredentialView, credential_table
from gateway.cli.home import NAME
from gateway.cli.output import Cell, hint, lasting, line, record, show, table, warn
from gateway.cli.session import ask, view
from gateway.errors import RefusedError
from gateway.snapshot import AuthStyle, Spread
from gateway.wire.dialect import Dialect

F = TypeVar("F", bound=Callable[..., Any])


class UpstreamView(msgspec.Struct):
    name: str
    dialect: str
    base_url: str
    auth: str = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    connect_s: float | None = None
    list_models: bool = True
    enabled: bool = True
    note: str = ""
    abilities: list[AbilityView] = []
    spread: str = ""
    warnings: list[str] = []


class CoolingView(msgspec.Struct):
    backend: str
    state: str = ""
    model: str | None = None
    credential: str | None = None
    outcome: str = ""
    until_s: float | None = None
    reason: str = ""


class DetailView(UpstreamView):
    credentials: list[CredentialView] = []
    cooling: list[CoolingView] = []


class ResetView(msgspec.Struct):
    cleared: list[CoolingView]


class PresetView(msgspec.Struct):
    name: str
    title: str = ""
    dialect: str = ""
    base_url: str | None = None
    auth: str = ""
    key_env: str | None = None
    hint: str = ""


class TrialView(msgspec.Struct):
    ok: bool
    outcome: str = ""
    message: str = ""
    ms: float = 0.0
    models: list[str] = []


class _Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE. A pair that can't be read is not repeated: it may hold a key."""

    name = "name=value"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not equals or not name.strip():
            self.fail("expected NAME=VALUE", param, ctx)
        return name.strip(), text.strip()


command = Noun("upstreams", help="The cloud APIs, each under a name that rules use as a target.")


def _settings(function: F) -> F:
    options = (
        click.option(
            "--dialect",
            type=click.Choice([str(dialect) for dialect in Dialect]),
            help="Whose JSON it speaks.",
        ),
        click.option(
            "--base-url", metavar="URL", help="Up to and with its version, such as https://host/v1."
        ),
        click.option(
            "--auth",
            type=click.Choice([str(style) for style in AuthStyle]),
            help="How it wants to be shown a credential.",
        ),
        click.option(
            "--header", type=_Pair(), multiple=True, help="Fixed header; repeat it for more. Never a key."
        ),
        click.option(
            "--query",
            type=_Pair(),
            multiple=True,
            help="Fixed part of the query, such as api-version; repeat it for more.",
        ),
        click.option("--connect-s", type=float, metavar="SECONDS", help="Longest wait for a connection."),
        click.option("--list-models/--no-list-models", default=None, help="May /v1/models ask it?"),
        click.option("--note", help="What it is for."),
        click.option(
            "--ability",
            type=AbilityType(),
            multiple=True,
            help="What its models can do, such as 'gpt-3.5*: context=16385, vision=no'; also tools, json and "
            "prefill. Without PATTERN: of all models. Repeat it for more; '' is none.",
        ),
        click.option(
            "--spread",
            type=click.Choice([str(spread) for spread in Spread]),
            help="Of several credentials: the heaviest first, or each as often as its weight says.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("list")
def list_() -> None:
    """List the upstreams."""
    answer = ask("upstreams.list")
    show(answer, lambda: _table(view(answer, list[UpstreamView])))


@command.command("show")
@click.argument("name")
def show_(name: str) -> None:
    """Show an upstream, and what of it is left alone now."""
    answer = ask("upstreams.show", {"name": name})
    show(answer, lambda: _detail(view(answer, DetailView)))


@command.command()
@click.argument("name")
@click.option("--preset", help=f"A well-known API; see {NAME} upstreams presets.")
@_settings
def add(name: str, preset: str | None, **given: Any) -> None:
    """Add an upstream, from a preset or with --dialect and --base-url."""
    if preset is None and given["base_url"] is None:
        raise click.UsageError(
            f"where is it? give --base-url, or --preset (`{NAME} upstreams presets` lists them)"
        )
    args = {"name": name, **_given(given)}
    if preset is not None:
        args["preset"] = preset
    answer = ask("upstreams.add", args)
    upstream = view(answer, UpstreamView)
    show(answer, lambda: line(f"added upstream {upstream.name}: {upstream.dialect} at {upstream.base_url}"))
    warn(upstream.warnings)
    if upstream.auth != AuthStyle.NONE:
        hint(f"next, its key:  {NAME} credentials add {upstream.name}")


@command.command("set")
@click.argument("name")
@_settings
@click.option("--enable/--disable", "enabled", default=None, help="Use it or leave it alone.")
def set_(name: str, **given: Any) -> None:
    """Change what is given of an upstream; --header, --query and --ability replace all that were there."""
    changes = _given(given)
    if not changes:
        raise click.UsageError("nothing to change; give what is to be different, such as --connect-s 3")
    answer = ask("upstreams.set", {"name": name, **changes})
    upstream = view(answer, UpstreamView)
    show(answer, lambda: line(f"changed upstream {upstream.name}: {upstream.dialect} at {upstream.base_url}"))
    warn(upstream.warnings)


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove an upstream that no rule uses."""
    answer = ask("upstreams.remove", {"name": name})
    show(answer, lambda: line(f"removed upstream {name}"))


@command.command()
@click.argument("name")
def test(name: str) -> None:
    """Ask an upstream for its models, with our credential. Exit code 1 when that fails."""
    answer = ask("upstreams.test", {"name": name})
    found = view(answer, TrialView)
    if not found.ok and not common().json:
        raise RefusedError(f"{name} failed after {found.ms:.0f} ms ({found.outcome}): {found.message}")
    show(answer, lambda: line(f"{name} works: it lists {len(found.models)} models ({found.ms:.0f} ms)"))
    if not found.ok:
        click.get_current_context().exit(1)


@command.command()
@click.argument("name")
@click.option("--credential", metavar="NAME", help="Only what is known against this one.")
def reset(name: str, credential: str | None) -> None:
    """Ask an upstream again at once: forget its cooldowns, and that its credentials are dead or unpaid.

    The name `local` is this machine's models.
    """
    args = {"name": name} if credential is None else {"name": name, "credential": credential}
    answer = ask("upstreams.reset", args)
    show(answer, lambda: _cleared(name, view(answer, ResetView).cleared))


@command.command()
def presets() -> None:
    """List the well-known APIs for `upstreams add NAME --preset PRESET`."""
    answer = ask("upstreams.presets")
    show(answer, lambda: _presets(view(answer, list[PresetView])))


def _given(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as the operation takes them."""
    chosen = {key: value for key, value in given.items() if value not in (None, ())}
    if "header" in chosen:
        chosen["headers"] = dict(chosen.pop("header"))
    if "query" in chosen:
        chosen["query"] = dict(chosen["query"])
    if "ability" in chosen:
        chosen["abilities"] = [ability for ability in chosen.pop("ability") if ability]
    return chosen


def _table(upstreams: list[UpstreamView]) -> None:
    if not upstreams:
        hint(f"no upstreams yet. Add one:\n  {NAME} upstreams add openai --preset openai")
        return
    table(
        ("Upstream", "Dialect", "Base URL", "Auth", "", "Note"),
        [(u.name, u.dialect, u.base_url, u.auth, "" if u.enabled else "off", u.note) for u in upstreams],
        spare=("Note",),
    )


def _record(upstream: UpstreamView) -> None:
    pairs: list[tuple[str, Cell]] = [
        ("upstream", upstream.name),
        ("dialect", upstream.dialect),
        ("base url", upstream.base_url),
        ("auth", upstream.auth),
        *(("header", f"{name}: {value}") for name, value in upstream.headers.items()),
        *(("query", f"{name}={value}") for name, value in upstream.query.items()),
        ("connect_s", upstream.connect_s),
        ("list models", upstream.list_models),
        ("enabled", upstream.enabled),
        ("spread", upstream.spread),
        *(("ability", in_words(ability)) for ability in upstream.abilities),
        ("note", upstream.note),
    ]
    record(pairs)


def _detail(upstream: DetailView) -> None:
    _record(upstream)
    if upstream.credentials:
        line("\nCredentials")
        credential_table(upstream.credentials, upstream=False)
    if upstream.cooling:
        line("\nCooling")
        table(
            ("Model", "Credential", "State", "Outcome", "For", "Reason"),
            [
                (c.model or "all", c.credential, c.state, c.outcome, _for(c), c.reason)
                for c in upstream.cooling
            ],
            spare=("Reason",),
        )


def _cleared(name: str, cleared: list[CoolingView]) -> None:
    if not cleared:
        line(f"there was nothing against {name}; it is asked as usual")
    for one in cleared:
        whose = f" with credential {one.credential}" if one.credential else ""
        what = f"{name}/{one.model}{whose}" if one.model else f"credential {name}/{one.credential}"
        line(f"cleared {what}: it was {one.state} ({one.outcome})")


def _for(cooling: CoolingView) -> str:
    return "good" if cooling.until_s is None else lasting(cooling.until_s)


def _presets(known: list[PresetView]) -> None:
    table(
        ("Preset", "API", "Dialect", "Base URL", "Usual variable"),
        [(p.name, p.title, p.dialect, p.base_url or "give --base-url", p.key_env) for p in known],
        spare=("API",),
    )
