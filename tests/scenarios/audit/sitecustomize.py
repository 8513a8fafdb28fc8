"""Writes down every way out that a Python program takes; read by whatever starts with this folder on its path.

uvloop connects and looks names up below Python, where no hook sees it, so its place is taken by asyncio's
own loop, which does both through `socket`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import uvloop

_WAYS_OUT = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "subprocess.Popen": 0,
}
_log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _note(event: str, args: tuple[Any, ...]) -> None:
    place = _WAYS_OUT.get(event)
    if place is not None:
        os.write(_log, f"{event} {args[place]!r}\n".encode())


uvloop.run = asyncio.run
sys.addaudithook(_note)
