"""Where a secret comes from: a variable, standard input or a prompt; never the command line."""

from __future__ import annotations

import getpass
import os
import sys

import click

_LONGEST = 16 * 1024


def read_secret(from_env: str | None, *, prompt: str) -> str:
    """The secret. Raises UsageError, which never repeats what was given."""
    if from_env is not None:
        return _checked(_from_env(from_env), f"the variable {from_env}")
    if sys.stdin is None or sys.stdin.closed:
        raise click.UsageError("no secret came: standard input is closed; use --from-env VARIABLE")
    if sys.stdin.isatty():
        return _checked(getpass.getpass(f"{prompt}: "), "what was typed")
    return _checked(_from_stdin(), "standard input")


def _from_env(variable: str) -> str:
    if variable not in os.environ:
        # Not named: with --from-env "$KEY" the shell has put the secret itself here.
        raise click.UsageError(
            "the variable that --from-env names is not set; give its name, as in --from-env OPENAI_API_KEY"
        )
    return os.environ[variable]


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(_LONGEST + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError("the secret on standard input is not text") from error
    return text.removesuffix("\n").removesuffix("\r")


def _checked(secret: str, where: str) -> str:
    if not secret.strip():
        raise click.UsageError(f"{where} holds no secret; it is empty")
    if len(secret) > _LONGEST:
        raise click.UsageError(f"{where} holds more than {_LONGEST} bytes; that is no secret")
    if not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise click.UsageError(
            f"{where} holds more than a secret: one line of ASCII without blanks at its ends was expected"
        )
    return secret
