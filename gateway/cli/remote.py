"""The running daemon: HTTP over admin.sock in the home, one request a command."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

import click

from gateway.cli.home import SOCKET
from gateway.errors import (
    ConfigError,
    GatewayError,
    MissingError,
    RefusedError,
    SecretError,
    StoreError,
)

# Testing an upstream may take as long as that upstream does.
_ANSWER_S = 120.0
_LONGEST_PATH = 100  # of a socket's address: 104 bytes on macOS, 108 on Linux, with a final zero

# What the daemon calls its refusals, and what they are here.
_KINDS: dict[str, type[GatewayError]] = {
    "missing": MissingError,
    "refused": RefusedError,
    "config": ConfigError,
    "store": StoreError,
    "secret": SecretError,
}


class Connection(http.client.HTTPConnection):
    """HTTP over a socket that is open already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self.sock = sock


def connect(home: Path) -> Connection | None:
    """A connection to the daemon; None where none runs, even if it left its socket behind."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(_ANSWER_S)
    try:
        _connect_socket(sock, home / SOCKET)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise RefusedError(
            f"can't speak to the daemon at {home / SOCKET}: {error.strerror}; run the command as its user"
        ) from error
    return Connection(sock)


def _connect_socket(sock: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        sock.connect(os.fspath(path))
        return
    with contextlib.chdir(path.parent):
        sock.connect(path.name)


def ask(connection: Connection, operation: str, args: bytes) -> Any:
    """Run `operation` in the daemon; raises what it refused with, and closes the connection."""
    with contextlib.closing(connection):
        status, body = _exchange(connection, operation, args)
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise RefusedError(f"the daemon answered {status} and something that is not JSON") from error
    if status != http.client.OK:
        raise _error(status, answer)
    return answer


def _exchange(connection: Connection, operation: str, args: bytes) -> tuple[int, bytes]:
    try:
        connection.request(
            "POST",
            f"/admin/api/{operation.replace('.', '/')}",
            body=args,
            headers={"content-type": "application/json"},
        )
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError as error:
        raise RefusedError(f"the daemon did not answer within {_ANSWER_S:g} s; see its log") from error
    except (OSError, http.client.HTTPException) as error:
        raise RefusedError("the daemon went away before it answered; see its log and try again") from error


def _error(status: int, answer: Any) -> Exception:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return RefusedError(f"the daemon answered {status} without a reason; see its log")
    kind, message = error.get("kind"), error["message"]
    if kind == "usage":
        return click.UsageError(message, click.get_current_context())
    return _KINDS.get(str(kind), RefusedError)(message)
