"""Who answers a command: the running daemon over admin.sock, or else the store itself.

Both run the same operation with the same arguments, so a command doesn't know who answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from gateway.cli import remote
from gateway.cli.home import check_owner, make_home, the_config, the_home
from gateway.errors import ConfigError, RefusedError

T = TypeVar("T")


def ask(operation: str, args: Mapping[str, object] | None = None) -> Any:
    """Run `operation` and return its result as JSON has it; raises GatewayError or UsageError."""
    home = the_home()
    given = dict(args or {})
    body = _json(given)
    connection = remote.connect(home)
    if connection is not None:
        return remote.ask(connection, operation, body)
    make_home(home)
    check_owner(home)
    _log_in_one_line()
    return asyncio.run(_ask_store(home, operation, given))


def view(value: Any, kind: type[T]) -> T:
    """What a command prints of a result. Keys that this version doesn't know are left out."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RefusedError(
            f"the daemon's answer has another form than this version expects ({error}); restart the daemon"
        ) from error


def _json(args: dict[str, object]) -> bytes:
    """The arguments as the daemon reads them; what JSON can't hold is refused either way."""
    try:
        return json.dumps(args, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise click.UsageError("an argument is not UTF-8 text", click.get_current_context()) from error
    except ValueError as error:
        raise click.UsageError("a number must be finite", click.get_current_context()) from error


async def _ask_store(home: Path, operation: str, args: dict[str, object]) -> Any:
    from gateway.admin.operations import Context, run
    from gateway.store.store import Store

    config, _ = the_config(home)
    store = await Store.open(config, home)
    try:
        context = Context(store=store, home=home, config=config, actor="owner", live=None)
        result = await run(context, operation, args)
    except ConfigError as error:  # of an operation: its arguments are wrong
        raise click.UsageError(error.message, click.get_current_context()) from error
    finally:
        await store.close()
    return json.loads(msgspec.json.encode(result))


def _log_in_one_line() -> None:
    """Warnings of the store go to standard error like our own, and never with a traceback."""

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"{record.levelname.lower()}: {record.getMessage()}"

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
