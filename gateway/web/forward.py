"""`/v1/*` and `/upstreams/NAME/*`: read the request as far as needed, hand it to the relay."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from gateway.errors import RequestError
from gateway.relay.inbound import Inbound
from gateway.relay.upload import Upload
from gateway.routing.name import check_name
from gateway.web.guard import check_media, is_json
from gateway.web.read import read_body, read_upload
from gateway.web.site import Caller, Site
from gateway.wire.api import Api, api_of
from gateway.wire.body import JsonBody, read_json
from gateway.wire.dialect import dialect_of

_BODILESS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_DELETE})
_BIG_BODY = 1 << 20
_METHODS = _BODILESS | {hdrs.METH_POST, hdrs.METH_PUT, hdrs.METH_PATCH}


async def forward(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    """A request below /v1/, routed by the model that it names."""
    path, _, query = request.raw_path.partition("?")
    return await _relay(site, request, caller, path=path, query=query, upstream=None)


async def forward_to_upstream(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    """A request for one upstream and no other; both /upstreams/NAME and /upstreams/NAME/v1 are a base_url."""
    name = request.match_info["name"]
    if name not in site.snapshot().upstreams:
        raise RequestError(f"there is no upstream {name[:100]!r}", status=404, code="upstream_not_found")
    path, _, query = request.raw_path.partition("?")
    tail = path.split("/", 3)[3]
    path = f"/{tail}" if tail.startswith("v1/") else f"/v1/{tail}"
    return await _relay(site, request, caller, path=path, query=query, upstream=name)


async def _relay(
    site: Site, request: web.Request, caller: Caller, *, path: str, query: str, upstream: str | None
) -> web.StreamResponse:
    _check_path(path)
    api = api_of(path) if request.method == hdrs.METH_POST else Api.OTHER
    body = await _body(site, request, api)
    try:
        if body is not None and body.model is not None:
            check_name(body.model)
        inbound = Inbound(
            request_id=caller.request_id,
            method=request.method,
            path=path,
            query=query,
            dialect=dialect_of(path, anthropic_version="anthropic-version" in request.headers),
            api=api,
            headers=tuple(request.headers.items()),
            body=body,
            client=caller.name,
            upstream=upstream,
        )
        return await site.relay.answer(request, inbound)
    finally:
        if isinstance(body, Upload):
            body.close()


async def _body(site: Site, request: web.Request, api: Api) -> JsonBody | Upload | None:
    if request.method not in _METHODS:
        raise RequestError(
            f"{request.method[:20]} is not supported here", status=405, code="method_not_allowed"
        )
    if not request.can_read_body:
        if request.method in _BODILESS or api is Api.OTHER:  # to cancel a job is a POST without a body
            return None
        raise RequestError("the request has no body; a JSON object was expected", code="empty_body")
    kind = check_media(request)
    if not is_json(kind):
        if api is not Api.OTHER:
            raise RequestError(
                f"content-type must be application/json here, not {kind!r:.60}",
                status=415,
                code="unsupported_media_type",
            )
        return await read_upload(request, kind=kind, folder=site.spool, idle_s=site.server.body_timeout_s)
    limit = site.server.max_body_mb << 20
    data = await read_body(request, limit=limit, timeout_s=site.server.body_timeout_s)
    if len(data) > _BIG_BODY:  # to prove that it is sound JSON takes milliseconds
        return await asyncio.to_thread(read_json, data)
    return read_json(data)


def _check_path(path: str) -> None:
    """The path goes to an upstream as it came: nothing in it may climb out of /v1."""
    lowered = path.lower()
    if (
        ".." in path
        or "//" in path
        or "%2e" in lowered
        or "%2f" in lowered
        or "\\" in path
        or "%5c" in lowered
    ):
        raise RequestError("the path may not hold '..', '//', backslashes or encoded dots and slashes")
