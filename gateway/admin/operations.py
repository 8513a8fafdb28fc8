"""The table of all operations and the one way to run them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from gateway.admin import (
    clients,
    credentials,
    db,
    explain,
    models,
    policies,
    removal,
    rules,
    status,
    upstreams,
)
from gateway.admin.arguments import WrongArguments, read_arguments
from gateway.admin.context import Context, Live, Operation
from gateway.errors import ConfigError, MissingError

__all__ = ["OPERATIONS", "Context", "Live", "Operation", "run"]

_NOUNS = (rules, policies, upstreams, credentials, clients, models, removal, explain, status, db)

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {operation.name: operation for noun in _NOUNS for operation in noun.TABLE.operations}
)


async def run(context: Context, name: str, raw_args: object) -> object:
    """Run an operation and return its result as JSON: a list for `list`, else an object.

    Raises ConfigError for wrong arguments, MissingError and RefusedError for what can't be done;
    StoreError and SecretError pass through. Whatever it raises, nothing was changed.
    """
    operation = OPERATIONS.get(name)
    if operation is None:
        near = difflib.get_close_matches(name, OPERATIONS, n=1)
        raise MissingError(
            f"there is no operation {name[:80]!r}" + (f"; did you mean {near[0]}?" if near else "")
        )
    try:
        args = read_arguments(raw_args, operation.args)
    except WrongArguments as error:
        raise ConfigError(f"{name}: {error}") from error
    return await operation.run(context, args)
