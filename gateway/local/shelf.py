"""HOME/models, where models come whole and leave whole.

The catalog lists a folder the moment it has its name, so it gets that name by one rename, and loses it
by one. What is not there yet grows in `.pulling/ORG--NAME`, what is going lies in `.removing-...`;
names that begin with a dot are no models. A lock on a folder itself says that somebody is at it,
and is gone with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.errors import RefusedError

MARK = ".pulled.json"
_PULLING = ".pulling"
_REMOVING = ".removing-"


class Mark(msgspec.Struct):
    """Says of a model's folder that it was pulled, and what it is; one put there by hand has none."""

    repo: str
    revision: str
    pulled_at: str


class Shelf:
    """The models folder of a home. Blocks. It is given names that the catalog lists or that
    `cloud.repository` lets pass, and joins them to paths as they are.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "models"

    def folder(self, name: str) -> Path:
        return self.root.joinpath(*name.split("/"))

    def mark(self, name: str) -> Mark | None:
        """What the model was pulled from; None for one that was not pulled."""
        try:
            return msgspec.json.decode((self.folder(name) / MARK).read_bytes(), type=Mark)
        except (OSError, msgspec.DecodeError):
            return None

    def has_unfinished(self, name: str) -> bool:
        return self._unfinished(name).is_dir()

    @contextlib.contextmanager
    def workplace(self, name: str) -> Iterator[Path]:
        """The folder in which `name` grows, for this process alone; what is in it stays."""
        place = self._unfinished(name)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(place) as ours:
            if not ours:
                raise RefusedError(f"{name} is being pulled by another command; wait for it or stop it")
            yield place

    def put(self, name: str, place: Path, mark: Mark) -> Path:
        """Give what has grown in `place` its name; what had the name before is removed."""
        (place / MARK).write_bytes(msgspec.json.encode(mark))
        folder = self.folder(name)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(folder):
            place.rename(folder)
            return folder
        with self._aside() as aside:
            folder.rename(aside / folder.name)
            try:
                place.rename(folder)
            except OSError:
                (aside / folder.name).rename(folder)
                raise
        return folder

    def remove(self, name: str) -> None:
        """Remove the model and what is unfinished of it; never what a link leads to."""
        folder = self.folder(name)
        with self._aside() as aside:
            folder.rename(aside / folder.name)
        if folder.parent != self.root:
            with contextlib.suppress(OSError):  # other models of that owner
                folder.parent.rmdir()
        if "/" in name:
            with contextlib.suppress(RefusedError):
                self.discard(name)

    def discard(self, name: str) -> None:
        """Remove what a pull that was stopped has left; RefusedError while one runs."""
        if self.has_unfinished(name):
            with self.workplace(name) as place, self._aside() as aside:
                place.rename(aside / place.name)

    def _unfinished(self, name: str) -> Path:
        return self.root / _PULLING / name.replace("/", "--")

    @contextlib.contextmanager
    def _aside(self) -> Iterator[Path]:
        """A folder for what goes; emptied in the end, and with it those that a crash has left."""
        aside = Path(tempfile.mkdtemp(prefix=_REMOVING, dir=self.root))
        with _held(aside):
            yield aside
            shutil.rmtree(aside, ignore_errors=True)
        for left in self.root.glob(f"{_REMOVING}*"):
            with _held(left) as ours:
                if ours:
                    shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Lock a folder; False when another process has it, or it is not there any more."""
    fd = _open(folder)
    if fd is None:
        yield False
        return
    try:
        yield _lock(fd) and _is(folder, fd)
    finally:
        os.close(fd)


def _open(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is(folder: Path, fd: int) -> bool:
    """Whether the folder still has its name: the one who had the lock may have renamed it."""
    try:
        return os.path.samestat(folder.lstat(), os.fstat(fd))
    except OSError:
        return False
