"""The worker's way out: bytes in their order, sent at once while the gateway reads, else kept."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from typing import NoReturn

_KEPT = 64 * 1024 * 1024  # many minutes of answers
_PATIENCE_S = 60.0  # with a gateway that reads nothing when so much is kept


class Outlet:
    """Any thread may `put`. When nobody reads, it keeps what it is given; when it is full, the engine
    waits; when that lasts, the process ends, as it does when the other end of the line is closed.
    """

    def __init__(self, line: socket.socket, *, limit: int = _KEPT, patience_s: float = _PATIENCE_S) -> None:
        self._line, self._limit, self._patience_s = line, limit, patience_s
        self._kept: deque[bytes | bytearray] = deque()  # the first one is being sent
        self._size = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._drain, name="worker-out", daemon=True).start()

    def put(self, data: bytes | bytearray) -> None:
        with self._changed:
            # From this very thread where that does not wait: a token is not to stand in line for the GIL.
            rest = data if self._kept else data[self._send_now(data) :]
            if not rest:
                return
            if not self._changed.wait_for(lambda: self._size < self._limit, self._patience_s):
                _leave()
            self._kept.append(rest)
            self._size += len(rest)
            self._changed.notify_all()

    def offer(self, data: bytes | bytearray) -> None:
        """Send it unless something waits already."""
        if not self._kept:
            self.put(data)

    def flush(self, within_s: float) -> bool:
        """Is everything out, at the latest after this time?"""
        with self._changed:
            return self._changed.wait_for(lambda: not self._kept, within_s)

    def _send_now(self, data: bytes | bytearray) -> int:
        try:
            return self._line.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            _leave()

    def _drain(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept)
                data = self._kept[0]
            try:
                self._line.sendall(data)
            except OSError:
                _leave()
            with self._changed:
                self._kept.popleft()
                self._size -= len(data)
                self._changed.notify_all()


def _leave() -> NoReturn:
    os._exit(1)
