"""What all commands share: the options that every verb takes, and arguments that look like options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass
class Common:
    """What was said with the options that every command takes, wherever they stood."""

    home: str | None = None
    config: str | None = None
    json: bool = False


def common() -> Common:
    """The common options of the command that is running."""
    return click.get_current_context().find_root().ensure_object(Common)


def common_options() -> list[click.Parameter]:
    """--home, --config and --json: before the noun, before the verb or after it."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value == "":  # --home "$UNSET" must not mean the usual home
            raise click.BadParameter("expected a path, and it is empty", context, parameter)
        if value not in (None, False):
            setattr(context.find_root().ensure_object(Common), str(parameter.name), value)

    def option(name: str, **rest: Any) -> click.Option:
        return click.Option([name], expose_value=False, callback=keep, **rest)

    return [
        option("--home", metavar="DIR", help="Folder of the database, keys and models."),
        option("--config", metavar="FILE", help="Configuration; gateway.toml in the home if not given."),
        option("--json", is_flag=True, help="Print one JSON value and nothing else."),
    ]


class _Grouped(click.Command):
    """Help that lists a command's own options before those that every command takes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._common = common_options()
        self.params = [*self.params, *self._common]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        own = [p for p in options if p not in self._common and "--help" not in p.opts]
        everywhere = [p for p in options if p not in own]
        for title, parameters in (("Options", own), ("Every command takes", everywhere)):
            records = [record for p in parameters if (record := p.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Verb(_Grouped):
    """A command that does something."""


class Noun(_Grouped, click.Group):
    """A group of verbs: the noun of its file."""

    command_class = Verb

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """click looks for a near one among loaded commands only, and offers too many."""
        known = self.list_commands(ctx)
        near = difflib.get_close_matches(args[0], known, n=1)
        if near and args[0] not in known and not ctx.resilient_parsing:
            raise click.UsageError(f"no such command {args[0]!r}; did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)


class PatternVerb(Verb):
    """A verb whose argument may begin with a dash, as the pattern `-mini*` does.

    All our options are words with two dashes, so anything with one is meant as the argument.
    A pattern with two at its start still wants `--` before it.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name: not option.is_flag and not option.count
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for name in (*option.opts, *option.secondary_opts)
        }
        return super().parse_args(ctx, arguments_last(args, takes_value) if args else args)


def arguments_last(args: Iterable[str], takes_value: Mapping[str, bool]) -> list[str]:
    """The same command line with its options first, then `--`, then what is an argument."""
    options: list[str] = []
    arguments: list[str] = []
    rest: Iterator[str] = iter(args)
    for arg in rest:
        if arg == "--":
            arguments.extend(rest)
        elif arg.startswith("--") or arg in takes_value:
            options.append(arg)
            if takes_value.get(arg):
                options.extend(value for value in (next(rest, None),) if value is not None)
        else:
            arguments.append(arg)
    return [*options, "--", *arguments]


class SecretVerb(Verb):
    """A verb that reads a secret, and so must never repeat what stood on its command line."""

    allow_extra_args = True
    _NOT_HERE = (
        "a secret is never given on the command line, where others can see it: "
        "use the prompt, standard input or --from-env VARIABLE"
    )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if re.fullmatch(r"--[a-z-]{1,14}", error.option_name):
                raise
            raise click.UsageError(self._NOT_HERE, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.args:
            raise click.UsageError(self._NOT_HERE, ctx)
        return super().invoke(ctx)
