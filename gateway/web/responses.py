"""`/v1/responses/ID`: the responses that were made here, for the key that asked for them.

An id that is not known here may be an upstream's: it goes to the default upstream, if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import RequestError
from gateway.web.forward import forward
from gateway.web.site import Caller, Site

_USUAL, _MOST = 20, 100
_TRUE, _FALSE = ("true", "1"), ("false", "0", "")


async def retrieve(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    """The response object. Its events are not kept: they can't be had again."""
    name = request.match_info["id"]
    response = site.kept.response(name, caller.name)
    if response is None:
        return await _elsewhere(site, request, caller)
    if _is_true(request.query, "stream"):
        raise RequestError(
            "this response can't be streamed: only one that was made with background=true could be; "
            "leave out stream",
            param="stream",
        )
    return _json(response)


async def delete(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    """Forget it: no later request can go on from it."""
    name = request.match_info["id"]
    if not site.kept.delete(name, caller.name):
        return await _elsewhere(site, request, caller)
    return _json(msgspec.json.encode({"id": name, "object": "response.deleted", "deleted": True}))


async def cancel(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    """Every response that is kept is complete, and none was made in the background."""
    if not site.kept.knows(request.match_info["id"], caller.name):
        return await _elsewhere(site, request, caller)
    raise RequestError(
        "Cannot cancel a synchronous response: only one that was made with background=true can be cancelled."
    )


async def input_items(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    """The items that it was made of, those of earlier turns too, a page at a time, the newest first."""
    items = site.kept.conversation(request.match_info["id"], caller.name)
    if items is None:
        return await _elsewhere(site, request, caller)
    return _json(msgspec.json.encode(_page(items, request.query)))


def _page(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    limit, order, after = query.get("limit", str(_USUAL)), query.get("order", "desc"), query.get("after")
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= _MOST:
        raise RequestError(f"limit must be a whole number from 1 to {_MOST}", param="limit")
    if order not in ("asc", "desc"):
        raise RequestError("order must be asc or desc", param="order")
    left = [*items] if order == "asc" else [*reversed(items)]
    if after is not None:
        place = next((i for i, item in enumerate(left) if item.get("id") == after), None)
        if place is None:
            raise RequestError(f"after: this response has no item {after[:64]!r}", param="after")
        left = left[place + 1 :]
    page = left[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0].get("id") if page else None,
        "last_id": page[-1].get("id") if page else None,
        "has_more": len(left) > len(page),
    }


async def _elsewhere(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    if site.relay.planner.default_upstream:
        return await forward(site, request, caller)
    name = request.match_info["id"]
    raise RequestError(f"Response with id {name[:64]!r} not found.", status=404)


def _is_true(query: Mapping[str, str], name: str) -> bool:
    said = query.get(name, "").lower()
    if said not in _TRUE + _FALSE:
        raise RequestError(f"{name} must be true or false", param=name)
    return said in _TRUE


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
