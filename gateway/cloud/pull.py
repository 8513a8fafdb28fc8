"""Fetches the files of a repository into a folder, and goes on there when it is done again.

A file has its name only when it is whole and its size and hash are what the hub lists; until then it
is a part, whose name tells which content it is a part of. So a process that ends, however it ends,
loses nothing that came, and bytes of two commits are never mixed. Files that have not changed since
the commit that is installed are taken from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.cloud.hub import Hub, HubBusyError
from gateway.cloud.patience import Patience
from gateway.cloud.repository import CONFIG, RemoteFile, Repository
from gateway.errors import RefusedError

_STATE = ".revision"  # of which commit the whole files in the folder are


class Watcher(Protocol):
    """Who is told how it goes on."""

    def begin(self, files: int, size_bytes: int, here_bytes: int) -> None:
        """So much is to be there at the end; so much of it is there already."""

    def file(self, number: int, path: str, size_bytes: int) -> None:
        """This file, the so manieth, is next."""

    def got(self, count: int) -> None:
        """So many bytes came; less than 0: so many must come again."""

    def note(self, text: str) -> None:
        """Something that a person would want to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """The files of one commit, and the folder that they come into. `run` it in one process at a time."""

    hub: Hub
    repository: Repository
    files: Sequence[RemoteFile]
    folder: Path
    installed: Path | None  # holds an older commit
    check: Callable[[Path], None]  # looks at the config.json before the weights are fetched
    watcher: Watcher
    patience: Patience

    def run(self) -> int:
        """Bring every file; returns how many bytes were fetched. Raises RefusedError or OSError."""
        self._tidy()
        missing = [file for file in self.files if not self._is_here(file)]
        total = sum(file.size_bytes for file in self.files)
        to_come = sum(file.size_bytes - self._part_bytes(file) for file in missing)
        self._check_space(to_come)
        self.watcher.begin(len(self.files), total, total - to_come)
        fetched = 0
        for number, file in enumerate(self.files, start=1):
            if file in missing:
                self.watcher.file(number, file.path, file.size_bytes)
                fetched += self._fetch(file)
            if file.path == CONFIG:
                self.check(self.folder / CONFIG)
        (self.folder / _STATE).unlink()
        return fetched

    # --- what is there already --------------------------------------------------------------

    def _tidy(self) -> None:
        """Leave only what this commit can use: files of it, and parts of the others."""
        state = self.folder / _STATE
        trusted = state.is_file() and state.read_text("utf-8") == self.repository.revision
        useful = {state, *(self._part(file) for file in self.files)}
        for file in self.files:
            path = self.folder / file.path
            if (trusted and _size(path) == file.size_bytes) or self._is_same(path, file):
                useful.add(path)
        for path in [path for path in self.folder.rglob("*") if not path.is_dir()]:
            if path not in useful:
                path.unlink()
        state.write_text(self.repository.revision, "utf-8")

    def _is_here(self, file: RemoteFile) -> bool:
        path = self.folder / file.path
        if path.exists():
            return True
        if self.installed is None or not self._is_same(self.installed / file.path, file):
            return False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.link(self.installed / file.path, path)
        except OSError:  # no hard links on this file system
            shutil.copyfile(self.installed / file.path, path)
        return True

    def _is_same(self, path: Path, file: RemoteFile) -> bool:
        """Whether it is this very file; asked of large ones only, where that spares a download."""
        if file.sha256 is None or _size(path) != file.size_bytes:
            return False
        self.watcher.note(f"{file.path} is here; looking whether it has changed")
        return _sha256(path) == file.sha256

    def _part(self, file: RemoteFile) -> Path:
        """Its unfinished state, named by the content that it is to become."""
        content = file.sha256 or file.blob or self.repository.revision
        key = hashlib.sha256(f"{file.path}\0{file.size_bytes}\0{content}".encode()).hexdigest()
        return self.folder / f".{key[:20]}.part"

    def _part_bytes(self, file: RemoteFile) -> int:
        size = _size(self._part(file)) or 0
        return size if size <= file.size_bytes else 0

    def _check_space(self, wanted: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if wanted > free:
            raise RefusedError(
                f"{self.repository.name} needs {wanted / 1e9:.2f} GB more and {free / 1e9:.2f} GB are free "
                "where models are kept; make room and run this again"
            )

    # --- what is to come --------------------------------------------------------------------

    def _fetch(self, file: RemoteFile) -> int:
        part = self._part(file)
        fetched = failures = 0
        while True:
            before = fetched
            try:
                for count in self._fetch_on(file, part):
                    fetched += count
                break
            except HubBusyError as busy:
                failures = failures + 1 if fetched == before else 1
                try:
                    self.patience.wait(busy, failures)
                except HubBusyError as last:
                    raise RefusedError(
                        f"{last.message}; what came is kept, the same command goes on from there"
                    ) from last
        self._put_in_place(file, part)
        return fetched

    def _fetch_on(self, file: RemoteFile, part: Path) -> Iterator[int]:
        """Fetch what is missing of the part; yields how much came each time."""
        here = self._part_bytes(file)
        if here == file.size_bytes and part.exists():
            return
        with self.hub.body(self.repository, file, start=here) as body, part.open("ab", buffering=0) as out:
            out.truncate(body.start)
            self.watcher.got(body.start - here)
            here = body.start
            for chunk in body.chunks:
                here += len(chunk)
                if here > file.size_bytes:
                    break
                out.write(chunk)
                self.watcher.got(len(chunk))
                yield len(chunk)
        if here > file.size_bytes:
            part.unlink()
            raise RefusedError(
                f"{file.path} is longer than the {file.size_bytes} bytes that the hub lists; it was removed"
            )
        if here < file.size_bytes:
            raise HubBusyError(f"the hub ended {file.path} after {here} of {file.size_bytes} bytes")

    def _put_in_place(self, file: RemoteFile, part: Path) -> None:
        if file.sha256 is not None and _sha256(part) != file.sha256:
            part.unlink()
            raise RefusedError(
                f"{file.path} is not what the hub lists: its SHA-256 differs; it was removed, run this again"
            )
        path = self.folder / file.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with part.open("rb") as whole:
            os.fsync(whole.fileno())
        part.replace(path)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
