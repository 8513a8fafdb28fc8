"""PURE: what the configuration says to an engine, and of single models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.config import Local
from gateway.local.mailbox import EngineSettings, ModelFolder

_GIB = 1024**3


def engine_settings(config: Local, home: Path, limit_bytes: int) -> EngineSettings:
    """What each engine is told when it starts."""
    return EngineSettings(
        batch_size=config.batch_size,
        prefill_step=config.prefill_step,
        default_max_tokens=config.default_max_tokens,
        cache_bytes=min(_GIB, limit_bytes // 8),
        memory_bytes=limit_bytes,
        prompt_cache_bytes=min(int(config.prompt_cache_gb * _GIB), limit_bytes // 4),
        prompt_cache_folder=str(home / "prompts") if config.prompt_cache_disk_gb else "",
        prompt_cache_disk_bytes=int(config.prompt_cache_disk_gb * _GIB),
    )


class Choices:
    """The settings that name a model: how its keys and values are kept, and who guesses ahead for it."""

    def __init__(self, config: Local) -> None:
        self._kv_bits = {name: int(bits) for name, bits in _pairs(config.kv_bits)}
        self._drafts = dict(_pairs(config.draft_models))

    def of(self, folder: ModelFolder, known: Mapping[str, ModelFolder]) -> ModelFolder:
        """The folder with what is chosen for it. A draft model that is not on the disk is left out."""
        bits = self._kv_bits.get(folder.name, 0)
        draft = known.get(self._drafts.get(folder.name, ""))
        if draft is not None:
            return msgspec.structs.replace(
                folder, kv_bits=bits, draft=draft.path, draft_bytes=draft.size_bytes
            )
        return msgspec.structs.replace(folder, kv_bits=bits) if bits else folder

    def draft_of(self, name: str) -> str | None:
        """The draft model that the configuration names for a model, on the disk or not."""
        return self._drafts.get(name)


def _pairs(settings: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (setting.partition("=") for setting in settings)]
