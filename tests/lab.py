"""A real upstream on loopback that misbehaves on demand: down to the byte, down to the RST.

    async with Lab() as lab:
        lab.script("/v1/chat/completions", lab.error(429, retry_after=3), lab.chat("second try"))
        ...                                   # point an upstream at lab.base_url
        assert lab.hits == 2
        await lab.seen[-1].gone(within=1.0)   # the caller has closed its side

A path answers with its scripted behaviours in turn and then with its default: a valid reply of its API
(`behaviours.default_for`). Bodies are hashed while they come and kept up to `keep` bytes. What went
wrong in the lab itself, such as an assertion in a test's own behaviour, is raised when it closes.

Three helpers stand in for what a server that answers can't be: `refuse()` closes the port (and `accept()`
opens the same one again), `mute` accepts connections and never says a word, not even to a TLS hello,
and `Lab(tls=...)` shows a certificate of a private authority (`ca_file`), for a wrong name or expired.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Literal, Self

import trustme

from tests import behaviours
from tests.behaviours import Behaviour
from tests.peer import Peer, Seen, wait_within


class Lab:
    """The upstream. Behaviours are made by its attributes: `lab.sse([...], cut="rst")`."""

    body = staticmethod(behaviours.body)
    sse = staticmethod(behaviours.sse)
    json = staticmethod(behaviours.json)
    error = staticmethod(behaviours.error)
    chat = staticmethod(behaviours.chat)
    completions = staticmethod(behaviours.completions)
    responses = staticmethod(behaviours.responses)
    messages = staticmethod(behaviours.messages)
    embeddings = staticmethod(behaviours.embeddings)
    models = staticmethod(behaviours.models)
    echo = staticmethod(behaviours.echo)
    hang = staticmethod(behaviours.hang)
    drop = staticmethod(behaviours.drop)
    reset = staticmethod(behaviours.reset)
    raw = staticmethod(behaviours.raw)
    huge_headers = staticmethod(behaviours.huge_headers)
    redirect = staticmethod(behaviours.redirect)
    compressed = staticmethod(behaviours.compressed)
    early = staticmethod(behaviours.early)

    host = "127.0.0.1"

    def __init__(
        self, *, tls: Literal["", "good", "wrong name", "expired"] = "", keep: int = 1 << 20
    ) -> None:
        self.keep = keep
        self.mute = False
        self.seen: list[Seen] = []
        self.accepted = 0  # connections, with or without a request
        self.port = 0
        self._tls = tls
        self._folder: TemporaryDirectory[str] | None = None
        self._context: ssl.SSLContext | None = None
        self._scripts: dict[str, deque[Behaviour]] = {}
        self._defaults: dict[str, Behaviour] = {}
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self.broken: list[Exception] = []  # what a behaviour raised
        self._running: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []  # every connection; `peer.gone` tells when its other side left
        self._news = asyncio.Event()

    # --- what it answers

    def script(self, path: str, *answers: Behaviour) -> None:
        """Queue behaviours for a path (without query); each is used once, then the default holds."""
        self._scripts.setdefault(path, deque()).extend(answers)

    def always(self, path: str, answer: Behaviour) -> None:
        """Set the default of a path."""
        self._defaults[path] = answer

    # --- what it saw

    @property
    def hits(self) -> int:
        """Requests so far, on all paths."""
        return len(self.seen)

    async def arrived(self, count: int = 1, within: float = 2.0) -> Seen:
        """Wait until `count` requests have come in all (bodies read); return that one."""
        while len(self.seen) < count:
            self._news.clear()
            await wait_within(self._news.wait(), within, f"request {count}; {len(self.seen)} came")
        return self.seen[count - 1]

    # --- where it is

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an SDK or an upstream takes."""
        return f"{self.url}/v1"

    @property
    def ca_file(self) -> str:
        """The PEM file of the authority that signed its certificate."""
        assert self._folder is not None, "only a lab with tls has one"
        return str(Path(self._folder.name) / "ca.pem")

    async def refuse(self) -> None:
        """Close the port: connections are refused from now on, running ones go on. The port stays ours."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reserve()

    async def accept(self) -> None:
        """Listen (again)."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            peer = Peer(self, loop)
            return asyncio.StreamReaderProtocol(peer, self._connected, loop=loop)

        assert self._socket is not None
        self._server = await loop.create_server(protocol, sock=self._socket, ssl=self._context)

    async def __aenter__(self) -> Self:
        if self._tls:
            await asyncio.to_thread(self._certify)
        self._reserve()
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        for task in self._running:
            task.cancel()
        for peer in self.peers:
            peer.writer.transport.abort()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.sleep(0)  # one turn of the loop, in which aborted transports close
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)
        if error is None and self.broken:
            raise self.broken[0]

    # --- inside

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Peer)
        self.accepted += 1
        reader.number = self.accepted
        reader.writer = writer
        self.peers.append(reader)
        work = reader.hold() if self.mute else reader.serve()
        task = asyncio.get_running_loop().create_task(work, name=f"lab-{reader.number}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def next_behaviour(self, path: str) -> Behaviour:
        queue = self._scripts.get(path)
        if queue:
            return queue.popleft()
        return self._defaults.get(path) or behaviours.default_for(path)

    def note(self, seen: Seen) -> None:
        self.seen.append(seen)
        self._news.set()

    def _reserve(self) -> None:
        """Bind without listening: who connects is refused, and nobody else gets the port."""
        # With its protocol named, asyncio sets TCP_NODELAY on what it accepts.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self.host, self.port))
        self.port = self._socket.getsockname()[1]

    def _certify(self) -> None:
        self._folder = TemporaryDirectory(prefix="lab-")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        name = "elsewhere.example" if self._tls == "wrong name" else "127.0.0.1"
        until = datetime(2001, 1, 1, tzinfo=UTC) if self._tls == "expired" else None
        start = datetime(2000, 1, 1, tzinfo=UTC)
        leaf = authority.issue_cert(name, not_before=start, not_after=until)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(self._context)
