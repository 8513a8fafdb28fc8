"""Connections of clients: what aiohttp itself refuses is said in our words, and the idle ones let go.

Some requests never reach the route table, because they are no HTTP, or for no path at all (`OPTIONS *`,
`CONNECT`). aiohttp answers those in plain text, with its version and a line of what came, and writes a
traceback for each. Here they get an error like any other, and one line of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.errors import RequestError
from gateway.relay.answer import SERVER, refused_request
from gateway.relay.pump import ClientStuck
from gateway.wire.dialect import Dialect

_log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """One connection of a client."""

    __slots__ = ("_leaving",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._leaving = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What a handler let through, or what the parser says of something that is no request."""
        if isinstance(exc, (ConnectionError, ClientStuck)):
            raise ConnectionError from exc  # the client is gone: nobody to tell
        if status >= 500:
            _log.error("a request failed inside the gateway", exc_info=exc)
        else:
            _log.info("refused what is not HTTP", extra={"why": type(exc).__name__})
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        said = "the gateway failed; its log has the reason" if status >= 500 else "this is not proper HTTP"
        return _plain(status, said, close=True)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """aiohttp's own answers are exceptions, and only they are."""
        if isinstance(resp, web.HTTPException):
            said = "only paths that begin with / are served here"
            resp = _plain(resp.status, said if resp.status == 404 else str(resp.reason).lower())
        if self._leaving:
            resp.force_close()
        return super().finish_response(request, resp, start_time)

    def let_go(self) -> None:
        """Close now if nothing is being answered, else after the answer.

        aiohttp's own `close` is no help: it leaves an idle connection open and deaf, so that a client's
        next request on it waits until the very end, and drops the rest of a body that is still coming.
        """
        self._leaving = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self.force_close()


class _Server(web.Server):
    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


class Listener(web.AppRunner):
    """Serves an application on connections of ours."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )

    @property
    def busy(self) -> bool:
        """Is a request being read or answered?"""
        server = self.server
        return server is not None and any(each._request_in_progress for each in server.connections)

    def let_go(self) -> None:
        """Close idle connections at once, and the others when they have answered."""
        if self.server is not None:
            for connection in self.server.connections:
                assert isinstance(connection, Connection)
                connection.let_go()


def _plain(status: int, message: str, *, close: bool = False) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    response = refused_request(Dialect.OPENAI, RequestError(message, status=status, kind=kind), "")
    response.headers["server"] = SERVER
    if close:
        response.force_close()
    return response
