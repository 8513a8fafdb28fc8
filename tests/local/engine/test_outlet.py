"""The worker's way out keeps the order, and what nobody reads, and at last gives up."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gateway.local.engine import outlet as outlet_module
from gateway.local.engine.outlet import Outlet
from tests.local.workers import eventually


class LeftError(Exception):
    pass


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs
        # Its thread waits for more; let it not send into whatever gets this number next.
        ours.shutdown(socket.SHUT_RDWR)


def read(line: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        found += line.recv(min(65536, size - len(found)))
    return bytes(found)


def test_all_arrives_in_order_though_nobody_reads_at_first(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    outlet = Outlet(ours)
    parts = [bytes([n % 256]) * (1 + n * 37 % 5000) for n in range(1000)]
    for part in parts[:900]:
        outlet.put(part)
    assert not outlet.flush(0)
    outlet.offer(b"a report that can wait")
    whole = b"".join(parts[:900])
    assert read(theirs, len(whole)) == whole
    assert outlet.flush(10)
    for part in parts[900:]:
        outlet.put(part)
    rest = b"".join(parts[900:])
    assert read(theirs, len(rest)) == rest
    assert outlet.flush(10)
    outlet.offer(b"report")
    assert read(theirs, 6) == b"report"


def test_when_it_is_full_it_waits_for_a_reader_but_not_for_ever(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave() -> None:
        raise LeftError

    monkeypatch.setattr(outlet_module, "_leave", leave)
    ours, theirs = pair
    outlet = Outlet(ours, limit=1000, patience_s=0.05)
    sent = 0
    with pytest.raises(LeftError):
        while True:
            outlet.put(b"x" * 100_000)
            sent += 100_000
    read(theirs, sent)
    eventually(lambda: outlet.flush(0))
    outlet.put(b"again")
    assert read(theirs, 5) == b"again"


def test_a_closed_line_is_the_end(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave() -> None:
        raise LeftError

    monkeypatch.setattr(outlet_module, "_leave", leave)
    ours, theirs = pair
    outlet = Outlet(ours)
    theirs.close()
    with pytest.raises(LeftError):
        outlet.put(b"x")
