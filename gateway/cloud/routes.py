"""What the system says of the way to a host: its kernel's routes and its resolver. Nothing is sent by us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading

from gateway.cloud.offline import Answer, is_loopback

_NO_ROUTE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EAFNOSUPPORT}
)
# A root name server: every network that has an outside routes it there.
_OUTSIDE = ("198.41.0.4", "2001:503:ba3e::2:30")
_PORT = 9  # discard; nobody is spoken to
_MOST = 48  # look-ups that hang at a time; each has a thread


def has_route(address: str) -> bool:
    """Does the kernel know a way to `address`? Connecting a datagram socket asks it and sends nothing.

    What it refuses for other reasons (a firewall, no file descriptors) says nothing of the way.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.connect((address, _PORT))
    except OSError as error:
        return error.errno not in _NO_ROUTE
    return True


def has_outside() -> bool:
    """Is there a route to the internet, in either family?"""
    return any(has_route(address) for address in _OUTSIDE)


class Resolver:
    """Looks names up, each in a thread of its own.

    A look-up whose name server is gone can't be stopped and hangs for many seconds. In the loop's few
    threads such would stand in the way of the one that is answered when the network is back, and an
    executor's would hold up the process's end.
    """

    def __init__(self) -> None:
        self._hanging = 0

    async def look_up(self, host: str) -> tuple[Answer, tuple[str, ...]]:
        """What came of it, and the addresses that were found."""
        if self._hanging >= _MOST:
            return Answer.SILENT, ()
        loop = asyncio.get_running_loop()
        told: asyncio.Future[tuple[Answer, tuple[str, ...]]] = loop.create_future()

        def tell(found: tuple[Answer, tuple[str, ...]]) -> None:
            self._hanging -= 1
            if not told.done():
                told.set_result(found)

        def ask() -> None:
            found = resolve(host)
            with contextlib.suppress(RuntimeError):  # the loop has ended since
                loop.call_soon_threadsafe(tell, found)

        try:
            threading.Thread(target=ask, name=f"look-up-{host}", daemon=True).start()
        except RuntimeError:  # the system has no more threads for us
            return Answer.SILENT, ()
        self._hanging += 1
        return await told


def resolve(host: str) -> tuple[Answer, tuple[str, ...]]:
    """Ask the system's resolver; this blocks, for long where no name server can be reached."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return (Answer.SILENT if error.errno == socket.EAI_AGAIN else Answer.MISSING), ()
    except (OSError, UnicodeError):
        return Answer.MISSING, ()
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    return (Answer.HERE if all(map(is_loopback, addresses)) else Answer.FOUND), addresses
