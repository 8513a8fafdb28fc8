"""Which models are on this disk, by name. Reads folders; never downloads, never imports MLX.

A name is only ever looked up in the catalog, never joined to a path. What is listed: `demo`;
NAME and ORG/NAME below HOME/models and below each of `local.models_dirs`; and the snapshots of
the hub cache as ORG/NAME. A folder counts when it holds a config.json with a sane model_type and
safetensors, and when nothing in it leads out of its root.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.config import Local
from gateway.local.mailbox import ModelFolder

DEMO = "demo"
RESCAN_S = 1.0
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@+-]{0,95}")
_MODEL_TYPE = re.compile(r"[a-z0-9_]{1,64}")
_MAX_CONFIG = 4 * 1024 * 1024


class Catalog:
    """The models on disk, as of the last scan. `refresh` reads the disk, the rest does not."""

    def __init__(self, config: Local, home: Path) -> None:
        self._roots = [home / "models", *(Path(text).expanduser() for text in config.models_dirs)]
        self._hub = hub_cache() if config.hub_cache else None
        self._models: Mapping[str, ModelFolder] = MappingProxyType({})
        self._scanned = float("-inf")
        self._began = float("-inf")
        self._expired = 0  # how often what was read was said to be out of date
        self._lock = threading.Lock()

    @property
    def models(self) -> Mapping[str, ModelFolder]:
        return self._models

    @property
    def stale(self) -> bool:
        return time.monotonic() - self._scanned >= RESCAN_S

    def expire(self) -> None:
        """Whatever was read may be out of date: the next one who asks reads the disk."""
        self._expired += 1
        self._scanned = float("-inf")

    def refresh(self, *, since: float | None = None) -> Mapping[str, ModelFolder]:
        """Scan the disk, at most once a second; with `since` (monotonic), unless a scan has begun
        after that. Blocks: call it in a thread.
        """
        with self._lock:
            if self.stale if since is None else self._began < since:
                self._began, expired = time.monotonic(), self._expired
                self._models = MappingProxyType(dict(self._scan()))
                if expired == self._expired:  # else it changed while it was read
                    self._scanned = time.monotonic()
            return self._models

    def _scan(self) -> dict[str, ModelFolder]:
        found: dict[str, ModelFolder] = {}
        demo = _demo_folder()
        if demo is not None and (model := read_folder(DEMO, demo, root=demo)) is not None:
            found[DEMO] = model
        for root in self._roots:
            for name, folder in _two_levels(root):
                if name not in found and (model := read_folder(name, folder, root=root)) is not None:
                    found[name] = model
        if self._hub is not None:
            for name, folder in _snapshots(self._hub):
                if name not in found and (model := read_folder(name, folder, root=self._hub)) is not None:
                    found[name] = model
        return found


def hub_cache() -> Path:
    """Where huggingface_hub keeps its files."""
    if direct := os.environ.get("HF_HUB_CACHE"):
        return Path(direct)
    if home := os.environ.get("HF_HOME"):
        return Path(home) / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def read_folder(name: str, folder: Path, *, root: Path) -> ModelFolder | None:
    """What is in `folder`, or None when it is no model or something in it leads out of `root`."""
    try:
        inside = f"{os.path.realpath(root)}{os.sep}"
        real = os.path.realpath(folder)
        if not f"{real}{os.sep}".startswith(inside):
            return None
        config = None
        size, marks = 0, []
        for entry in sorted(os.scandir(real), key=lambda entry: entry.name):
            if entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
                return None
            if not entry.is_file():
                continue
            stat = entry.stat()
            marks.append(f"{entry.name}:{stat.st_size}:{stat.st_mtime_ns}")
            if entry.name == "config.json" and stat.st_size <= _MAX_CONFIG:
                config = msgspec.json.decode(Path(entry.path).read_bytes())
            if entry.name.endswith(".safetensors"):
                size += stat.st_size
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(config, dict) or not size or not _sane(config):
        return None
    return ModelFolder(
        name=name,
        path=real,
        size_bytes=size,
        fingerprint=hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16],
        context=_context(config),
    )


def is_usable(config: Path) -> bool:
    """Whether a model with this config.json would be listed; asked before its weights are fetched."""
    try:
        found = msgspec.json.decode(config.read_bytes()) if config.stat().st_size <= _MAX_CONFIG else None
    except (OSError, msgspec.DecodeError, RecursionError):
        return False
    return isinstance(found, dict) and _sane(found)


def _sane(config: dict[str, Any]) -> bool:
    kind = config.get("model_type")
    return isinstance(kind, str) and _MODEL_TYPE.fullmatch(kind) is not None


def _context(config: dict[str, Any]) -> int:
    inner = config.get("text_config")
    for table in (config, inner if isinstance(inner, dict) else {}):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            value = table.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return 0


def _two_levels(root: Path) -> Iterator[tuple[str, Path]]:
    for first in _folders(root):
        yield first.name, first
        for second in _folders(first):
            yield f"{first.name}/{second.name}", second


def _snapshots(hub: Path) -> Iterator[tuple[str, Path]]:
    for folder in _folders(hub):
        kind, *parts = folder.name.split("--")
        if kind != "models" or len(parts) not in (1, 2):
            continue
        snapshots = {path.name: path for path in _folders(folder / "snapshots")}
        if not snapshots:
            continue
        yield "/".join(parts), snapshots.get(_main_revision(folder)) or snapshots[max(snapshots)]


def _main_revision(folder: Path) -> str:
    try:
        return (folder / "refs" / "main").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _folders(root: Path) -> list[Path]:
    try:
        found = [Path(e.path) for e in os.scandir(root) if _PART.fullmatch(e.name) and e.is_dir()]
    except OSError:
        return []
    return sorted(found)


def _demo_folder() -> Path | None:
    try:
        return Path(importlib.import_module("gateway.local.engine.demo").MODEL_DIR)
    except (ImportError, AttributeError):
        return None
