"""Tell systemd how the daemon is: ready, reloading, stopping, alive (sd_notify(3)).

Without NOTIFY_SOCKET, under launchd or in a terminal, everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import time


class Notify:
    """The service manager's ear."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def watchdog_s(self) -> float | None:
        """How often the manager wants to hear from us, None when it does not."""
        usec = os.environ.get("WATCHDOG_USEC", "")
        return int(usec) / 1e6 if usec.isdigit() and self._address else None

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        # systemd wants the monotonic time of the reload to match it with its own signal.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(self._address)
                sock.sendall(state.encode())
        except OSError:
            return  # the manager went away, or there is no descriptor left; nothing depends on it
