"""`mlx-gateway`: finds the noun, runs the verb, and turns every error into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from gateway import __version__
from gateway.cli.command import Noun
from gateway.cli.home import NAME
from gateway.errors import ConfigError, GatewayError

REFUSED, USAGE, BAD_CONFIGURATION = 1, 2, 78

# In the order of the help. A file is imported when its noun is needed, so that `serve` starts fast.
NOUNS = {
    "serve": "Run the gateway.",
    "status": "What the running gateway is doing.",
    "explain": "Which rule a model name meets, and why.",
    "rules": "From model names to targets.",
    "policies": "When a target counts as failed, and what then.",
    "upstreams": "The cloud APIs.",
    "credentials": "What the gateway shows the upstreams.",
    "clients": "The keys that apps show the gateway.",
    "models": "The models on this machine.",
    "db": "The database.",
}

EPILOG = f"""\b
A first rule, with a fallback:
  {NAME} upstreams add openai --preset openai
  {NAME} credentials add openai --from-env OPENAI_API_KEY
  {NAME} rules add 'gpt-4o*' --to local:demo --to openai
  {NAME} explain gpt-4o-mini

\b
Tab completion, in your shell's start file (or bash_source, fish_source):
  eval "$(_MLX_GATEWAY_COMPLETE=zsh_source {NAME})"
"""


class _Nouns(Noun):
    """The nouns, each in its own file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return None
        command = importlib.import_module(f"gateway.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(__version__)
        ctx.exit()


cli = _Nouns(
    name=NAME,
    help="One base_url for every model: local MLX first, the cloud when local fails.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
cli.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        help="Print the version.",
        callback=_print_version,
    )
)


def main() -> NoReturn:
    """The entry point of the command and of `python -m gateway`."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code. Raises nothing."""
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't show
    try:
        code = cli.main(args=list(args), prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else NAME
        return _say(f"{_lower(error.format_message())} (see: {where} --help)", USAGE)
    except ConfigError as error:
        return _say(error.message, BAD_CONFIGURATION)
    except GatewayError as error:
        return _say(error.message, REFUSED)
    except click.ClickException as error:
        return _say(_lower(error.format_message()), REFUSED)
    except (click.Abort, KeyboardInterrupt):
        return _say("stopped", 130)
    except BrokenPipeError:
        _drop_stdout()
        return REFUSED
    except Exception as error:
        return _say(_bug(error), REFUSED)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    """One line on standard error, whatever the message holds."""
    line = " ".join(message.split())
    click.echo(f"{NAME}: {''.join(c if c.isprintable() else '?' for c in line)}", err=True)
    return code


def _lower(message: str) -> str:
    """click's sentences in our manner."""
    return (message[:1].lower() + message[1:]).rstrip(".").replace(". Did you mean", "; did you mean")


def _bug(error: Exception) -> str:
    """Where it happened rather than what it said: a foreign message may hold a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"  # noqa: PTH119 - not a path to use
    return f"internal error: {type(error).__name__} at {place}; nothing more is known, please report it"


def _drop_stdout() -> None:
    """The reader has gone (`| head`); without this, Python complains once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
