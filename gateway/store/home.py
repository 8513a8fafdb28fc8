"""The home folder: private files in it, and the lock that makes one process its owner."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from gateway.errors import StoreError

LOCK = "gateway.lock"
DATABASE = "gateway.db"
MASTER_KEY = "master.key"
BACKUPS = "backups"


def make_private_folder(folder: Path) -> None:
    """Make the folder for its owner alone; one that exists is left as it is."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make the folder {folder}: {error.strerror}", code="read_only") from error


def make_private_file(path: Path) -> None:
    """Make the file, or tighten the one that stands, so that only its owner reads it.

    SQLite gives its journals the mode of the database, so this covers them too.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"can't make {path}: {error.strerror}", code="read_only") from error


def put_in_place(part: Path, target: Path) -> None:
    """Give a finished file its name. Raises FileExistsError rather than replace what has it."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system (a USB stick); a rename would replace
        if target.exists():
            raise FileExistsError(target) from None
        part.rename(target)


class HomeLock:
    """An advisory lock on the home, held by the one process that may write the database.

    The kernel lets go of it when the process ends, however it ends; the file stays, because to
    delete it would let two processes hold locks on two files of one name.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / LOCK
        self._fd: int | None = None

    def take(self, *, wait_s: float) -> None:
        """Take the lock or raise StoreError naming its holder. Blocks up to `wait_s`."""
        fd = self._open()
        until = time.monotonic() + wait_s
        while not _try_lock(fd):
            if time.monotonic() >= until:
                holder = _read_pid(fd)
                os.close(fd)
                raise StoreError(_held(self._path.parent, holder), code="held")
            time.sleep(0.02)  # another command holds it for some milliseconds
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go; safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"can't open {self._path}: {error.strerror}", code="read_only") from error


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_pid(fd: int) -> str:
    text = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
    return text if text.isdigit() else ""


def _held(home: Path, pid: str) -> str:
    who = f"process {pid}" if pid else "another process"
    return (
        f"the gateway's home {home} is in use by {who}; "
        "stop it, or give the same --home so that the command speaks to it"
    )
