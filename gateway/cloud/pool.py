"""The connections to all upstreams: aiohttp's pool, with the three things that we need to see of it.

`connect` of the connector is its documented way in; the session above it is left out on purpose. The
session builds a multidict, a writer task, a timeout object, a response object and a cookie lookup per
request, which is half of what a proxied request costs, and it hides whether a connection was fresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from weakref import WeakSet

from aiohttp import ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection

from gateway.config import Cloud
from gateway.errors import ConfigError

_CLOSE_S = 1.0


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

    async def shut(self) -> None:
        """Close everything, in use or not, without waiting for peers that say nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.close(abort_ssl=True)


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
