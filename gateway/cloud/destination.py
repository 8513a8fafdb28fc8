"""An upstream as the client needs it: all that is the same for every request, worked out once.

The head of a request is written here as bytes, in one place, and checked as a whole before it leaves:
whatever a name or value holds, it can't become a second line.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from urllib.parse import unquote

from aiohttp import ClientTimeout
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from yarl import URL

from gateway.backend import AttemptFailed, Call
from gateway.cloud.headers import upstream_headers
from gateway.failover.outcome import Failure, Outcome
from gateway.snapshot import Upstream

_LINE = re.compile(r"[A-Z]+ [!-~]+")  # method and target
_USER_AGENT = ("user-agent", "mlx-gateway")
_LATER = 1e9  # aiohttp rounds longer timeouts up to whole seconds; ours are meant as they are


class Destination:
    """Where and how requests to one upstream are sent."""

    def __init__(
        self, upstream: Upstream, *, loop: asyncio.AbstractEventLoop, tls: Callable[[], ssl.SSLContext]
    ) -> None:
        url = URL(upstream.base_url, encoded=True)
        self.upstream = upstream
        # The connector asks a request for its address; this one is never sent.
        self.address = ClientRequest("GET", url, loop=loop, ssl=tls() if url.scheme == "https" else True)
        self.key: ConnectionKey = self.address.connection_key
        self.limits = ClientTimeout(connect=upstream.connect_s, ceil_threshold=_LATER)
        self._path = url.raw_path.rstrip("/")
        self._query = tuple(
            f"{URL.build(query={name: value}).raw_query_string}" for name, value in upstream.query
        )
        self._fixed = {name.lower(): value for name, value in upstream.headers}
        self._static = f"host: {url.host_port_subcomponent}\r\naccept-encoding: identity\r\n".encode("ascii")

    def head(self, call: Call, auth: bytes) -> bytes:
        """The request line and all fields of `call`, ready to be written; raises AttemptFailed."""
        line = f"{call.method} {self._target(call.path, call.query)}"
        if not _LINE.fullmatch(line):
            raise _bad_path(call.path)
        fields = upstream_headers(call.headers, self._fixed)
        if not any(name == "user-agent" for name, _ in fields):
            fields.append(_USER_AGENT)  # some APIs refuse requests without one
        if (length := _length(call)) is not None:
            fields.append(length)
        text = "".join([f"{name}: {value}\r\n" for name, value in fields])
        if text.count("\n") != len(fields) or text.count("\r") != len(fields) or "\0" in text:
            raise AttemptFailed(
                Failure(
                    outcome=Outcome.SERVER_FAULT,
                    message=f"upstream {self.upstream.name} has a fixed header that can't be sent",
                    code="bad_upstream_header",
                )
            )
        return b"%b HTTP/1.1\r\n%b%b%b\r\n" % (line.encode(), self._static, auth, text.encode("latin-1"))

    def _target(self, path: str, query: str) -> str:
        """Base path, the client's path without /v1, the client's query as it is, then the fixed one."""
        if "/." in path or "%" in path:
            _refuse_dots(path)
        target = f"{self._path}{path[3:]}"
        if self._query:
            given = {part.partition("=")[0] for part in query.split("&")}
            fixed = [part for part in self._query if part.partition("=")[0] not in given]
            query = "&".join([query, *fixed] if query else fixed)
        return f"{target}?{query}" if query else target


def _length(call: Call) -> tuple[str, str] | None:
    if call.body is None:
        return ("content-length", "0") if call.method in ("POST", "PUT", "PATCH") else None
    size = call.body.size
    return ("transfer-encoding", "chunked") if size is None else ("content-length", str(size))


def _refuse_dots(path: str) -> None:
    """A dot segment would climb out of the base path, to where our credential is not meant to go."""
    if any(segment in (".", "..") for segment in unquote(path).replace("\\", "/").split("/")):
        raise _bad_path(path)


def _bad_path(path: str) -> AttemptFailed:
    return AttemptFailed(
        Failure(
            outcome=Outcome.CLIENT_FAULT,
            message=f"the path must be visible ASCII without dot segments, not {path[:200]!a}",
            status=400,
            code="invalid_path",
        )
    )
