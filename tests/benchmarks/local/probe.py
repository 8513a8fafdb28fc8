"""Asks a server again and again whether it is alive, in a process of its own: `probe PORT PATH SECONDS`.

Prints the latencies in seconds as a JSON list. A loop that is busy answers late.
"""

from __future__ import annotations

import json
import socket
import sys
import time

_EVERY_S = 0.01


def sample(port: int, path: str, seconds: float) -> list[float]:
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode()
    found = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(request)
            assert b" 200 " in sock.recv(4096).partition(b"\r\n")[0]
        took = time.perf_counter() - began
        found.append(took)
        time.sleep(max(0.0, _EVERY_S - took))
    return found


if __name__ == "__main__":
    print(json.dumps(sample(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
