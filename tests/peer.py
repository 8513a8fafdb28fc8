"""One connection to the lab: HTTP/1.1 by hand, because what is tested is what no proper server would do.

`Seen` is what came, `Exchange` is what a behaviour holds, `Peer` is the socket with its keep-alive loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import json as _json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

_HEAD_LIMIT = 1 << 20
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close() sends RST


class House(Protocol):
    """What a connection needs of the lab."""

    keep: int
    broken: list[Exception]

    def next_behaviour(self, path: str) -> Callable[[Exchange], Awaitable[None]]: ...

    def note(self, seen: Seen) -> None: ...


class Gone(Exception):
    """The peer has left, or the lab closes: the behaviour ends here."""


class Seen:
    """One request as it came over the wire. Times are event loop times."""

    def __init__(self, peer: Peer, start_line: str, headers: list[tuple[str, str]]) -> None:
        self.method, self.target, self.version = start_line.split(" ", 2)
        self.path, _, self.query = self.target.partition("?")
        self.headers = headers  # names as they were written, in order
        self.at = peer.loop.time()
        self.size = 0
        self.read_whole = False  # the body has come to its end
        self.answered = False  # the behaviour ran to its end
        self.peer = peer
        self._hash = hashlib.sha256()
        self._kept: bytearray | None = bytearray()

    def header(self, name: str) -> str | None:
        """The first value of a field, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def body(self) -> bytes:
        """The body; only its hash and size are known when it was larger than the lab keeps."""
        assert self._kept is not None, f"the body had {self.size} bytes; only its hash was kept"
        return bytes(self._kept)

    @property
    def json(self) -> Any:
        """The body as JSON, {} where it is none."""
        try:
            return _json.loads(self.body)
        except ValueError:
            return {}

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def connection(self) -> int:
        """The number of the connection it came on, from 1: equal numbers are one kept-alive connection."""
        return self.peer.number

    @property
    def left(self) -> bool:
        """Has the peer closed or reset the connection by now?"""
        return self.peer.gone.is_set()

    async def gone(self, within: float = 1.0) -> float:
        """Wait until the peer closes the connection; return the loop time at which it did."""
        await wait_within(self.peer.gone.wait(), within, f"the peer to leave {self.method} {self.path}")
        assert self.peer.gone_at is not None
        return self.peer.gone_at

    def take(self, data: bytes, keep: int) -> None:
        self.size += len(data)
        self._hash.update(data)
        if self._kept is not None:
            self._kept += data
            if len(self._kept) > keep:
                self._kept = None

    def __repr__(self) -> str:
        return f"<Seen {self.method} {self.target} {self.size} bytes on connection {self.connection}>"


class Exchange:
    """What a behaviour has in its hands: the request and the socket."""

    def __init__(self, peer: Peer, seen: Seen) -> None:
        self.seen = seen
        self._peer = peer

    async def head(
        self, status: int, headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), reason: str = "Lab"
    ) -> None:
        """Write a status line and header fields."""
        fields = headers.items() if isinstance(headers, Mapping) else headers
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields), "", ""]
        await self.write("\r\n".join(lines).encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """Write bytes as they are and wait while the peer does not take them."""
        if self._peer.gone.is_set() or self._peer.writer.is_closing():
            raise Gone
        self._peer.writer.write(data)
        await self._peer.writer.drain()

    async def wait(self, gate: asyncio.Event) -> None:
        """Hold until the gate opens or the peer leaves."""
        waits = [asyncio.ensure_future(event.wait()) for event in (gate, self._peer.gone)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        if self._peer.gone.is_set():
            raise Gone

    async def sleep(self, seconds: float) -> None:
        """Let time pass, unless the peer leaves."""
        try:
            await asyncio.wait_for(self._peer.gone.wait(), seconds)
        except TimeoutError:
            return
        raise Gone

    async def read_body(self) -> None:
        """Read the rest of the request; only for `early` behaviours, all others find it read."""
        await self._peer.read_body(self.seen)

    async def cut(self, how: str) -> None:
        """End it here: by FIN, by RST, or by silence until the peer leaves."""
        if how == "stall":
            await self._peer.gone.wait()
        elif how == "fin":
            self.close()
        else:
            self._peer.reset()
        raise Gone

    def close(self) -> None:
        """Send what is written, then FIN; the connection takes no further request."""
        self._peer.close()


class Peer(asyncio.StreamReader):
    """One accepted connection; a reader that notices when its peer leaves, whatever else goes on."""

    def __init__(self, house: House, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_HEAD_LIMIT, loop=loop)
        self.loop = loop
        self.number = 0
        self.gone = asyncio.Event()
        self.gone_at: float | None = None
        self.writer: asyncio.StreamWriter
        self._house = house
        self._ended_here = False

    def feed_eof(self) -> None:
        self._left()
        super().feed_eof()

    def set_exception(self, exc: BaseException) -> None:
        self._left()
        super().set_exception(exc)  # type: ignore[arg-type] # typeshed says Exception, asyncio gives more

    def _left(self) -> None:
        if not self._ended_here and not self.gone.is_set():
            self.gone_at = self.loop.time()
            self.gone.set()

    def close(self) -> None:
        self._ended_here = True
        self.writer.close()

    def reset(self) -> None:
        self._ended_here = True
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()

    async def hold(self) -> None:
        """Say nothing until the peer leaves."""
        await self.gone.wait()
        self.close()

    async def serve(self) -> None:
        """Take requests until one side has had enough."""
        try:
            while not self.writer.is_closing():
                seen = await self._read_head()
                behaviour = self._house.next_behaviour(seen.path)
                if not getattr(behaviour, "early", False):
                    await self.read_body(seen)
                self._house.note(seen)
                await behaviour(Exchange(self, seen))
                seen.answered = True
                if not seen.read_whole:
                    break  # the rest of an unread body is no request
        except (Gone, asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        except Exception as error:
            self._house.broken.append(error)
        finally:
            self.close()

    async def _read_head(self) -> Seen:
        start, *fields = (await self.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = (field.partition(":") for field in fields)
        return Seen(self, start, [(name, value.strip()) for name, _, value in pairs])

    async def read_body(self, seen: Seen) -> None:
        if (seen.header("expect") or "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (seen.header("transfer-encoding") or "").lower() == "chunked":
            while size := int((await self.readuntil(b"\r\n")).split(b";")[0], 16):
                await self._read_exactly(seen, size)
                await self.readexactly(2)
            while await self.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
        else:
            await self._read_exactly(seen, int(seen.header("content-length") or 0))
        seen.read_whole = True

    async def _read_exactly(self, seen: Seen, size: int) -> None:
        while size:
            data = await self.read(min(size, 1 << 18))
            if not data:
                raise Gone
            seen.take(data, self._house.keep)
            size -= len(data)


async def wait_within(wait: Awaitable[object], seconds: float, what: str) -> None:
    """Wait for something that a test expects soon, and say what it was when it does not come."""
    try:
        await asyncio.wait_for(wait, seconds)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:g} s for {what}") from None
