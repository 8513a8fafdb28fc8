"""The store: what everybody else holds of the database.

`snapshot` is a plain attribute that is swapped as a whole, so reading it costs nothing and nothing
that happens to the database can break it. Changes go through `change`: one transaction, checked
against the whole, and either everything of it is there afterwards or nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

from gateway.config import Config
from gateway.errors import ConfigError, RefusedError, SecretError
from gateway.routing.check import Finding, check_rules
from gateway.routing.rule import Target
from gateway.snapshot import Snapshot
from gateway.store.change import Change, Changed
from gateway.store.database import Database
from gateway.store.master import MasterKey
from gateway.store.read import State, read_state
from gateway.store.secrets import Vault

T = TypeVar("T")

log = logging.getLogger(__name__)


class Store:
    """The open database, its snapshot and its vault."""

    def __init__(self, database: Database, vault: Vault, home: Path, default_target: Target) -> None:
        self._database = database
        self._vault = vault
        self._home = home
        self._default_target = default_target
        self._state = State(Snapshot())
        self._unsealed: tuple[str, ...] = ()
        self._callbacks: list[Callable[[Snapshot], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    async def open(
        cls,
        config: Config,
        home: Path,
        *,
        default_target: Target | str | None = None,
        wait_s: float = 1.0,
        busy_s: float = 5.0,
    ) -> Self:
        """Open or make the database of `home` and read it. The work is done on its own thread.

        Of `config` it takes the sections store and secrets, and routing.default_target unless given.
        `wait_s` is how long another process may go on owning the home, `busy_s` how long a change
        waits for a lock. Raises StoreError, whose `code` says what is wrong, or ConfigError.
        """
        target = _target(default_target or config.routing.default_target)
        database = Database(config.store.url, home, busy_s=busy_s)
        store = cls(database, Vault(MasterKey(config.secrets, home)), home, target)
        store._loop = asyncio.get_running_loop()
        try:
            await database.run(lambda: store._start(wait_s))
        except BaseException:
            await database.close()
            raise
        return store

    @property
    def snapshot(self) -> Snapshot:
        """The state to route from. Keep the value for as long as one request takes."""
        return self._state.snapshot

    @property
    def problems(self) -> tuple[str, ...]:
        """What in the database could not be made sense of when the snapshot was read."""
        return self._state.problems + self._unsealed

    @property
    def vault(self) -> Vault:
        return self._vault

    @property
    def home(self) -> Path:
        return self._home

    @property
    def read_only(self) -> str | None:
        """Why nothing can be changed now; None where all is well."""
        return self._database.read_only

    @property
    def database(self) -> Database:
        """For backups and tests; everything on it runs on its own thread."""
        return self._database

    def on_change(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` on the event loop with every new snapshot; returns how to stop that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def findings(self) -> list[Finding]:
        """What `rules check` says of the rules as they are. With many rules it takes a while."""
        return _check(self._state)

    async def change(self, actor: str, verb: Callable[[Change], T]) -> Changed[T]:
        """Run `verb` in one transaction and swap the snapshot. The new one is there on return.

        Raises RefusedError, and nothing was changed, when the rules as a whole would have an error
        that they didn't have before.
        """
        return await self._database.run(lambda: self._change(actor, verb))

    async def read(self, query: Callable[[], T]) -> T:
        """Run `query` on the database's thread, seeing one state."""

        def job() -> T:
            with self._database.reading():
                return query()

        return await self._database.run(job)

    async def reload(self) -> Snapshot:
        """Read database and master key again, as after SIGHUP. On an error the old state stays."""
        await self._database.run(self._reload)
        return self.snapshot

    async def close(self) -> None:
        """Finish what is queued and let go of the home. The snapshot stays readable."""
        self._callbacks.clear()
        await self._database.close()

    # From here on: on the database's thread.

    def _start(self, wait_s: float) -> None:
        self._database.open(wait_s=wait_s)
        self._state = self._read(generation=1)
        self._load_master_key()
        self._tell_problems()
        self._database.on_foreign_change = self._read_again

    def _change(self, actor: str, verb: Callable[[Change], T]) -> Changed[T]:
        database = self._database
        with database.writing():
            before = self._read(generation=self.snapshot.generation)
            change = Change(actor=actor, before=before.snapshot, vault=self._vault)
            value = verb(change)
            after = self._read(generation=self.snapshot.generation + 1)
            for warning in _verdict(before, after):
                change.warn(warning)
        self._swap(after)
        return Changed(value, tuple(change.warnings))

    def _reload(self) -> None:
        self._database.reopen()
        self._load_master_key()
        self._read_again()

    def _read_again(self) -> None:
        with self._database.reading():
            state = self._read(generation=self.snapshot.generation + 1)
        self._swap(state)
        self._tell_problems()

    def _read(self, *, generation: int) -> State:
        return read_state(generation=generation, default_target=self._default_target)

    def _swap(self, state: State) -> None:
        self._state = state
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._tell, state.snapshot)
        except RuntimeError:
            log.debug("the event loop closed before it could be told of a change")

    def _tell(self, snapshot: Snapshot) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(snapshot)
            except Exception:
                log.exception("a listener failed at a change of the configuration")

    def _load_master_key(self) -> None:
        # A keychain may ask its user: not before there is something to open.
        if self._vault.master.source == "keychain" and not any(self.snapshot.credentials.values()):
            return
        self._vault.master.load()
        problem = self._vault.master.problem
        if problem is not None and any(self.snapshot.credentials.values()):
            log.warning("no credential can be used: %s", problem)
        self._unsealed = tuple(self._unusable_credentials()) if problem is None else ()

    def _unusable_credentials(self) -> Iterator[str]:
        """Those that this master key does not open: better known now than at the first request."""
        for credential in (each for held in self.snapshot.credentials.values() for each in held):
            try:
                self._vault.open(credential)
            except SecretError as error:
                yield f"credential {credential.upstream}/{credential.name}: {error}"

    def _tell_problems(self) -> None:
        for problem in self.problems:
            log.warning("in the database: %s", problem)


def _verdict(before: State, after: State) -> list[str]:
    """Refuse rules with errors that are new; return the warnings that are new."""
    fresh = _check(after)
    if fresh:  # else there is no need to know what was wrong before
        known = {(finding.rule_id, finding.message) for finding in _check(before)}
        fresh = [finding for finding in fresh if (finding.rule_id, finding.message) not in known]
    errors = [finding for finding in fresh if finding.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise RefusedError(f"rule {errors[0].pattern!r}: {errors[0].message}{more}")
    return [f"rule {finding.rule_id} {finding.pattern!r}: {finding.message}" for finding in fresh]


def _check(state: State) -> list[Finding]:
    snapshot = state.snapshot
    policies = {name: policy for name, policy in snapshot.policies.items() if name not in state.phantoms}
    return check_rules(snapshot.rules.rules, backends=snapshot.upstreams, policies=policies)


def _target(target: Target | str) -> Target:
    if isinstance(target, Target):
        return target
    try:
        return Target.parse(target)
    except ValueError as error:
        raise ConfigError(f"routing.default_target: {error}") from error
