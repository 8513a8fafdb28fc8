"""`clients`: the keys that apps show the gateway."""

from __future__ import annotations

import math
import platform

import click
import msgspec

from gateway.cli.command import Noun
from gateway.cli.home import NAME, the_config, the_home
from gateway.cli.output import hint, line, record, show, table, warn, when
from gateway.cli.session import ask, view
from gateway.config import Server
from gateway.errors import ConfigError


class ClientView(msgspec.Struct):
    name: str
    prefix: str = ""
    admin: bool = False
    enabled: bool = True
    expires_at: str | None = None
    key: str = ""
    warnings: list[str] = []


command = Noun(
    "clients",
    help="The keys that apps show the gateway.\n\nWithout any, whoever is on this machine may call, and no "
    "other machine. With the first one, every call needs a key.",
)


def _days(_: click.Context, __: click.Parameter, value: str | None) -> object:
    if value is None:
        return _UNCHANGED
    if value == "never":
        return None
    try:
        days = float(value)
    except ValueError:
        days = math.nan
    if not math.isfinite(days):
        raise click.BadParameter("expected a number of days, or never")
    return days


_UNCHANGED = object()  # `never` is None
_expires = click.option(
    "--expires-days", metavar="DAYS", callback=_days, help="It ends so many days from now, or `never`."
)


@command.command("list")
def list_() -> None:
    """List the client keys."""
    answer = ask("clients.list")
    show(answer, lambda: _table(view(answer, list[ClientView])))


@command.command("show")
@click.argument("name")
def show_(name: str) -> None:
    """Show a client key, without the key."""
    answer = ask("clients.show", {"name": name})
    show(answer, lambda: _record(view(answer, ClientView)))


@command.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="It may also change rules and read the status, over HTTP.")
@_expires
def add(name: str, admin: bool, expires_days: object) -> None:
    """Make a key for an app and print it, this once."""
    days = None if expires_days is _UNCHANGED else expires_days
    answer = ask("clients.add", {"name": name, "admin": admin, "expires_days": days})
    client = view(answer, ClientView)
    show(answer, lambda: _introduce(client))
    warn(client.warnings)


@command.command("set")
@click.argument("name")
@click.option("--admin/--no-admin", default=None, help="May it change rules and read the status, over HTTP?")
@click.option("--enable/--disable", "enabled", default=None, help="Does it work?")
@_expires
def set_(name: str, expires_days: object, **given: bool | None) -> None:
    """Change what a client key may do, or how long."""
    changes: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if expires_days is not _UNCHANGED:
        changes["expires_days"] = expires_days
    if not changes:
        raise click.UsageError(
            "nothing to change; give --admin, --no-admin, --enable, --disable or --expires-days"
        )
    answer = ask("clients.set", {"name": name, **changes})
    client = view(answer, ClientView)
    show(answer, lambda: line(f"changed client key {client.name}"))
    warn(client.warnings)


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a client key; it stops working at once."""
    answer = ask("clients.remove", {"name": name})
    show(answer, lambda: line(f"removed client key {name}"))
    warn(view(answer, ClientView).warnings)


def _table(clients: list[ClientView]) -> None:
    if not clients:
        hint(
            "no client keys yet: programs on this machine may call without one, other machines not at all.\n"
            f"  {NAME} clients add laptop"
        )
        return
    table(
        ("Client", "Key", "Admin", "Expires", ""),
        [
            (c.name, f"{c.prefix}...", c.admin, when(c.expires_at), "" if c.enabled else "off")
            for c in clients
        ],
    )


def _record(client: ClientView) -> None:
    record(
        [
            ("client", client.name),
            ("key", f"{client.prefix}..."),
            ("admin", client.admin),
            ("enabled", client.enabled),
            ("expires", when(client.expires_at)),
        ]
    )


def _introduce(client: ClientView) -> None:
    base = _base_url()
    line(
        f"added client key {client.name}; it is shown this once, only its hash is kept:\n\n"
        f"  {client.key}\n\n"
        "An app that speaks to OpenAI:\n"
        f"  export OPENAI_BASE_URL={base}/v1\n"
        f"  export OPENAI_API_KEY={client.key}\n\n"
        "An app that speaks to Anthropic:\n"
        f"  export ANTHROPIC_BASE_URL={base}\n"
        f"  export ANTHROPIC_API_KEY={client.key}"
    )


def _base_url() -> str:
    """Where apps find the gateway, as far as this command can know."""
    try:
        server = the_config(the_home())[0].server
    except ConfigError:
        server = Server()  # the daemon has its own; a broken file here is not this command's matter
    host = platform.node() if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
