"""The operation that lists local models."""

from __future__ import annotations

import asyncio

from gateway.admin.context import Args, Context, Table

TABLE = Table("models")


@TABLE.verb("list", reads=True)
async def list_(context: Context, _: Args) -> object:
    """List the local models; with a running daemon also whether they are loaded."""
    if context.live is not None:
        return context.live.local_models()
    return await asyncio.to_thread(_on_disk, context)


def _on_disk(context: Context) -> list[dict[str, object]]:
    from gateway.local.catalog import Catalog

    found = Catalog(context.config.local, context.home).refresh()
    return [
        {"name": model.name, "path": str(model.path), "size_bytes": model.size_bytes, "state": "on disk"}
        for model in found.values()
    ]
