"""The configuration file: frozen sections, each key with its default, range and reason in one place.

`load` reads TOML and the environment (MLX_GATEWAY_SECTION__KEY wins) into a `Config`. A package
receives its own section, never the whole. An unknown key is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gateway.errors import ConfigError

ENV_PREFIX = "MLX_GATEWAY_"


def key(default: Any, reason: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Declare a key: its default, why one would change it and the range that it may have."""
    meta = {"help": reason, "low": low, "high": high}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The listener that apps speak to."""

    host: str = key("127.0.0.1", "address to listen on; any other than loopback needs a client key")
    port: int = key(8484, "port to listen on", low=0, high=65535)
    max_body_mb: int = key(64, "largest JSON request; a multipart upload is streamed and has no limit here", low=1, high=1024)
    drain_s: float = key(20.0, "how long running streams may go on after SIGTERM", low=0, high=3600)
    heartbeat_s: float = key(15.0, "a waiting stream gets an SSE comment this often", low=0.05, high=300)
    body_timeout_s: float = key(60.0, "a client that sends nothing of its body for this long gets a 408", low=0.1, high=3600)
    write_timeout_s: float = key(60.0, "a client that takes nothing of its answer for this long is cut off", low=0.1, high=3600)
    allowed_hosts: tuple[str, ...] = key([], "further names that a Host header may carry, e.g. mac.lan")
    allowed_origins: tuple[str, ...] = key([], "web origins that may call from a browser, e.g. http://localhost:3000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The database of rules, upstreams, credentials and keys."""

    url: str = key("", "a Peewee db_url; empty is gateway.db in the home folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Where the master key that seals the credentials comes from: chosen, never guessed."""

    source: Literal["file", "keychain", "systemd", "env"] = key("file", "file: master.key in the home; keychain: the login keychain; systemd: a credential named master.key; env: MLX_GATEWAY_MASTER_KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What happens to names that no rule knows and to requests without a name."""

    default_target: str = key("local", "target of a model name that no rule matches")
    default_upstream: str = key("", "upstream of /v1 requests that name no model, e.g. /v1/files; empty refuses them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The pool of MLX workers in this process."""

    enabled: bool = key(True, "false never imports MLX; local targets then fail over at once")
    models_dirs: tuple[str, ...] = key([], "further folders whose subfolders are models")
    hub_cache: bool = key(True, "also serve models that are already in the Hugging Face hub cache")
    preload: tuple[str, ...] = key([], "models to load in the background at start")
    memory_limit_gb: float = key(0.0, "memory for all resident models; 0 takes 70 % of the machine's", low=0, high=4096)
    max_queue: int = key(32, "requests that may wait for a place in a batch, per model", low=0, high=10000)
    batch_size: int = key(16, "requests of one model that share a step", low=1, high=256)
    prefill_step: int = key(512, "prompt tokens per step; smaller keeps running streams smoother", low=16, high=8192)
    default_max_tokens: int = key(4096, "longest answer when the request gives no max_tokens", low=1, high=1_000_000)
    step_limit_s: float = key(60.0, "a step that takes longer counts as hung", low=1, high=3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The client of the upstream APIs."""

    max_connections: int = key(256, "connections to all upstreams together", low=1, high=10000)
    keepalive_s: float = key(30.0, "how long an idle connection to an upstream is kept", low=0, high=600)
    max_reply_mb: int = key(64, "largest whole JSON reply that is held until it is complete", low=1, high=1024)
    ca_file: str = key("", "PEM file of a private certificate authority to trust besides the system's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What is written down while serving; prompts and answers never are."""

    log_level: Literal["debug", "info", "warning", "error"] = key("info", "least level that is logged")
    log_format: Literal["text", "json"] = key("text", "json writes one object a line")
    access_log: bool = key(True, "one line for every request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The same verbs as the command, over HTTP."""

    tcp: bool = key(True, "also serve /admin/api on the port, for client keys with admin rights; admin.sock always does")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All sections of the file."""

    server: Server = field(default_factory=Server)
    store: Store = field(default_factory=Store)
    secrets: Secrets = field(default_factory=Secrets)
    routing: Routing = field(default_factory=Routing)
    local: Local = field(default_factory=Local)
    cloud: Cloud = field(default_factory=Cloud)
    telemetry: Telemetry = field(default_factory=Telemetry)
    admin: Admin = field(default_factory=Admin)


def load(text: str, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration; raise ConfigError naming the key, what was expected and what came."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration is not valid TOML: {error}") from error
    kinds = get_type_hints(Config)
    _known(raw, kinds, "section")
    tables: dict[str, dict[str, Any]] = {}
    for name in kinds:
        table = raw.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"[{name}] must be a table of keys, not {_kind(table)}")
        tables[name] = dict(table)
    for section, name, value in _overrides(env or {}, kinds):
        tables[section][name] = value
    return Config(**{name: _section(kinds[name], name, tables[name]) for name in kinds})


def sections() -> dict[str, tuple[Field[Any], ...]]:
    """Every section with its keys, for documents and tests."""
    return {name: fields(kind) for name, kind in get_type_hints(Config).items()}


def default_of(item: Field[Any]) -> Any:
    """The default of a key as TOML would have it."""
    if item.default is not MISSING:
        return item.default
    assert item.default_factory is not MISSING
    return item.default_factory()


def _section(kind: type, section: str, table: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    _known(table, hints, f"key in [{section}]")
    by_name = {item.name: item for item in fields(kind)}
    values = {
        name: _value(f"{section}.{name}", hints[name], by_name[name], value)
        for name, value in table.items()
    }
    return kind(**values)


def _known(given: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown {what}: {name!r}; {hint}")


def _value(path: str, hint: Any, item: Field[Any], value: Any) -> Any:
    if get_origin(hint) is Literal:
        allowed = get_args(hint)
        if value not in allowed:
            raise ConfigError(f"{path} must be one of {', '.join(allowed)}, not {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{path} must be a list of strings, not {value!r}")
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path} must be {_kind(hint)}, not {value!r}")
    low, high = item.metadata["low"], item.metadata["high"]
    if low is not None and not low <= value <= high:
        raise ConfigError(f"{path} must be between {low:g} and {high:g}, not {value:g}")
    return value


def _kind(thing: Any) -> str:
    kind = thing if isinstance(thing, type) else type(thing)
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, kind.__name__)


def _overrides(
    env: Mapping[str, str], kinds: Mapping[str, type]
) -> list[tuple[str, str, Any]]:
    found = []
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX) or "__" not in variable:
            continue
        section, _, name = variable.removeprefix(ENV_PREFIX).lower().partition("__")
        if section not in kinds:
            raise ConfigError(f"{variable}: there is no section [{section}]; known: {', '.join(kinds)}")
        hints = get_type_hints(kinds[section])
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1, cutoff=0.5)
            raise ConfigError(f"{variable}: unknown key in [{section}]" + (f"; did you mean {near[0]!r}?" if near else ""))
        found.append((section, name, _from_text(variable, hints[name], text)))
    return found


def _from_text(variable: str, hint: Any, text: str) -> Any:
    if hint is str or get_origin(hint) is Literal:
        return text
    if get_origin(hint) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if hint is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f"{variable} must be true or false, not {text!r}")
        return text.lower() in ("true", "1")
    try:
        return int(text) if hint is int else float(text)
    except ValueError as error:
        raise ConfigError(f"{variable} must be {_kind(hint)}, not {text!r}") from error


