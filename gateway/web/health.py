"""Liveness, readiness and metrics."""

from __future__ import annotations

from aiohttp import web

from gateway.web.site import Caller, Site


async def alive(_: Site, __: web.Request, ___: Caller) -> web.Response:
    """The process runs and its event loop turns."""
    return web.json_response({"status": "ok"})


async def ready(site: Site, _: web.Request, __: Caller) -> web.Response:
    """The gateway can serve; a model need not be loaded for that."""
    missing = site.ready()
    if missing is None:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not ready", "missing": missing}, status=503)


async def metrics(site: Site, _: web.Request, __: Caller) -> web.Response:
    """Prometheus' text format."""
    return web.Response(
        body=site.render_metrics(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"}
    )
