"""Prompt caches on disk: they outlive memory and the process.

One safetensors file an entry, as mlx-lm writes it. Its header carries the tokens, so that what is on
the shelf is known without reading an array. A file's name is the hash of its model key and the hash
of its content: a file that was cut, or changed in any byte, isn't used but removed. So is one that
another version of mlx-lm wrote. Other files in the folder are left alone.

The folder itself is the only record of sizes and of the order of use (the time of modification), so
several processes may share it. Only the MLX thread calls this; a write holds it up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from gateway.local.engine import layers
from gateway.local.engine.foreign import load_prompt_cache, mlx_lm_version, save_prompt_cache
from gateway.local.prefixes import Entry, Hit, PrefixIndex

log = logging.getLogger(__name__)

FORMAT = f"mlx-gateway prompt cache 1, mlx-lm {mlx_lm_version}"

_NAME = re.compile(r"[0-9a-f]{24}-([0-9a-f]{40}|unfinished-[0-9a-f]{16})\.safetensors")
_ABANDONED_S = 3600.0  # an unfinished file of this age has lost its writer
_HEADER_BYTES = 64 * 1024 * 1024
_OVERHEAD_BYTES = 64 * 1024  # of a header beside its tokens, roughly


class _File(NamedTuple):
    used_ns: int
    name: str
    size_bytes: int


class Shelf:
    """The entries of one folder, bounded in bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._index = PrefixIndex()
        self._read: set[str] = set()  # the models whose files are in the index
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for file in self._files():
            if "unfinished" in file.name and time.time() - file.used_ns / 1e9 > _ABANDONED_S:
                self._unlink(file.name)
        self._make_room(0)

    def best(self, model: str, prompt: bytes) -> Hit | None:
        """The file that serves most of `prompt`."""
        self._know(model)
        return self._index.best(model, prompt)

    def put(self, model: str, tokens: bytes, cache: list[Any]) -> bool:
        """Write a cache that is exact for `tokens`; False when that was needless or can't be done."""
        self._know(model)
        trimmable = layers.trimmable(cache)
        known = self._index.covering(model, tokens, trimmable=trimmable)
        if known is not None:
            self._touch(known.id)
            return False
        expected = layers.size_bytes(cache) + len(tokens) * 4 // 3 + _OVERHEAD_BYTES
        if expected > self._max_bytes or not layers.storable(cache):
            return False
        self._make_room(expected)
        try:
            name, size = self._write(model, tokens, cache, trimmable=trimmable)
        except (OSError, RuntimeError, ValueError) as error:
            log.warning("a prompt cache could not be written to %s: %s", self._folder, error)
            return False
        self._add(Entry(name, model, tokens, size, trimmable))
        self._make_room(0)
        return True

    def take(self, entry: Entry) -> list[Any] | None:
        """Read an entry; what is not exactly what was written is removed and not given."""
        path = self._folder / entry.id
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            if entry.id != _name(entry.model, content):
                raise ValueError("its content has changed")
            cache: list[Any] = load_prompt_cache(str(path))
            mx.eval(layers.arrays(cache))
            if not layers.exact(cache, entry.length):
                raise ValueError("it holds another number of tokens")
            if layers.trimmable(cache) != entry.trimmable:
                raise ValueError("it promises what its layers can't do")
        except OSError as error:  # gone, or for the moment not to be read
            log.warning("the prompt cache %s can't be read: %s", path, error)
            self._index.remove(entry.id)
            return None
        except Exception as error:  # whatever mlx-lm makes of a file
            log.warning("the prompt cache %s can't be used and is removed: %s", path, error)
            self._discard(entry.id)
            return None
        self._touch(entry.id)
        return cache

    def forget(self, model: str) -> None:
        """Keep the files, but not their tokens in memory."""
        self._read.discard(model)
        for entry in self._index.of(model):
            self._index.remove(entry.id)

    def _know(self, model: str) -> None:
        """Take this model's files into the index when it is first asked for."""
        if model in self._read:
            return
        self._read.add(model)
        for file in self._files():
            if not file.name.startswith(_name(model, "")[:25]) or "unfinished" in file.name:
                continue
            try:
                entry = _entry(self._folder / file.name, model)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                log.warning("the prompt cache %s is removed: %s", file.name, error)
                self._unlink(file.name)
                continue
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        needless = self._index.add(entry)
        for other in [entry] if needless is None else needless:
            self._unlink(other.id)

    def _write(self, model: str, tokens: bytes, cache: list[Any], *, trimmable: bool) -> tuple[str, int]:
        unfinished = self._folder / f"{_name(model, '')[:25]}unfinished-{secrets.token_hex(8)}.safetensors"
        label = {
            "format": FORMAT,
            "model": model,
            "tokens": base64.b64encode(tokens).decode(),
            "digest": _digest(model, tokens),
            "trimmable": str(int(trimmable)),
        }
        try:
            # Made first with its permissions: MLX opens it for writing and leaves them.
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            save_prompt_cache(str(unfinished), cache, label)
            with unfinished.open("rb") as file:
                name = _name(model, hashlib.file_digest(file, "sha256").hexdigest())
            size = unfinished.stat().st_size
            unfinished.replace(self._folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        return name, size

    def _make_room(self, needed_bytes: int) -> None:
        files = self._files()
        total = needed_bytes + sum(file.size_bytes for file in files)
        for file in files:
            if total <= self._max_bytes:
                return
            self._discard(file.name)
            total -= file.size_bytes

    def _files(self) -> list[_File]:
        """Ours, the least recently used first."""
        found: list[_File] = []
        with os.scandir(self._folder) as listing:
            for file in listing:
                if not _NAME.fullmatch(file.name):
                    continue
                try:
                    about = file.stat(follow_symlinks=False)
                except FileNotFoundError:  # another process was faster
                    continue
                found.append(_File(about.st_mtime_ns, file.name, about.st_size))
        return sorted(found)

    def _touch(self, name: str) -> None:
        self._index.touch(name)
        try:
            os.utime(self._folder / name)
        except OSError:
            log.debug("the prompt cache %s is gone", name)

    def _discard(self, name: str) -> None:
        self._index.remove(name)
        self._unlink(name)

    def _unlink(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the prompt cache %s could not be removed: %s", name, error)


def _name(model: str, content: str) -> str:
    return f"{hashlib.sha256(model.encode()).hexdigest()[:24]}-{content[:40]}.safetensors"


def _digest(model: str, tokens: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(model.encode()).digest() + tokens).hexdigest()


def _entry(path: Path, model: str) -> Entry:
    """Read the header of a file; raises when it is not a whole file of ours for this model."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < _HEADER_BYTES:
            raise ValueError("it has no header")
        header: dict[str, Any] = json.loads(file.read(length))
        size = os.fstat(file.fileno()).st_size
    label = header.pop("__metadata__")
    if size != 8 + length + max(array["data_offsets"][1] for array in header.values()):
        raise ValueError("it is cut")
    tokens = base64.b64decode(label["0.tokens"], validate=True)
    if label["0.format"] != FORMAT:
        raise ValueError(f"it is of another version, {label['0.format']!r}")
    if label["0.model"] != model or label["0.digest"] != _digest(model, tokens):
        raise ValueError("its digest does not match")
    return Entry(path.name, model, tokens, size, label["0.trimmable"] == "1")
