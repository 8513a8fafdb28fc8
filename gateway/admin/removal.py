"""The operation that removes a local model, and what it must not remove."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.admin.context import Args, Context, Table
from gateway.cloud.repository import is_repository_name
from gateway.errors import MissingError, RefusedError
from gateway.local.catalog import DEMO, Catalog, hub_cache
from gateway.local.mailbox import ModelFolder
from gateway.local.shelf import Shelf
from gateway.routing.name import is_name, wrong_with

TABLE = Table("models")
_IN_USE = ("ready", "loading")


class Ref(Args):
    """Names a local model."""

    model: str


@TABLE.verb("rm", Ref)
async def rm(context: Context, args: Ref) -> object:
    """Delete the folder of a local model, if it lies below models/ in the home."""
    if not is_name(args.model):
        raise RefusedError(wrong_with(args.model))
    shelf = Shelf(context.home)
    found = await asyncio.to_thread(lambda: Catalog(context.config.local, context.home).refresh())
    is_pullable = is_repository_name(args.model)
    unfinished = args.model not in found and is_pullable and shelf.has_unfinished(args.model)
    if not unfinished:
        check(args.model, found, shelf)
        _check_unused(context, shelf.folder(args.model))
    try:
        await asyncio.to_thread(shelf.discard if unfinished else shelf.remove, args.model)
    except OSError as error:
        raise RefusedError(f"can't remove {args.model}: {error.strerror}") from error
    if context.live is not None:
        await context.live.look()
    return {
        "model": args.model,
        "path": str(shelf.folder(args.model)),
        "size_bytes": 0 if unfinished else found[args.model].size_bytes,
        "unfinished": unfinished,
        "warnings": [
            f"rule {rule.id} ({rule.pattern}) still names local:{args.model}"
            for rule in context.store.snapshot.rules.rules
            if any(target.backend == "local" and target.model == args.model for target in rule.targets)
        ],
    }


def check(name: str, found: Mapping[str, ModelFolder], shelf: Shelf) -> None:
    """Refuse what is no model, what is not ours to delete, and what would take others with it."""
    if name not in found:
        raise MissingError(f"there is no local model {name!r}; `mlx-gateway models list` shows them")
    path = found[name].path
    if name == DEMO:
        raise RefusedError("demo is part of the program and can't be removed; nothing has to be")
    if not _is_below(path, shelf.root):
        if _is_below(path, hub_cache()):
            raise RefusedError(
                f"{name} lies in the Hugging Face cache, which other programs use too; remove it there with "
                f"`hf cache rm model/{name}`, or set local.hub_cache to false to leave it out"
            )
        raise RefusedError(
            f"{name} lies in {path}, a folder of local.models_dirs; this command removes what is below "
            f"{shelf.root} only, so remove the folder yourself"
        )
    inside = [other for other in found if other.startswith(f"{name}/")]
    if inside:
        raise RefusedError(f"{name} holds other models: {', '.join(inside)}; remove these first")


def _check_unused(context: Context, folder: Path) -> None:
    """A model that comes into memory after this look goes on: what it has open stays readable."""
    for model in context.live.local_models() if context.live is not None else ():
        if model.get("state") in _IN_USE and os.path.realpath(model["path"]) == os.path.realpath(folder):
            raise RefusedError(
                f"{model['name']} is in memory; take it out with `mlx-gateway models unload {model['name']}` "
                "first"
            )


def _is_below(path: str, root: Path) -> bool:
    return f"{path}{os.sep}".startswith(f"{os.path.realpath(root)}{os.sep}")
