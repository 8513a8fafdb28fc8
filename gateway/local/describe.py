"""What a model folder says of itself: architecture, quantisation, what its template can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway.local.mailbox import ModelFolder
from gateway.local.residency import footprint

_MAX_BYTES = 8 * 1024 * 1024
PULLED = ".pulled.json"  # where the model came from; `models pull` writes it


def describe(folder: ModelFolder) -> dict[str, Any]:
    """The facts on disk. Blocks: call it in a thread."""
    path = Path(folder.path)
    config = _object(path / "config.json")
    inner = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(inner, dict)
    template = _template(path)
    return {
        "name": folder.name,
        "path": folder.path,
        "size_bytes": folder.size_bytes,
        "memory_estimate_bytes": footprint(folder.size_bytes + folder.draft_bytes),
        "architecture": _first(config.get("architectures")) or config.get("model_type"),
        "model_type": config.get("model_type"),
        "quantization": _quantization(config),
        "dtype": config.get("torch_dtype") or config.get("dtype") or inner.get("torch_dtype"),
        "layers": inner.get("num_hidden_layers"),
        "hidden_size": inner.get("hidden_size"),
        "vocabulary": inner.get("vocab_size"),
        "context": folder.context or None,
        "template": {
            "chat": bool(template),
            "tools": "tools" in template,
            "thinking": "think" in template,
            "reasoning_effort": "reasoning_effort" in template,
        },
        "embeddings": (path / "modules.json").is_file(),
        "pulled": _object(path / PULLED) or None,
    }


def _quantization(config: dict[str, Any]) -> str:
    found = config.get("quantization") or config.get("quantization_config")
    if not isinstance(found, dict):
        return "none"
    bits, group = found.get("bits"), found.get("group_size")
    mode = found.get("mode") or found.get("quant_method") or "affine"
    return f"{bits} bits, groups of {group}, {mode}" if bits and group else str(mode)


def _template(path: Path) -> str:
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        file = path / name
        if name.endswith(".jinja"):
            text = _text(file)
        else:
            found = _object(file).get("chat_template")
            text = found if isinstance(found, str) else msgspec.json.encode(found).decode() if found else ""
        if text:
            return text
    return ""


def _object(file: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(_text(file) or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_BYTES:
            return ""
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _first(names: Any) -> str | None:
    return str(names[0]) if isinstance(names, list) and names else None
