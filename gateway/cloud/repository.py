"""PURE: what of a model repository is taken, and which repositories are refused.

A listing is a stranger's text. Taken are the weights that MLX reads, the JSON, templates and
tokenizer beside them, and the texts that say what the model is and may be used for. Never taken is
what could be executed, on being imported or on being read (Python, pickles and their disguises).
Weights in subfolders are other formats of the same model, and beside `model*.safetensors` other
safetensors are a second copy: neither is read, so neither is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from gateway.errors import RefusedError

CONFIG = "config.json"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(f"{_PART}/{_PART}")
_TAKEN = frozenset({".json", ".jinja", ".txt", ".model"})
_NEVER = frozenset(
    {
        *(".py", ".pyc", ".pyd", ".so", ".dylib", ".dll", ".sh", ".exe"),
        *(".pkl", ".pickle", ".joblib", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".npy", ".npz"),
        *(".onnx", ".gguf", ".ggml", ".zip", ".tar", ".gz", ".tgz"),
    }
)
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it; `sha256` is None for a small one that is not in its large file store."""

    path: str
    size_bytes: int
    sha256: str | None = None
    blob: str | None = None

    @property
    def is_weights(self) -> bool:
        return self.path.endswith(".safetensors")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as it was at one commit; every file is fetched from that one."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]


def is_repository_name(text: str) -> bool:
    """Whether it is ORG/NAME as the hub has them, which is also a name for two folders."""
    doubtful = "--" in text or ".." in text or text.endswith(".git")
    return _NAME.fullmatch(text) is not None and not doubtful


def chosen(repository: Repository) -> tuple[RemoteFile, ...]:
    """The files to fetch, the ones that tell most about the model first.

    Raises RefusedError when a name leads out of the model's folder or the repository is no model for MLX.
    """
    for file in repository.files:
        if _strays(file.path):
            raise RefusedError(
                f"{repository.name} lists a file with the name {file.path[:_SHOWN]!a}, which could lead "
                "out of the model's folder; nothing was downloaded"
            )
    wanted = {file.path: file for file in repository.files if _is_wanted(file.path)}
    weights = _weights(wanted.values())
    if CONFIG not in wanted:
        raise RefusedError(f"{repository.name} has no config.json, so it is no model that MLX can load")
    if not weights:
        raise RefusedError(_without_weights(repository))
    rest = [file for file in wanted.values() if not file.is_weights and file.path != CONFIG]
    return (
        wanted[CONFIG],
        *sorted(rest, key=lambda file: file.path),
        *sorted(weights, key=lambda file: file.path),
    )


def _strays(path: str) -> bool:
    """A name that is not plainly one below the folder it is put into."""
    return "\\" in path or not path.isprintable() or any(part in ("", ".", "..") for part in path.split("/"))


def _is_wanted(path: str) -> bool:
    parts = PurePosixPath(path)
    base, suffix = parts.name.lower(), parts.suffix.lower()
    if suffix in _NEVER or any(part.startswith(".") for part in parts.parts):
        return False
    if suffix == ".safetensors":
        return len(parts.parts) == 1
    return suffix in _TAKEN or base.startswith("tokenizer") or base.split(".")[0] in ("readme", "license")


def _weights(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    found = [file for file in files if file.is_weights]
    return [file for file in found if file.path.startswith("model")] or found


def _without_weights(repository: Repository) -> str:
    if any(file.path.lower().endswith(".gguf") for file in repository.files):
        return (
            f"{repository.name} holds GGUF weights, which MLX does not read; look for the same model with "
            "safetensors, for example among those of mlx-community"
        )
    return f"{repository.name} has no safetensors, the only weights that are taken"
