"""`credentials`: what the gateway shows the upstreams. A secret goes in and never comes out."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from gateway.cli.command import Noun, SecretVerb
from gateway.cli.home import NAME
from gateway.cli.output import hint, lasting, line, record, show, table, warn
from gateway.cli.secret import read_secret
from gateway.cli.session import ask, view


class CredentialView(msgspec.Struct):
    upstream: str
    name: str = "default"
    hint: str = ""
    version: int = 1
    enabled: bool = True
    weight: int = 1
    standing: str = ""
    until_s: float | None = None
    warnings: list[str] = []


# What keys of providers begin with, and what no one calls an upstream.
_SECRET = re.compile(
    r"(sk|pk|gsk|xai|hf|pplx|nvapi|mlxg)[-_]|AIza|(?=.*\d)[A-Za-z0-9]{20,}\Z|.{65,}", re.DOTALL
)

command = Noun(
    "credentials",
    help="What the gateway shows the upstreams.\n\nA secret is read from a variable (--from-env), from "
    "standard input, or at a prompt; it is stored sealed and shown as sk-...abcd.",
)


def _upstream_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """`credentials add sk-...` is a slip that must not end up in a message."""
    if value is not None and _SECRET.match(value):
        raise click.UsageError(
            f"the first argument is an upstream's name ({NAME} upstreams list), never a secret"
        )
    return value


_upstream = click.argument("upstream", callback=_upstream_name)
_name = click.option(
    "--name", default="default", show_default=True, help="To tell several of one upstream apart."
)
_weight = click.option(
    "--weight",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Of several the heaviest is used first, or more often (upstreams set --spread). Default: 1.",
)
_from_env = click.option("--from-env", metavar="VARIABLE", help="Read the secret from this variable.")


@command.command("list")
@click.argument("upstream", required=False, callback=_upstream_name)
def list_(upstream: str | None) -> None:
    """List the credentials, of one upstream or of all."""
    answer = ask("credentials.list", {"upstream": upstream} if upstream else {})
    show(answer, lambda: _table(view(answer, list[CredentialView]), upstream))


@command.command("show")
@_upstream
@_name
def show_(upstream: str, name: str) -> None:
    """Show a credential, without its secret."""
    answer = ask("credentials.show", {"upstream": upstream, "name": name})
    show(answer, lambda: _record(view(answer, CredentialView)))


@command.command(cls=SecretVerb)
@_upstream
@_name
@_from_env
@_weight
def add(upstream: str, name: str, from_env: str | None, weight: int | None) -> None:
    """Add a credential of UPSTREAM."""
    secret = read_secret(from_env, prompt=f"key for {upstream}")
    args: dict[str, Any] = {"upstream": upstream, "name": name, "secret": secret}
    if weight is not None:
        args["weight"] = weight
    answer = ask("credentials.add", args)
    _tell("added", answer)
    hint(f"try it while the gateway runs:  {NAME} upstreams test {upstream}")


@command.command("set", cls=SecretVerb)
@_upstream
@_name
@_from_env
@_weight
@click.option(
    "--enable/--disable", "enabled", default=None, help="Use it or leave it alone; asks for no secret."
)
def set_(upstream: str, name: str, from_env: str | None, weight: int | None, enabled: bool | None) -> None:
    """Give a credential a new secret or weight, or switch it on and off."""
    args: dict[str, Any] = {"upstream": upstream, "name": name}
    if enabled is not None:
        args["enabled"] = enabled
    if weight is not None:
        args["weight"] = weight
    if (enabled is None and weight is None) or from_env is not None:
        args["secret"] = read_secret(from_env, prompt=f"new key for {upstream}")
    _tell("changed", ask("credentials.set", args))


@command.command(cls=SecretVerb)
@_upstream
@_name
def remove(upstream: str, name: str) -> None:
    """Remove a credential."""
    answer = ask("credentials.remove", {"upstream": upstream, "name": name})
    show(answer, lambda: line(f"removed credential {upstream}/{name}"))


def _table(credentials: list[CredentialView], upstream: str | None) -> None:
    if not credentials:
        hint(
            "no credentials yet. Add one:\n"
            f"  {NAME} credentials add {upstream or 'openai'} --from-env OPENAI_API_KEY"
        )
        return
    credential_table(credentials)


def credential_table(credentials: list[CredentialView], *, upstream: bool = True) -> None:
    """Print credentials, with the upstream they belong to where that isn't plain."""
    table(
        ("Upstream", "Name", "Secret", "Version", "Weight", "Standing", ""),
        [
            (
                *(c.upstream if upstream else None, c.name, c.hint, c.version, c.weight),
                *(_standing(c), "" if c.enabled else "off"),
            )
            for c in credentials
        ],
    )


def _standing(credential: CredentialView) -> str:
    if credential.until_s is None:
        return credential.standing
    return f"{credential.standing}, {lasting(credential.until_s)}"


def _record(credential: CredentialView) -> None:
    record(
        [
            ("upstream", credential.upstream),
            ("name", credential.name),
            ("secret", credential.hint),
            ("version", credential.version),
            ("weight", credential.weight),
            ("enabled", credential.enabled),
            ("standing", _standing(credential)),
        ]
    )


def _tell(done: str, answer: Any) -> None:
    credential = view(answer, CredentialView)
    state = "" if credential.enabled else " (off)"
    show(
        answer,
        lambda: line(f"{done} credential {credential.upstream}/{credential.name}: {credential.hint}{state}"),
    )
    warn(credential.warnings)
