"""The connections to all upstreams: aiohttp's pool, with the three things that we need to see of it.

`connect` of the connector is its documented way in; the session above it is left out on purpose. The
session builds a multidict, a writer task, a timeout object, a response object and a cookie lookup per
request, which is half of what a proxied request costs, and it hides whether a connection was fresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from weakref import WeakSet

from aiohttp import ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection

from gateway.config import Cloud
from gateway.errors import ConfigError

_CLOSE_S = 1.0
# TCP_KEEPALIVE is macOS's word for TCP_KEEPIDLE; TCP_USER_TIMEOUT, in ms, is Linux's alone.
_PROBES = (
    ("TCP_KEEPIDLE", 1),
    ("TCP_KEEPALIVE", 1),
    ("TCP_KEEPINTVL", 1),
    ("TCP_KEEPCNT", 4),
    ("TCP_USER_TIMEOUT", 5000),
)


class Pool(TCPConnector):
    """Connections by address; knows which were used before and can let go of the idle ones."""

    def __init__(self, config: Cloud) -> None:
        if config.keepalive_s:
            super().__init__(limit=config.max_connections, keepalive_timeout=config.keepalive_s)
        else:
            super().__init__(limit=config.max_connections, force_close=True)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def take(self, address: ClientRequest, limits: ClientTimeout) -> tuple[Connection, bool]:
        """A connection for one exchange, and whether it had served one before."""
        while True:
            connection = await self.connect(address, [], limits)
            protocol = connection.protocol
            assert protocol is not None
            if protocol not in self._used:
                self._used.add(protocol)
                return connection, False
            if not protocol.should_close:
                return connection, True
            # The peer said something that nobody had asked for while the connection was idle. It
            # would be taken for the answer to our request.
            connection.close()

    @property
    def is_full(self) -> bool:
        return len(self._acquired) >= self.limit

    def drop_idle(self, key: ConnectionKey | None = None) -> None:
        """Close idle connections, of one address or of all."""
        for known in [key] if key is not None else list(self._conns):
            for protocol, _ in self._conns.pop(known, ()):
                protocol.close()

    def prove_live(self) -> None:
        """Have the system ask the peers of all connections in use whether they are still there. Who says
        nothing for a few seconds is gone, and whoever reads from it is told; a peer that merely
        thinks for long does answer.
        """
        for protocol in tuple(self._acquired):
            transport = protocol.transport
            sock = transport.get_extra_info("socket") if transport is not None else None
            if sock is not None:
                with contextlib.suppress(OSError):  # closed a moment ago
                    _probe(sock)

    async def shut(self) -> None:
        """Close everything, in use or not, without waiting for peers that say nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.close(abort_ssl=True)


def _probe(sock: socket.socket) -> None:
    """After a second of silence a question each second, the fourth is the last; what was sent and is not
    acknowledged has as long.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trust what the system trusts, and a private authority besides. Never less."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cloud.ca_file {ca_file!r} is not a readable PEM file: {error}") from error
    return context
