"""`GET /v1/models`: what may be asked for by name, and is sure to be routed somewhere."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.errors import RequestError
from gateway.snapshot import Snapshot
from gateway.web.site import Caller, Site
from gateway.wire.dialect import Dialect, dialect_of
from gateway.wire.models import ModelEntry, model_list, model_one

_PATTERN_MARKS = frozenset("*?[")
_UPSTREAM_S = 3.0


async def listing(site: Site, request: web.Request, _: Caller) -> web.Response:
    """Local models, exact rule names, and of the upstreams' models those that a rule leads to them."""
    entries = await _entries(site)
    return _json(model_list(_dialect(request), entries))


async def one(site: Site, request: web.Request, _: Caller) -> web.Response:
    """One model of that list; its id may have slashes."""
    wanted = request.match_info["id"]
    for entry in await _entries(site):
        if entry.id == wanted:
            return _json(model_one(_dialect(request), entry))
    raise RequestError(
        f"there is no model {wanted[:256]!r}; GET /v1/models lists those there are",
        status=404,
        code="model_not_found",
        param="model",
    )


async def _entries(site: Site) -> list[ModelEntry]:
    snapshot = site.snapshot()
    found: dict[str, ModelEntry] = {}
    for name in site.models.local_names():
        found[name] = ModelEntry(name, "local")
    for rule in snapshot.rules.rules:
        if rule.enabled and not _PATTERN_MARKS & set(rule.pattern):
            found.setdefault(rule.pattern, ModelEntry(rule.pattern, "mlx-gateway"))
    askable = [u.name for u in snapshot.upstreams.values() if u.enabled and u.list_models]
    lists = await asyncio.gather(*(_of_upstream(site, name) for name in askable))
    for upstream, names in zip(askable, lists, strict=True):
        for name in names:
            if name not in found and _leads_to(snapshot, name, upstream):
                found[name] = ModelEntry(name, upstream)
    return list(found.values())


async def _of_upstream(site: Site, name: str) -> list[str]:
    """An upstream that does not answer in time is left out: a list must not wait for a dead one."""
    try:
        async with asyncio.timeout(_UPSTREAM_S):
            return await site.models.upstream_names(name)
    except TimeoutError:
        return []


def _leads_to(snapshot: Snapshot, name: str, upstream: str) -> bool:
    """Would asking for `name` reach that very model at `upstream`?"""
    return any(aim.backend == upstream and aim.model == name for aim in snapshot.rules.resolve(name).aims)


def _dialect(request: web.Request) -> Dialect:
    return dialect_of(request.path, anthropic_version="anthropic-version" in request.headers)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
