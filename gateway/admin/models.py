"""The operations on local models."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.admin.context import Args, Context, Table
from gateway.errors import MissingError
from gateway.local.mailbox import ModelFolder

TABLE = Table("models")


class OneModel(Args):
    """Names a local model."""

    model: str


@TABLE.verb("list", reads=True)
async def list_(context: Context, _: Args) -> object:
    """List the local models; with a running daemon also whether they are loaded."""
    if context.live is not None:
        await context.live.look()
        return context.live.local_models()
    found = await asyncio.to_thread(_on_disk, context)
    return [
        {"name": model.name, "path": model.path, "size_bytes": model.size_bytes, "state": "on disk"}
        for model in found.values()
    ]


@TABLE.verb("show", OneModel, reads=True)
async def show(context: Context, args: OneModel) -> object:
    """Show what is known of a local model: what it is, what it can do, how fast it is here."""
    if context.live is not None:
        return await context.live.show_model(args.model)
    found = (await asyncio.to_thread(_on_disk, context)).get(args.model)
    if found is None:
        raise MissingError(f"there is no local model {args.model!r}; `mlx-gateway models list` shows them")
    return {**await asyncio.to_thread(_described, found), "state": "on disk"}


@TABLE.verb("load", OneModel)
async def load(context: Context, args: OneModel) -> object:
    """Bring a local model into the memory."""
    return await context.running("models load").load_model(args.model)


@TABLE.verb("unload", OneModel)
async def unload(context: Context, args: OneModel) -> object:
    """Let a local model go from the memory."""
    return await context.running("models unload").unload_model(args.model)


@TABLE.verb("bench", OneModel)
async def bench(context: Context, args: OneModel) -> object:
    """Measure how fast a local model reads and writes on this machine."""
    return await context.running("models bench").bench_model(args.model)


def _on_disk(context: Context) -> dict[str, ModelFolder]:
    from gateway.local.catalog import Catalog

    return dict(Catalog(context.config.local, context.home).refresh())


def _described(folder: ModelFolder) -> dict[str, Any]:
    from gateway.local.describe import describe

    return describe(folder)
