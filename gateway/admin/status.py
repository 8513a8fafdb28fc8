"""The operation that says what a running daemon is doing."""

from __future__ import annotations

from gateway.admin.context import Args, Context, Table

TABLE = Table("status")


@TABLE.verb("", reads=True)
async def status(context: Context, _: Args) -> object:
    """Say what the running gateway is doing."""
    return context.running("status").status()
