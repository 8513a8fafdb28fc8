"""The configuration file: frozen sections, each key with its default, range and reason in one place.

`load` reads TOML and the environment (MLX_GATEWAY_SECTION__KEY wins) into a `Config`; `read` does
so for a file, at start and again at SIGHUP. A package receives its own section, never the whole.
An unknown key is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gateway.errors import ConfigError

ENV_PREFIX = "MLX_GATEWAY_"

# What a text may look like, and the words for it. They catch what would otherwise never match.
_SHAPES = {
    "host": (r"\S+", "an address or a name"),
    "target": (r"[^\s:]+(:\S+)?", "local, local:MODEL, UPSTREAM or UPSTREAM:MODEL"),
    "upstream": (r"[^\s:]*", "an upstream's name, without a model"),
    "name": (
        r"([^\s:/A-Z]+|\[[0-9a-f:.]+\])(:\d+)?",
        "a lower-case host name or address without scheme or path",
    ),
    "pair": (r"[^\s=]+=[^\s=]+", "MODEL=DRAFT"),
    "bits": (r"[^\s=]+=[234568]", "MODEL=BITS, where BITS is 2, 3, 4, 5, 6 or 8"),
    "origin": (r"[a-z][a-z0-9+.-]*://[^\s/]+", "scheme://host[:port] without a path"),
}

_KINDS: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def key(
    default: Any,
    reason: str,
    *,
    low: float | None = None,
    high: float | None = None,
    shape: str | None = None,
) -> Any:
    """Declare a key: its default, why one would change it and the range or shape that it may have."""
    meta = {"help": reason, "low": low, "high": high, "shape": shape}
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The listener that apps speak to."""

    host: str = key("127.0.0.1", "address to listen on; any but loopback needs a client key", shape="host")
    port: int = key(8484, "port to listen on; 0 takes any free one", low=0, high=65535)
    max_body_mb: int = key(
        64, "largest JSON request; a multipart upload is streamed and has no limit here", low=1, high=1024
    )
    drain_s: float = key(20.0, "how long running streams may go on after SIGTERM", low=0, high=3600)
    heartbeat_s: float = key(15.0, "a waiting stream gets an SSE comment this often", low=0.05, high=300)
    body_timeout_s: float = key(
        60.0, "a client that sends nothing of its body for this long gets a 408", low=0.1, high=3600
    )
    write_timeout_s: float = key(
        60.0, "a client that takes nothing of its answer for this long is cut off", low=0.1, high=3600
    )
    responses_mb: int = key(
        64,
        "memory for responses of the Responses API that were made here, for previous_response_id; the oldest "
        "go first, a restart forgets all; 0 keeps none",
        low=0,
        high=4096,
    )
    allowed_hosts: tuple[str, ...] = key(
        [], "further names that a Host header may carry, e.g. mac.lan", shape="name"
    )
    allowed_origins: tuple[str, ...] = key(
        [], "web origins that may call from a browser, e.g. http://localhost:3000", shape="origin"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The database of rules, upstreams, credentials and keys."""

    url: str = key("", "a Peewee db_url; empty is gateway.db in the home folder")
    ledger: bool = key(
        True, "keep one row per request: who, which model, who answered, how long, how many tokens"
    )
    ledger_days: int = key(30, "a row of the ledger is removed after so many days", low=1, high=3650)
    ledger_rows: int = key(
        100_000, "so many rows are kept at most; a row takes about 300 bytes", low=1, high=1_000_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Where the master key that seals the credentials comes from: chosen, never guessed."""

    source: Literal["file", "keychain", "systemd", "env"] = key(
        "file",
        "file: master.key in the home; keychain: the login keychain; "
        "systemd: a credential named master.key; env: MLX_GATEWAY_MASTER_KEY",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What happens to names that no rule knows and to requests without a name."""

    default_target: str = key("local", "target of a model name that no rule matches", shape="target")
    default_upstream: str = key(
        "",
        "upstream of /v1 requests that name no model, e.g. /v1/files; empty refuses them",
        shape="upstream",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The pool of MLX workers on this machine."""

    enabled: bool = key(True, "false never imports MLX; local targets then fail over at once")
    isolation: Literal["thread", "process"] = key(
        "thread",
        "thread: all models in the gateway's process; process: each in a process of its own, so that a crash "
        "of the engine or the memory killer takes one model and not the gateway, for about 100 MB each",
    )
    models_dirs: tuple[str, ...] = key([], "further folders whose subfolders are models")
    hub_cache: bool = key(True, "also serve models that are already in the Hugging Face hub cache")
    preload: tuple[str, ...] = key([], "models to load in the background at start")
    pinned: tuple[str, ...] = key([], "models that are never unloaded for others or for being idle")
    keep_alive_s: float = key(
        1800.0, "a model that nobody asked for so long leaves the memory; 0 keeps it", low=0, high=604_800
    )
    memory_limit_gb: float = key(
        0.0, "memory for models, answers and prompt cache; 0 takes 70 % of the machine's", low=0, high=4096
    )
    max_queue: int = key(32, "requests that may wait for a place in a batch, per model", low=0, high=10000)
    batch_size: int = key(32, "answers of one model that share a step", low=1, high=256)
    prefill_step: int = key(
        512, "prompt tokens per step; smaller keeps running streams smoother", low=16, high=8192
    )
    default_max_tokens: int = key(
        4096, "longest answer when the request gives no max_tokens", low=1, high=1_000_000
    )
    prompt_cache_gb: float = key(
        4.0,
        "memory of each worker for prompts that may come again, at most a quarter of the limit; 0 keeps none",
        low=0,
        high=1024,
    )
    prompt_cache_disk_gb: float = key(
        0.0, "disk for prompts that leave the memory; they survive a restart; 0 keeps none", low=0, high=4096
    )
    kv_bits: tuple[str, ...] = key(
        [],
        "MODEL=BITS quantises a model's keys and values: long prompts take less memory, but its requests "
        "run one at a time",
        shape="bits",
    )
    draft_models: tuple[str, ...] = key(
        [],
        "MODEL=DRAFT lets a smaller model of the same vocabulary guess ahead: one stream is faster, but its "
        "requests run one at a time",
        shape="pair",
    )
    step_limit_s: float = key(60.0, "a step that takes longer counts as hung", low=1, high=3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The client of the upstream APIs."""

    max_connections: int = key(256, "connections to all upstreams together", low=1, high=10000)
    keepalive_s: float = key(30.0, "how long an idle connection to an upstream is kept", low=0, high=600)
    max_reply_mb: int = key(
        64, "largest whole JSON reply that is held until it is complete", low=1, high=1024
    )
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

    tcp: bool = key(
        True, "also serve /admin/api on the port, for client keys with admin rights; admin.sock always does"
    )


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


def read(path: Path | None, env: Mapping[str, str]) -> Config:
    """Load the file at `path`, or the defaults where there is none; errors name file and key."""
    if path is None:
        return load("", env)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors on Windows write a BOM
    except OSError as error:
        raise ConfigError(f"{path}: the configuration can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, but byte {error.start} is not") from error
    return load(text, env, origin=f"{path}: ")


def load(text: str, env: Mapping[str, str] | None = None, *, origin: str = "") -> Config:
    """Read a configuration; raise ConfigError naming the key, what was expected and what came.

    `origin` goes before what is wrong with the text; what is wrong in `env` names its variable.
    """
    tables = _tables(text, origin)
    kinds = get_type_hints(Config)
    _known(tables, kinds, f"{origin}unknown section")
    values: dict[str, dict[str, Any]] = {}
    for section, kind in kinds.items():
        table = tables.get(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{origin}[{section}] must be a table of keys, not {_kind(table)}")
        hints = get_type_hints(kind)
        _known(table, hints, f"{origin}unknown key in [{section}]")
        by_name = {item.name: item for item in fields(kind)}
        values[section] = {
            name: _value(f"{origin}{section}.{name}", hints[name], by_name[name], value)
            for name, value in table.items()
        }
    for section, name, value in _overrides(env or {}, kinds):
        values[section][name] = value
    return Config(**{section: kind(**values[section]) for section, kind in kinds.items()})


def sections() -> dict[str, tuple[Field[Any], ...]]:
    """Every section with its keys, for documents and tests."""
    return {name: fields(kind) for name, kind in get_type_hints(Config).items()}


def default_of(item: Field[Any]) -> Any:
    """The default of a key; a list is a tuple."""
    if item.default is not MISSING:
        return item.default
    assert item.default_factory is not MISSING
    return item.default_factory()


def range_of(section: str, item: Field[Any]) -> str | None:
    """The words for what a key may hold, None where any value of its type will do."""
    hint = get_type_hints(get_type_hints(Config)[section])[item.name]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    low, high, shape = (item.metadata[name] for name in ("low", "high", "shape"))
    if low is not None:
        return f"{low} to {high}"
    return _SHAPES[shape][1] if shape else None


def _tables(text: str, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, a thousand brackets
        raise ConfigError(f"{origin}not usable TOML: a number is too long or brackets too deep") from error


def _known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise ConfigError(f"{what}: {name!r}; {_nearest(name, names)}")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _value(path: str, hint: Any, item: Field[Any], value: Any) -> Any:
    if get_origin(hint) is Literal:
        allowed = get_args(hint)
        if value not in allowed:
            raise ConfigError(f"{path} must be one of {', '.join(allowed)}, not {_shown(value)}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{path} must be a list of strings, not {_shown(value)}")
        return tuple(_shaped(path, item, v) for v in value)
    if hint is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path} must be {_kind(hint)}, not {_shown(value)}")
    low, high = item.metadata["low"], item.metadata["high"]
    if low is not None and not low <= value <= high:
        raise ConfigError(f"{path} must be between {low} and {high}, not {_shown(value)}")
    return _shaped(path, item, value)


def _shaped(path: str, item: Field[Any], value: Any) -> Any:
    if item.metadata["shape"]:
        pattern, words = _SHAPES[item.metadata["shape"]]
        if not re.fullmatch(pattern, value):
            raise ConfigError(f"{path} must be {words}, not {_shown(value)}")
    return value


def _kind(thing: Any) -> str:
    kind: type = thing if isinstance(thing, type) else type(thing)
    return _KINDS.get(kind, kind.__name__)


def _shown(value: Any) -> str:
    """What came, in the file's own words and short: a value may be a pasted page, or a secret url."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 2**63:  # repr of a huge number raises
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _overrides(env: Mapping[str, str], kinds: Mapping[str, type]) -> list[tuple[str, str, Any]]:
    found = []
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX) or "__" not in variable:
            continue
        section, _, name = variable.removeprefix(ENV_PREFIX).lower().partition("__")
        _known([section], kinds, f"{variable}: unknown section")
        hints = get_type_hints(kinds[section])
        _known([name], hints, f"{variable}: unknown key in [{section}]")
        item = {item.name: item for item in fields(kinds[section])}[name]
        value = _from_text(variable, hints[name], text)
        found.append((section, name, _value(variable, hints[name], item, value)))
    return found


def _from_text(variable: str, hint: Any, text: str) -> Any:
    if hint is str or get_origin(hint) is Literal:
        return text
    if get_origin(hint) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if hint is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f"{variable} must be true or false, not {_shown(text)}")
        return text.lower() in ("true", "1")
    try:
        return int(text) if hint is int else float(text)
    except ValueError as error:
        raise ConfigError(f"{variable} must be {_kind(hint)}, not {_shown(text)}") from error
