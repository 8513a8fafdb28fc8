"""`/admin/api/*`: the same verbs as the command, one operation a path."""

from __future__ import annotations

import logging

import msgspec
from aiohttp import hdrs, web

from gateway.admin.operations import OPERATIONS
from gateway.errors import (
    ConfigError,
    GatewayError,
    MissingError,
    RefusedError,
    RequestError,
    SecretError,
    StoreError,
)
from gateway.web.guard import check_media
from gateway.web.read import read_body
from gateway.web.site import Caller, Site

_log = logging.getLogger(__name__)
_LIMIT = 8 << 20

# What a refused operation is to HTTP, most particular first.
_STATUS: tuple[tuple[type[GatewayError], int, str], ...] = (
    (MissingError, 404, "missing"),
    (RefusedError, 409, "refused"),
    (ConfigError, 400, "usage"),
    (StoreError, 503, "store"),
    (SecretError, 500, "secret"),
)


async def operate(site: Site, request: web.Request, caller: Caller) -> web.Response:
    """Run the operation that the path names; its arguments are a JSON object, or the query of a GET."""
    noun, verb = request.match_info["noun"], request.match_info.get("verb")
    name = f"{noun}.{verb}" if verb else noun
    operation = OPERATIONS.get(name) or OPERATIONS.get(f"{noun}.list" if not verb else "")
    if operation is None:
        raise RequestError(f"there is no operation {name[:80]!r}", status=404, code="not_found")
    if request.method == hdrs.METH_GET and operation.reads:
        args: dict[str, object] = {name: _plain(text) for name, text in request.query.items()}
    elif request.method == hdrs.METH_POST:
        args = await _args(request)
    else:
        raise RequestError(f"{operation.name} is asked for with POST", status=405, code="method_not_allowed")
    try:
        result = await site.operate(site.admin_context(caller.name), operation.name, args)
    except GatewayError as error:
        return _refused(error)
    return web.Response(body=msgspec.json.encode(result), content_type="application/json")


def _plain(text: str) -> object:
    """A value of a query as JSON would have it; a query knows only text."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


async def _args(request: web.Request) -> dict[str, object]:
    if not request.can_read_body:
        return {}
    check_media(request)
    data = await read_body(request, limit=_LIMIT, timeout_s=10.0)
    try:
        args = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise RequestError("the arguments are not valid JSON; a JSON object was expected") from None
    if not isinstance(args, dict):
        raise RequestError("the arguments must be a JSON object")
    return args


def _refused(error: GatewayError) -> web.Response:
    for kind, status, word in _STATUS:
        if isinstance(error, kind):
            return web.json_response({"error": {"message": error.message, "kind": word}}, status=status)
    raise error
