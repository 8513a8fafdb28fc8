"""A load generator that costs little: asyncio protocols that look for the end of a reply, no HTTP library."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field


@dataclass
class Figures:
    """What one run saw; times are seconds."""

    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    slips: list[float] = field(default_factory=list)  # how late each paced event was
    failures: int = 0

    def ms(self, values: list[float], quantile: float) -> float:
        if not values:
            return float("nan")
        ordered = sorted(values)
        return 1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


class _Client(asyncio.Protocol):
    """One keep-alive connection; `ask` sends a request and waits for its whole reply."""

    def __init__(self) -> None:
        self.done: asyncio.Future[float] | None = None
        self.first: float | None = None
        self.arrivals: list[float] = []
        self._tail = b""
        self._size = 0
        self._length = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(ConnectionError("closed"))

    def ask(self, request: bytes) -> asyncio.Future[float]:
        self.done = asyncio.get_running_loop().create_future()
        self.first = None
        self.arrivals.clear()
        self._tail, self._size, self._length = b"", 0, -1
        self._transport.write(request)
        return self.done

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.first is None:
            self.first = now
            head, _, rest = data.partition(b"\r\n\r\n")
            lowered = head.lower()
            if not head.startswith(b"HTTP/1.1 200"):
                self._finish(ConnectionError(head[:80].decode("latin-1")))
                return
            at = lowered.find(b"content-length:")
            self._length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else -1
            self._size = len(rest)
            data = rest
        else:
            self._size += len(data)
        self.arrivals.extend([now] * data.count(b'"content":"word'))
        self._tail = (self._tail + data)[-7:]
        if self._size == self._length or (self._length < 0 and self._tail.endswith(b"\r\n0\r\n\r\n")):
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        assert self.done is not None
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(time.perf_counter())


def request(model: str, *, stream: bool, port: int) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "stream": stream,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant. " * 10},
                {"role": "user", "content": "Write something. " * 15},
            ],
            "temperature": 0.2,
        }
    ).encode()
    return post("/v1/chat/completions", body, port=port)


def post(path: str, body: bytes, *, port: int) -> bytes:
    """One request as it goes over the wire."""
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer sk-client\r\naccept: */*\r\nuser-agent: load/1\r\ncontent-length: %d\r\n\r\n"
        % (path.encode(), port, len(body))
    ) + body


async def run(
    port: int, model: str, *, stream: bool, clients: int, each: int, pace_s: float = 0.0, payload: bytes = b""
) -> Figures:
    """`clients` connections send `each` requests one after the other: a chat, unless `payload` is another."""
    figures = Figures()
    loop = asyncio.get_running_loop()
    payload = payload or request(model, stream=stream, port=port)

    async def client(number: int) -> None:
        if pace_s:
            await asyncio.sleep(pace_s * number / clients)  # spread within one pace, as real users are
        _, protocol = await loop.create_connection(_Client, "127.0.0.1", port)
        for _ in range(each):
            began = time.perf_counter()
            try:
                ended = await protocol.ask(payload)
            except ConnectionError:
                figures.failures += 1
                return
            figures.latencies.append(ended - began)
            assert protocol.first is not None
            figures.first_bytes.append(protocol.first - began)
            if pace_s and protocol.arrivals:
                # Against the pace at which the earliest event came, whichever that was.
                offsets = [at - index * pace_s for index, at in enumerate(protocol.arrivals[:-1])]
                figures.slips.extend(offset - min(offsets) for offset in offsets)
        protocol._transport.close()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    return figures


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")
