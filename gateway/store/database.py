"""One database, one thread: everything that touches it runs there, in turn.

Callers on the event loop await `run`; synchronous callers use `call`. The queue is bounded, so a
stuck disk makes changes fail soon instead of piling them up. Twice a second, on the same thread, the
database is asked whether somebody else changed it. What is nobody's errand, such as writing the
request ledger, is a chore: the thread comes back to it between two jobs.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import peewee

from gateway.errors import ConfigError, GatewayError, StoreError
from gateway.store import home as homes
from gateway.store import models, sql, sqlite
from gateway.store.backup import copy_database
from gateway.store.faults import mapped
from gateway.store.migrate import migrate

T = TypeVar("T")

log = logging.getLogger(__name__)

_Job = Callable[[], None]
_Chore = Callable[[], float]  # returns in how many seconds it wants to be done again

_CHORE_S = 1.0


class Database:
    """The open database and its thread. Only `Store` makes one."""

    def __init__(
        self, url: str, home: Path, *, busy_s: float = 5.0, queue_size: int = 256, poll_s: float = 0.5
    ) -> None:
        self._url = url
        self._home = home.absolute()
        self._busy_s = busy_s
        self._queue_size = queue_size
        self._poll_s = poll_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = homes.HomeLock(self._home)
        self._database: peewee.Database | None = None
        self._seen = 0
        self._complaint = ""
        self._closed = False
        self.read_only: str | None = None
        self.migrated: tuple[str, ...] = ()
        self.on_foreign_change: Callable[[], None] | None = None
        self.chore: _Chore | None = None
        # A daemon thread: whatever was acknowledged is on disk, so it may be cut off at exit.
        self._thread = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` on the database's thread. Raises what it raises; Peewee's errors as StoreError.

        A caller that is cancelled takes back a job that has not begun; one that has is finished.
        """
        return await asyncio.wrap_future(self._submit(job))

    def call(self, job: Callable[[], T]) -> T:
        """The same for callers without an event loop; blocks."""
        return self._submit(job).result()

    def open(self, *, wait_s: float) -> None:
        """On the thread: take the home, open, check and migrate. Raises StoreError or ConfigError."""
        homes.make_private_folder(self._home)
        path = sqlite_path(self._url, self._home)
        try:
            if path is None:
                self._lock.take(wait_s=wait_s)
                self._use(_connect(self._url))
            else:
                self._open_file(path, wait_s=wait_s)
            self._migrate()
            self._seen = self._mark()
        except BaseException:
            self._shut()
            raise

    def reopen(self) -> None:
        """On the thread: try to get a database that could only be read back into writing."""
        path = sqlite_path(self._url, self._home)
        if self.read_only is None or path is None:
            return
        self._shut()
        self._open_file(path, wait_s=0.0)

    async def close(self) -> None:
        """Finish what is queued, close and let go of the home. Safe to call twice."""
        if not self._closed:
            self._closed = True
            done: Future[None] = Future()
            self._jobs.put(lambda: _settle(done, self._shut))
            self._jobs.put(None)
            await asyncio.wrap_future(done)

    @property
    def handle(self) -> peewee.Database:
        """On the thread: Peewee's own object."""
        if self._database is None:
            raise StoreError("the database is closed", code="closed")
        return self._database

    @property
    def is_sqlite(self) -> bool:
        return isinstance(self._database, peewee.SqliteDatabase)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """On the thread: several reads that see one state."""
        with mapped(), sql.transaction(self.handle, "DEFERRED" if self.is_sqlite else "REPEATABLE READ"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """On the thread: one transaction; an exception undoes it."""
        if self.read_only is not None:
            raise StoreError(
                f"{self.read_only}: nothing was changed; check its permissions", code="read_only"
            )
        mark = self._seen
        with mapped(), sql.transaction(self.handle, "IMMEDIATE" if self.is_sqlite else "SERIALIZABLE"):
            yield
            if not self.is_sqlite:
                mark = self._mark()  # a server's mark moves with our own changes too
        self._seen = mark

    @contextmanager
    def noting(self, *, wait_s: float) -> Iterator[None]:
        """On the thread: a transaction for rows that may be lost: it waits `wait_s` for a lock, no longer."""
        handle = self.handle
        if self.read_only is not None:
            raise StoreError(self.read_only, code="read_only")
        with mapped():
            if isinstance(handle, peewee.SqliteDatabase):
                with sqlite.waiting(handle, wait_s, then=self._busy_s), sql.transaction(handle, "IMMEDIATE"):
                    yield
                return
            with sql.transaction(handle, "READ COMMITTED"):
                # 0 would be for ever.
                sql.run(handle, f"SET LOCAL lock_timeout = {max(1, round(wait_s * 1000)):d}")
                yield

    def catch_up(self) -> None:
        """On the thread: do the chore now, so that what is read next is not a second old."""
        self._do_chore()

    def _submit(self, job: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise StoreError("the database is closed", code="closed")
        if self._jobs.qsize() >= self._queue_size:
            raise StoreError("the database has too much to do; try again in a moment", code="busy")
        future: Future[T] = Future()
        self._jobs.put(lambda: _settle(future, job))
        return future

    def _serve(self) -> None:
        next_look = next_chore = time.monotonic() + self._poll_s
        while True:
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + self._poll_s
            if time.monotonic() >= next_chore:
                next_chore = time.monotonic() + self._do_chore()
            try:
                # At least one job, if there is any, between two chores.
                job = self._jobs.get(timeout=max(0.0, min(next_look, next_chore) - time.monotonic()))
            except queue.Empty:
                continue
            if job is None:
                return
            job()

    def _do_chore(self) -> float:
        if self._database is None or self.chore is None:
            return _CHORE_S
        try:
            return self.chore()
        except Exception:
            log.exception("a chore of the database failed")
            return _CHORE_S

    def _look(self) -> None:
        if self._database is None:
            return
        try:
            with mapped():
                seen = self._mark()
            if seen != self._seen and self.on_foreign_change is not None:
                self.on_foreign_change()
            self._seen, self._complaint = seen, ""
        except StoreError as error:
            self._complain(error)
            if not self.is_sqlite:
                self._reconnect()
        except Exception:
            log.exception("looking for changes in the database failed")

    def _complain(self, error: StoreError) -> None:
        """Log what is wrong, once and not twice a second."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("can't look for changes in the database: %s", error)

    def _reconnect(self) -> None:
        """A server may have been restarted; until it is back the snapshot routes."""
        with suppress(GatewayError, peewee.PeeweeException):
            self.handle.close()
            self.handle.connect()

    def _mark(self) -> int:
        """A number that is another one after somebody else's commit."""
        if self.is_sqlite:
            return sql.number(self.handle, "PRAGMA data_version")
        return sql.number(self.handle, "SELECT MAX(id) FROM history")

    def _open_file(self, path: Path, *, wait_s: float) -> None:
        sqlite.peek(path)
        self._take_home(path, wait_s=wait_s)
        opened = sqlite.open_file(path, busy_s=self._busy_s)
        self.read_only = opened.read_only
        self._use(opened.database)
        sqlite.check_whole(opened.database)

    def _take_home(self, path: Path, *, wait_s: float) -> None:
        try:
            self._lock.take(wait_s=wait_s)
        except StoreError as error:
            # A home that nobody can write to needs no owner.
            if error.code != "read_only" or not path.exists():
                raise

    def _use(self, database: peewee.Database) -> None:
        self._database = database
        models.use_in_this_thread(database)

    def _migrate(self) -> None:
        with mapped():
            done = migrate(self.handle, back_up=self._back_up_before)
        self.migrated = tuple(done)

    def _back_up_before(self, version: int) -> None:
        if not isinstance(self.handle, peewee.SqliteDatabase):
            log.warning("migrating from schema %s; the server's own backup is yours to make", version)
            return
        folder = self._home / homes.BACKUPS
        homes.make_private_folder(folder)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        copy_database(self.handle, folder / f"gateway-schema{version}-{stamp}.db")

    def _shut(self) -> None:
        models.use_in_this_thread(None)
        database, self._database = self._database, None
        try:
            if database is not None and not database.is_closed():
                with mapped():
                    database.close()
        finally:
            self._lock.release()


def sqlite_path(url: str, home: Path) -> Path | None:
    """The file that `store.url` means, None for a database server. A relative one is in the home."""
    if not url:
        return home / homes.DATABASE
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        return None
    name = rest.partition("?")[0].removeprefix("/")
    if not name or name == ":memory:":
        raise ConfigError("store.url must name a file, as in sqlite:////path/to/gateway.db")
    return home / name


def _connect(url: str) -> peewee.Database:
    from playhouse import db_url

    try:
        database: peewee.Database = db_url.connect(
            url, unquote_password=True, unquote_user=True, autoconnect=False
        )
    except RuntimeError as error:
        # Peewee's sentence names the scheme alone; the URL may hold a password.
        raise ConfigError(f"store.url can't be used: {str(error).strip()}") from error
    try:
        with mapped():
            database.connect()
    except peewee.ImproperlyConfigured as error:
        raise ConfigError(f"store.url needs a driver that is not installed: {error}") from error
    return database


def _settle(future: Future[T], job: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        with mapped():
            future.set_result(job())
    except BaseException as error:
        future.set_exception(error)
