"""Every route of the gateway in one table, each behind the same door."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from gateway.errors import RequestError
from gateway.relay.answer import SERVER, refused_request
from gateway.relay.pump import ClientStuck
from gateway.snapshot import ClientKey
from gateway.telemetry.access import access
from gateway.telemetry.finished import Finished
from gateway.web import admin, forward, health, models, responses
from gateway.web.guard import Access, authenticate, check_host, check_origin
from gateway.web.site import Caller, Site
from gateway.wire.dialect import Dialect, dialect_of

_log = logging.getLogger(__name__)

# An id names a request, it guards nothing: drawn once, then counted, it costs no system call each time.
_RUN = f"req_{secrets.token_hex(8)}"
_numbers = itertools.count(1)

Handler = Callable[[Site, web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the route table."""

    method: str
    path: str
    access: Access
    handler: Handler


async def _unknown(_: Site, request: web.Request, __: Caller) -> web.StreamResponse:
    raise RequestError(
        f"there is nothing at {request.path[:100]!r}; models are served below /v1/",
        status=404,
        code="not_found",
    )


ROUTES: tuple[Entry, ...] = (
    Entry("GET", "/v1/responses/{id}", Access.CLIENT, responses.retrieve),
    Entry("DELETE", "/v1/responses/{id}", Access.CLIENT, responses.delete),
    Entry("POST", "/v1/responses/{id}/cancel", Access.CLIENT, responses.cancel),
    Entry("GET", "/v1/responses/{id}/input_items", Access.CLIENT, responses.input_items),
    Entry("POST", "/v1/{tail:.+}", Access.CLIENT, forward.forward),
    Entry("GET", "/v1/models", Access.CLIENT, models.listing),
    Entry("GET", "/v1/models/{id:.+}", Access.CLIENT, models.one),
    Entry("*", "/v1/{tail:.+}", Access.CLIENT, forward.forward),
    Entry("*", "/upstreams/{name}/{tail:.+}", Access.CLIENT, forward.forward_to_upstream),
    Entry("GET", "/healthz", Access.OPEN, health.alive),
    Entry("GET", "/readyz", Access.OPEN, health.ready),
    Entry("GET", "/metrics", Access.CLIENT, health.metrics),
    Entry("*", "/admin/api/{noun}", Access.ADMIN, admin.operate),
    Entry("*", "/admin/api/{noun}/{verb}", Access.ADMIN, admin.operate),
    Entry("*", "/{tail:.*}", Access.CLIENT, _unknown),
)


_METHODS = {"GET": ("GET", "HEAD")}  # a HEAD asks for what a GET would say
_ORIGIN = web.RequestKey("_ORIGIN", str)


def build(site: Site, *, owner: bool = False) -> web.Application:
    """The application of one listener. `owner` is admin.sock: the file's permission is the key."""
    app = web.Application(client_max_size=1)  # bodies are read by web.read alone, under its own limits
    for entry in ROUTES:
        door = _door(site, entry, owner=owner)
        for method in _METHODS.get(entry.method, (entry.method,)):
            app.router.add_route(method, entry.path, door)
    if site.server.allowed_origins:
        app.on_response_prepare.append(_let_page_read)
    return app


def _door(site: Site, entry: Entry, *, owner: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The checks before a handler, and the one place where its errors become answers."""

    loop = asyncio.get_running_loop()

    async def enter(request: web.Request) -> web.StreamResponse:
        request_id = f"{_RUN}{next(_numbers):08x}"
        origin: str | None = None
        began = loop.time()
        try:
            if not owner:
                check_host(request, site.server.allowed_hosts)
                origin = check_origin(request, site.server.allowed_origins)
                if origin is not None:
                    request[_ORIGIN] = origin
            if origin is not None and request.method == hdrs.METH_OPTIONS:
                response: web.StreamResponse = _preflight()
            else:
                key = _caller_key(site, entry, request, owner=owner)
                caller = Caller(request_id=request_id, key=key, origin=origin, owner=owner)
                response = await entry.handler(site, request, caller)
        except RequestError as error:
            response = refused_request(_dialect(request), error, request_id)
            access(Finished(request_id, request.method, request.path, error.status, loop.time() - began))
            if error.status in (408, 413):
                response.force_close()  # the rest of the body is not worth reading
        except (ConnectionError, ClientStuck):
            raise
        except asyncio.CancelledError:
            raise
        except web.HTTPException:
            raise
        except Exception:
            # The request border: whatever was not foreseen becomes one plain answer and one log line.
            _log.exception("request %s failed inside the gateway", request_id)
            fault = RequestError(
                "the gateway failed; its log has the reason", status=500, kind="server_error"
            )
            response = refused_request(_dialect(request), fault, request_id)
        if not response.prepared:
            response.headers["server"] = SERVER
            response.headers["x-request-id"] = request_id
        return response

    return enter


async def _let_page_read(request: web.Request, response: web.StreamResponse) -> None:
    """Whatever goes to a page that may call, a stream too, says that the page may read it."""
    origin = request.get(_ORIGIN)
    if origin is not None:
        response.headers["access-control-allow-origin"] = origin
        response.headers["access-control-expose-headers"] = "*"  # retry-after and x-should-retry above all
        response.headers["vary"] = "origin"


def _caller_key(site: Site, entry: Entry, request: web.Request, *, owner: bool) -> ClientKey | None:
    if owner:
        return None
    if entry.access is Access.ADMIN and not site.admin_over_tcp:
        raise RequestError("admin over TCP is switched off (admin.tcp)", status=403, code="admin_off")
    return authenticate(request, entry.access, site.snapshot(), keyless=site.keyless)


def _dialect(request: web.Request) -> Dialect:
    return dialect_of(request.path, anthropic_version="anthropic-version" in request.headers)


def _preflight() -> web.Response:
    return web.Response(
        status=204,
        headers={
            "access-control-allow-methods": "GET, POST, DELETE",
            "access-control-allow-headers": "authorization, content-type, x-api-key, anthropic-version, "
            "anthropic-beta, openai-beta, openai-organization, openai-project",
            "access-control-max-age": "600",
        },
    )
