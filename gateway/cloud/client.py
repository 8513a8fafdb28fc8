"""The only client of the outside: sends a call to its upstream and tells what came of it.

It makes one attempt: no retry, no redirect, no cookie, no proxy from the environment. The head is
awaited until the caller's deadline; the time between the chunks of a body is the caller's to watch.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable
from dataclasses import replace

from aiohttp.http import RawResponseMessage

from gateway.backend import AttemptFailed, Call
from gateway.cloud import faults
from gateway.cloud.credentials import Credentials
from gateway.cloud.decode import Inflate
from gateway.cloud.destination import Destination
from gateway.cloud.exchange import BodyFailed, Exchange
from gateway.cloud.headers import downstream_headers
from gateway.cloud.models import read_models
from gateway.cloud.pool import Pool, tls_context
from gateway.cloud.presence import Presence
from gateway.cloud.reply import CloudReply
from gateway.config import Cloud
from gateway.errors import SecretError
from gateway.failover.outcome import Failure, Outcome, classify
from gateway.snapshot import Credential, Upstream
from gateway.telemetry.redact import holds_secret, without_secrets
from gateway.wire.dialect import Dialect
from gateway.wire.failure import read_error

_ERROR_BYTES = 1 << 16  # as much of an error's body is read
_ERROR_S = 5.0  # and so long
_STALE_S = 2.0  # a kept-alive connection that ends this soon after our request was dead before it
_DESTINATIONS = 256
_PAGES = 5
_DEFAULT_VERSION = ("anthropic-version", "2023-06-01")


class CloudClient:
    """Answers calls by asking upstreams; the pool is made on the first call, inside its event loop."""

    def __init__(self, config: Cloud, credentials: Credentials, presence: Presence | None = None) -> None:
        self.presence = presence or Presence()
        self.presence.changed = lambda _: self.close_idle()  # they lead to the network that was
        self._config = config
        self._credentials = credentials
        self._tls: ssl.SSLContext | None = tls_context(config.ca_file) if config.ca_file else None
        self._pool: Pool | None = None
        self._destinations: dict[str, Destination] = {}
        self._closed = False

    async def open(self, call: Call, *, deadline: float) -> CloudReply:
        """Send `call`; return its reply when a head below 300 has come. Raises AttemptFailed.

        What the request's own body raises comes out as it is: it's the client's fault, not the upstream's.
        """
        if call.local_only:
            raise AttemptFailed(faults.kept_here())
        assert call.upstream is not None, "a call without an upstream is for the local pool"
        if reason := self.presence.offline(call.upstream):
            raise AttemptFailed(faults.offline(reason))
        destination = self._destination(call.upstream)
        head = destination.head(call, self._field(call))
        exchange: Exchange | None = None
        try:
            async with asyncio.timeout_at(deadline):
                exchange, reused = await self._connect(destination)
                message = await self._send(exchange, destination, call, head, reused=reused)
            if message.code >= 300 or message.code == 101:
                raise AttemptFailed(await self._refusal(exchange, message, call, deadline))
            return self._reply(exchange, message, call.upstream.name)
        except BaseException as error:
            if exchange is not None:
                exchange.stop()
                await exchange.stopped()
            elif not isinstance(error, AttemptFailed):
                self.presence.doubt(call.upstream)  # somebody lost patience before the connection did
            if isinstance(error, BodyFailed):
                raise error.cause from None
            if isinstance(error, TimeoutError):
                raise AttemptFailed(faults.head_too_late(call.upstream.name)) from error
            raise

    async def list_models(
        self, upstream: Upstream, credential: Credential | None, *, deadline: float
    ) -> list[str]:
        """The names of an upstream's models, all pages up to the fifth. Raises AttemptFailed."""
        names: list[str] = []
        anthropic = upstream.dialect is Dialect.ANTHROPIC
        query = "limit=1000" if anthropic else ""
        for _ in range(_PAGES):
            call = Call(
                request_id="",
                method="GET",
                path="/v1/models",
                query=query,
                dialect=upstream.dialect,
                headers=(("accept", "application/json"), *([_DEFAULT_VERSION] if anthropic else [])),
                body=None,
                model=None,
                stream=False,
                upstream=upstream,
                credential=credential,
            )
            reply = await self.open(call, deadline=deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    page = read_models(b"".join([chunk async for chunk in reply.chunks()]))
            except TimeoutError as error:
                raise AttemptFailed(faults.head_too_late(upstream.name)) from error
            finally:
                await reply.aclose()
            if page is None:
                raise AttemptFailed(faults.bad_reply(upstream.name, "sent no list of models"))
            names += page.names
            if page.after is None:
                break
            query = f"limit=1000&after_id={page.after}"
        return names

    def close_idle(self) -> None:
        """Close all connections that nobody uses, for instance because the network is another one."""
        if self._pool is not None:
            self._pool.drop_idle()

    def awoke(self) -> None:
        """The machine has slept: let go of idle connections, and find out which of the others are dead."""
        self.close_idle()
        if self._pool is not None:
            self._pool.prove_live()

    async def close(self) -> None:
        """Close all connections, in use or not; no call is answered afterwards."""
        self._closed = True
        await self.presence.close()
        if self._pool is not None:
            await self._pool.shut()
        self._destinations.clear()
        self._credentials.forget()

    # --- before

    def _destination(self, upstream: Upstream) -> Destination:
        known = self._destinations.get(upstream.name)
        if known is not None and known.upstream is upstream:
            return known
        if len(self._destinations) >= _DESTINATIONS:
            self._destinations.clear()
        made = Destination(upstream, loop=asyncio.get_running_loop(), tls=self._trust)
        self._destinations[upstream.name] = made
        return made

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context("")
        return self._tls

    def _field(self, call: Call) -> bytes:
        assert call.upstream is not None
        try:
            return self._credentials.field(call.upstream, call.credential)
        except SecretError as error:
            failure = Failure(outcome=Outcome.AUTH, message=error.message, code="provider_auth_failed")
            raise AttemptFailed(failure) from error

    # --- during

    async def _connect(self, destination: Destination) -> tuple[Exchange, bool]:
        if self._closed:
            raise AttemptFailed(faults.closed_here())
        if self._pool is None:
            self._pool = Pool(self._config)
        upstream = destination.upstream
        try:
            connection, reused = await self._pool.take(destination.address, destination.limits)
        except faults.FOREIGN as error:
            if isinstance(error, TimeoutError) and self._pool.is_full:
                raise AttemptFailed(faults.pool_full(self._config.max_connections)) from error
            failure = faults.connecting(error, upstream.name, connect_s=upstream.connect_s)
            if faults.is_doubtful(error) and (reason := await self.presence.confirm(upstream)):
                failure = faults.offline(reason)
            raise AttemptFailed(failure) from error
        if not reused and (peer := connection.transport and connection.transport.get_extra_info("peername")):
            self.presence.met(upstream, peer[0])
        return Exchange(connection, asyncio.get_running_loop()), reused

    async def _send(
        self, exchange: Exchange, destination: Destination, call: Call, head: bytes, *, reused: bool
    ) -> RawResponseMessage:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await exchange.send(head, call.body, method=call.method)
        except faults.FOREIGN as error:
            stale = reused and faults.is_disconnect(error) and loop.time() - began < _STALE_S
            if stale and self._pool is not None:
                self._pool.drop_idle(
                    destination.key
                )  # its siblings are as old: the next try gets a fresh one
            failure = faults.awaiting_head(error, destination.upstream.name, stale=stale)
            raise AttemptFailed(failure) from error

    # --- after

    def _reply(self, exchange: Exchange, message: RawResponseMessage, upstream: str) -> CloudReply:
        headers = message.headers
        limit = None
        if headers.get("Content-Type", "").startswith("application/json"):
            limit = self._config.max_reply_mb << 20
        return CloudReply(
            exchange,
            message,
            upstream=upstream,
            headers=_kept(message.headers.items()),
            inflate=_inflate(message, upstream),
            limit=limit,
        )

    async def _refusal(
        self, exchange: Exchange, message: RawResponseMessage, call: Call, deadline: float
    ) -> Failure:
        """Read what an upstream says when it does not answer the call, and what that means."""
        assert call.upstream is not None
        name = call.upstream.name
        if message.code < 400:
            return faults.bad_reply(
                name, f"answered with status {message.code}, which is not followed", status=message.code
            )
        body = await self._error_body(exchange, message, name, deadline)
        headers = _lower(message)
        failure = classify(
            status=message.code,
            error=read_error(body, call.upstream.dialect),
            headers=dict(headers),
            now_wall=time.time(),
        )
        return replace(
            failure,
            status=message.code,
            # Some upstreams say which key they were shown. It stays here.
            message=without_secrets(failure.message),
            headers=_kept(headers),
            body=None if holds_secret(body.decode("utf-8", "replace")) else body,
        )

    async def _error_body(
        self, exchange: Exchange, message: RawResponseMessage, name: str, deadline: float
    ) -> bytes:
        """The body of an error as far as it comes; that it breaks off changes nothing about the status."""
        body = bytearray()
        try:
            reply = self._reply(exchange, message, name)
            until = asyncio.get_running_loop().time() + _ERROR_S
            async with asyncio.timeout_at(min(until, deadline)):
                async for chunk in reply:
                    body += chunk
                    if len(body) > _ERROR_BYTES:
                        break
        except (AttemptFailed, TimeoutError):
            pass
        return bytes(body[:_ERROR_BYTES])


def _lower(message: RawResponseMessage) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message.raw_headers]


def _kept(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What a client may see of a reply's head: allowed, and without a credential that is echoed."""
    return tuple(field for field in downstream_headers(headers) if not holds_secret(field[1]))


def _inflate(message: RawResponseMessage, upstream: str) -> Inflate | None:
    encoding = message.headers.get("Content-Encoding")
    if encoding is None or (encoding := encoding.strip().lower()) in ("", "identity"):
        return None
    if not Inflate.knows(encoding):
        why = f"compressed its reply with {encoding[:40]!r} although it was asked not to"
        raise AttemptFailed(faults.bad_reply(upstream, why))
    return Inflate(encoding)
