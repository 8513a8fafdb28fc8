"""The composition root: builds every part, serves, reloads, and stops under one deadline.

Start: store, pool and client are made (MLX is not imported), the listeners open, the service
manager is told. Stop: listeners close at once, running answers may finish until `drain_s`, what
then still runs ends with an error event, then engine, client and store close.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from gateway.admin.operations import Context, run
from gateway.backend import AttemptFailed
from gateway.cloud import wake
from gateway.cloud.client import CloudClient
from gateway.cloud.credentials import Credentials
from gateway.cloud.presence import Presence
from gateway.config import Config, read
from gateway.errors import ConfigError, GatewayError
from gateway.failover.breaker import Breakers
from gateway.failover.budget import RetryBudget
from gateway.failover.learnt import Learnt
from gateway.local.pool import LocalPool
from gateway.relay.exchange import Limits
from gateway.relay.kept import Kept
from gateway.relay.planner import Planner
from gateway.relay.relay import Relay
from gateway.routing.rule import Target
from gateway.snapshot import Upstream
from gateway.store.ledger import Ledger
from gateway.store.memory import Memory
from gateway.store.store import Store
from gateway.telemetry import log, metrics
from gateway.telemetry.notify import Notify
from gateway.web.app import build
from gateway.web.connection import Listener
from gateway.web.guard import is_loopback
from gateway.web.live import LiveView
from gateway.web.site import Site

_log = logging.getLogger("gateway")

EX_CONFIG = 78
_LOOK_S = 0.02  # how often the drain looks for connections that are still busy
_LAST_WORDS_S = 2.0  # for the error events at the end of the drain
_ENGINE_S = 5.0
# Longer than the clients' own idle limit (httpx: 5 s), so that they close first; it also bounds
# a client that drips its headers.
_KEEPALIVE_S = 30.0
_BACKLOG = 512


def serve(config: Config, home: Path, *, config_path: Path | None = None) -> int:
    """Run the gateway until it is told to stop; the result is the process's exit code."""
    os.umask(0o077)
    log.setup(config.telemetry)
    try:
        return uvloop.run(_Daemon(config, home, config_path).run())
    except ConfigError as error:
        _log.error("%s", error)
        return EX_CONFIG
    except GatewayError as error:
        _log.error("%s", error)
        return 1
    finally:
        log.flush()


