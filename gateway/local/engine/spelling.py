"""The tokenizers of models, with or without their weights: reading one may take a second."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.local.engine.embed import Pooling, read_pooling
from gateway.local.engine.models import read_tokenizer, template_of
from gateway.local.mailbox import ModelFolder

_KEPT = 4


@dataclass(slots=True)
class Spelling:
    """What turns requests to a model into tokens, where the model itself is not in memory. How many tokens
    it knows and how wide it is, only its weights say: 0.
    """

    folder: ModelFolder
    tokenizer: Any
    template: str
    pooling: Pooling | None
    vocab: int = 0
    width: int = 0


class Tokenizers:
    """Reads them and keeps the last few, each as long as its folder does not change. For all threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, folder: ModelFolder) -> Any:
        """The tokenizer of a model; raises whatever is wrong with it. Two who ask at once both read it."""
        key = (folder.path, folder.fingerprint)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = read_tokenizer(folder)
        with self._lock:
            self._kept[key] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def spelling(self, folder: ModelFolder) -> Spelling:
        """The same with what else it takes to count tokens."""
        tokenizer = self.of(folder)
        pooling = read_pooling(Path(folder.path))
        return Spelling(folder, tokenizer, template_of(tokenizer), pooling)
