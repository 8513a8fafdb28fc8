"""PURE: which models may be in memory together.

The size of a model is known before it is loaded: its weights on disk, and a share for caches and
buffers. Here a model is only ever refused; the decision already names what would be evicted, so
that its caller need not change when eviction comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_OVERHEAD = 1.1
_HEADROOM_BYTES = 64 * 1024 * 1024


class Verdict(Enum):
    """What is to be done about a model that is asked for."""

    RESIDENT = "resident"
    LOAD = "load"
    NO_ROOM = "no room"  # others have the memory now
    TOO_LARGE = "too large"  # it would not fit alone


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, the memory it is about, and the models that go first."""

    verdict: Verdict
    needed_bytes: int
    free_bytes: int
    evict: tuple[str, ...] = ()


def footprint(weight_bytes: int) -> int:
    """How much memory a model of this size will take, roughly."""
    return int(weight_bytes * _OVERHEAD) + _HEADROOM_BYTES


def decide(wanted: str, weight_bytes: int, resident: Mapping[str, int], limit_bytes: int) -> Decision:
    """May `wanted` be loaded beside the `resident` ones (weights in bytes, those loading included)?"""
    needed = footprint(weight_bytes)
    free = limit_bytes - sum(footprint(size) for size in resident.values())
    if wanted in resident:
        return Decision(Verdict.RESIDENT, needed, free)
    if needed > limit_bytes:
        return Decision(Verdict.TOO_LARGE, needed, free)
    return Decision(Verdict.LOAD if needed <= free else Verdict.NO_ROOM, needed, free)