class _Daemon:
    """One process's gateway."""

    def __init__(self, config: Config, home: Path, config_path: Path | None) -> None:
        self.config = config
        self.home = home
        self._config_path = config_path
        self._notify = Notify()
        self._stop = asyncio.Event()
        self._draining = False
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._memory: Memory | None = None

    async def run(self) -> int:
        config = self.config
        self._store = store = await Store.open(config, self.home, default_target=_default_target(config))
        try:
            self._check_bind()
            self._check_master_key()
            self._ledger = Ledger(store, config.store)
            metrics.ledger_dropped(lambda: self._ledger.dropped)
            presence = Presence(self._upstreams)
            metrics.offline(lambda: presence.reason)
            self._cloud = CloudClient(config.cloud, Credentials(store.vault.open), presence)
            self._pool = LocalPool(config.local, self.home) if config.local.enabled else None
            try:
                return await self._serve()
            finally:
                await self._close_parts()
        finally:
            await store.close()

    def _upstreams(self) -> Iterable[Upstream]:
        return self._store.snapshot.upstreams.values()

    def _check_bind(self) -> None:
        host = self.config.server.host
        if not is_loopback(host) and not self._store.snapshot.clients:
            raise ConfigError(
                f"server.host is {host}, which other machines reach, and no client key is defined; "
                "make one with `mlx-gateway clients add NAME`, or listen on 127.0.0.1"
            )

    def _check_master_key(self) -> None:
        master, sealed = self._store.vault.master, any(self._store.snapshot.credentials.values())
        # A file or a keychain entry is made with the first credential; the other sources can't be.
        if master.problem is not None and (sealed or master.source in ("systemd", "env")):
            raise ConfigError(f"secrets.source is {master.source}: {master.problem}")

    async def _serve(self) -> int:
        config = self.config
        breakers, learnt = Breakers(random.random), Learnt()
        self._memory = memory = Memory(self._store, breakers)
        await memory.open()
        self._kept = kept = Kept(limit_bytes=config.server.responses_mb << 20)
        planner = Planner(
            local=self._pool,
            breakers=breakers,
            learnt=learnt,
            default_upstream=config.routing.default_upstream,
            jitter=random.random,
            kept=kept,
            offline=self._cloud.presence.offline,
        )
        relay = Relay(
            snapshot=lambda: self._store.snapshot,
            local=self._pool,
            cloud=self._cloud,
            planner=planner,
            breakers=breakers,
            learnt=learnt,
            budget=RetryBudget(),
            limits=Limits(
                heartbeat_s=config.server.heartbeat_s,
                write_s=config.server.write_timeout_s,
                reply_limit=config.cloud.max_reply_mb << 20,
            ),
            note=self._ledger.note,
        )
        self._relay = relay
        live = LiveView(
            config,
            self._store,
            relay=relay,
            planner=planner,
            pool=self._pool,
            cloud=self._cloud,
            memory=memory,
        )
        site = self._site(relay, live)
        if self._pool is not None:
            await self._pool.start()
            metrics.local(self._pool.stats)
        public = await self._listen(Listener(build(site), **_runner_options()))
        owner = await self._listen_owner(Listener(build(site, owner=True), **_runner_options()))
        self._on_signals()
        gc.collect()
        gc.freeze()  # what was imported stays; the collector need not look at it again
        self._notify.ready()
        _log.info("ready on http://%s:%d/v1", _shown(config.server.host), live.port)
        watchdog = asyncio.create_task(self._watchdog(), name="watchdog")
        preload = asyncio.create_task(self._preload(), name="preload")
        sleeps = asyncio.create_task(wake.watch(self._cloud, breakers), name="sleeps")
        await self._stop.wait()
        for task in (watchdog, preload, sleeps):
            task.cancel()
        await self._drain(public, owner)
        return 0

    def _site(self, relay: Relay, live: LiveView) -> Site:
        def context(actor: str) -> Context:
            return Context(store=self._store, home=self.home, config=self.config, actor=actor, live=live)

        self._live = live
        return Site(
            server=self.config.server,
            spool=self.home,
            keyless=is_loopback(self.config.server.host),
            admin_over_tcp=self.config.admin.tcp,
            snapshot=lambda: self._store.snapshot,
            relay=relay,
            kept=self._kept,
            models=live,
            admin_context=context,
            ready=lambda: "the gateway is stopping" if self._draining else None,
            render_metrics=metrics.render,
            operate=run,
        )

    async def _listen(self, runner: Listener) -> Listener:
        server = self.config.server
        await runner.setup()
        site = web.TCPSite(runner, server.host, server.port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise GatewayError(
                f"cannot listen on {server.host}:{server.port}: {error.strerror or error}; another program "
                "has the port (a second gateway?), or choose one with server.port"
            ) from error
        self._live.port = runner.addresses[0][1]
        return runner

    async def _listen_owner(self, runner: Listener) -> Listener:
        path = self.home / "admin.sock"
        await runner.setup()
        # The store's lock says that no other gateway owns this home: what lies there is stale.
        try:
            path.unlink(missing_ok=True)
            await web.UnixSite(runner, str(path)).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"cannot make admin.sock in the home folder: {error.strerror or error}; the folder must be "
                "writable, and a socket's path may have about 100 characters: choose another --home"
            ) from error
        path.chmod(0o600)
        return runner

    async def _preload(self) -> None:
        if self._pool is None:
            return
        for name in self.config.local.preload:
            try:
                await self._pool.load(name)
                _log.info("preloaded %s", name)
            except AttemptFailed as failed:
                _log.error("could not preload %s: %s", name, failed.failure.message)

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            _log.warning("stopping at once")
            log.flush()
            os._exit(0)  # the second signal: nothing acknowledged is lost, the store is crash-safe
        _log.info("stopping; running answers may take %g s more", self.config.server.drain_s)
        self._stop.set()

    def _asked_to_reload(self) -> None:
        if self._stop.is_set():
            return  # it would tell the manager that the gateway is ready again
        task = asyncio.create_task(self._reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """Read rules and configuration again, one reload at a time; what is bad is refused and the old
        stays.
        """
        async with self._reloading:
            await self._reload_now()

    async def _reload_now(self) -> None:
        self._notify.reloading()
        try:
            await self._store.reload()
            if self._config_path is not None:
                self._take(await asyncio.to_thread(read, self._config_path, os.environ))
            _log.info("reloaded; generation %d", self._store.snapshot.generation)
        except GatewayError as error:
            _log.error("not reloaded, the old configuration stays: %s", error)
        except Exception:
            # The border of a task: it has nobody else to tell.
            _log.exception("not reloaded, the old configuration stays")
        finally:
            if not self._stop.is_set():
                self._notify.ready()

    def _take(self, new: Config) -> None:
        """Use what can change while running; say what needs a restart."""
        log.setup(new.telemetry)
        for name in ("server", "store", "secrets", "routing", "local", "cloud", "admin"):
            if getattr(new, name) != getattr(self.config, name):
                _log.warning("[%s] has changed; restart the gateway to use it", name)

    async def _watchdog(self) -> None:
        """Tell the manager that the loop still turns, twice as often as it wants to hear it."""
        period = self._notify.watchdog_s
        while period:
            self._notify.alive()
            await asyncio.sleep(period / 2)

    async def _drain(self, *runners: Listener) -> None:
        self._notify.stopping()
        self._draining = True
        loop = asyncio.get_running_loop()
        for runner in runners:
            for site in tuple(runner.sites):
                await site.stop()
            runner.let_go()
        (self.home / "admin.sock").unlink(missing_ok=True)
        if not await self._idle_by(loop.time() + self.config.server.drain_s, runners):
            _log.warning("%d answers did not finish in time", self._relay.in_flight)
            self._relay.interrupt("the gateway is shutting down; send the request again")
            await self._idle_by(loop.time() + _LAST_WORDS_S, runners)
        for runner in runners:
            await runner.cleanup()

    async def _idle_by(self, deadline: float, runners: Iterable[Listener]) -> bool:
        """Wait until no body comes and no answer goes any more."""
        loop = asyncio.get_running_loop()
        while self._relay.in_flight or any(runner.busy for runner in runners):
            left = deadline - loop.time()
            if left <= 0:
                return False
            if self._relay.in_flight:
                await self._relay.idle(left)
            else:
                await asyncio.sleep(min(left, _LOOK_S))
        return True

    async def _close_parts(self) -> None:
        await self._ledger.close()
        if self._memory is not None:
            await self._memory.close()
        await self._cloud.close()
        if self._pool is not None:
            clean = await self._pool.close(deadline=asyncio.get_running_loop().time() + _ENGINE_S)
            if clean is False:
                # A thread inside MLX can't be stopped, and the interpreter would abort at its exit.
                _log.error("the engine did not stop; ending without it")
                await self._store.close()
                log.flush()
                os._exit(0)


def _default_target(config: Config) -> Target:
    try:
        return Target.parse(config.routing.default_target)
    except ValueError as error:
        raise ConfigError(f"routing.default_target: {error}") from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _runner_options() -> dict[str, Any]:
    return {
        "handler_cancellation": True,  # a client that left stops everything that was started for it
        "keepalive_timeout": _KEEPALIVE_S,
        "access_log": None,  # ours knows the route, aiohttp's prints query strings
        "shutdown_timeout": 1.0,
    }
