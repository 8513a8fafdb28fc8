"""Keeps the libraries of the engine off the network and out of the log. Imports none of them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from types import MappingProxyType

# Before the first import: nothing of the engine may ask the network for anything.
QUIET: Mapping[str, str] = MappingProxyType(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
)


def quieten() -> None:
    os.environ.update(QUIET)
    warnings.filterwarnings("ignore", module=r"(transformers|huggingface_hub|tokenizers|mlx_lm)(\..*)?")
    logging.getLogger("transformers").setLevel(logging.ERROR)
