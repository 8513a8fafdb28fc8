"""PURE: which models may be in memory together, and which one goes for another.

The size of a model is known before it is loaded: its weights on disk, and a share for caches and
buffers. What the process really takes counts too where it is more than these sums: answers,
prompts that are kept, what was not foreseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

_OVERHEAD = 1.1
_HEADROOM_BYTES = 64 * 1024 * 1024
_FORESEEN_TOKENS = 1024  # of an answer; most end long before their limit


class Verdict(Enum):
    """What is to be done about a model that is asked for."""

    RESIDENT = "resident"
    LOAD = "load"  # after `evict` has gone
    NO_ROOM = "no room"  # others have the memory now, and are needed
    TOO_LARGE = "too large"  # it would not fit alone


@dataclass(frozen=True, slots=True)
class Occupant:
    """A model that is in memory, or on its way there. `used` counts up with each use of any model."""

    path: str
    weight_bytes: int
    used: int
    busy: bool = False  # requests run, or it is just being loaded
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, the memory it is about, the models that go first, and whether kept prompts go too."""

    verdict: Verdict
    needed_bytes: int
    free_bytes: int
    evict: tuple[str, ...] = ()
    prompts: int | None = None  # how many bytes of them may stay; None: as many as there are


def footprint(weight_bytes: int) -> int:
    """How much memory a model of this size will take, roughly."""
    return int(weight_bytes * _OVERHEAD) + _HEADROOM_BYTES


def kv_bytes(token_bytes: int, prompt: int, limit: int) -> int:
    """The memory that is set aside for an answer of at most `limit` tokens to a prompt of so many."""
    return token_bytes * (prompt + min(limit, _FORESEEN_TOKENS))


def decide(
    wanted: str,
    weight_bytes: int,
    occupants: Iterable[Occupant],
    limit_bytes: int,
    *,
    grown_bytes: int = 0,
    prompt_bytes: int = 0,
) -> Decision:
    """May `wanted` be loaded beside what is there?

    `grown_bytes` is by how much the process grew since it had no model, `prompt_bytes` what of it are
    prompts that may go. Evicted are those that nobody needs, least recently used first, no more than
    needed; a model in use and a pinned one never.
    """
    there = list(occupants)
    needed = footprint(weight_bytes)
    hard = held(there, grown_bytes=grown_bytes, prompt_bytes=prompt_bytes)
    free = limit_bytes - hard
    if any(one.path == wanted for one in there):
        return Decision(Verdict.RESIDENT, needed, free)
    if needed > limit_bytes:
        return Decision(Verdict.TOO_LARGE, needed, free)
    evict: list[str] = []
    for one in sorted(there, key=lambda one: one.used):
        if needed <= free:
            break
        if not one.busy and not one.pinned:
            evict.append(one.path)
            free += footprint(one.weight_bytes)
    if needed > free:
        return Decision(Verdict.NO_ROOM, needed, limit_bytes - hard)
    prompts = free - needed if prompt_bytes > free - needed else None
    return Decision(Verdict.LOAD, needed, free, tuple(evict), prompts)


def soonest(
    wanted: str,
    weight_bytes: int,
    occupants: Iterable[Occupant],
    limit_bytes: int,
    ends_s: Mapping[str, float],
    *,
    grown_bytes: int = 0,
    prompt_bytes: int = 0,
) -> float | None:
    """When there will be room, if models in use may go at the times of `ends_s`; None: by no waiting."""
    there = list(occupants)
    for path, at_s in sorted(ends_s.items(), key=lambda item: item[1]):
        there = [replace(one, busy=False) if one.path == path else one for one in there]
        decision = decide(
            wanted, weight_bytes, there, limit_bytes, grown_bytes=grown_bytes, prompt_bytes=prompt_bytes
        )
        if decision.verdict is Verdict.LOAD:
            return at_s
    return None


def held(occupants: Iterable[Occupant], *, grown_bytes: int, prompt_bytes: int) -> int:
    """The bytes that models take, or what was not foreseen; prompts that may go are not in it."""
    return max(sum(footprint(one.weight_bytes) for one in occupants), grown_bytes - prompt_bytes)


def expired(occupants: Iterable[Occupant], idle_s: dict[str, float], keep_alive_s: float) -> list[str]:
    """Those that nobody has asked for in so long; never one in use or pinned. 0 keeps all."""
    if not keep_alive_s:
        return []
    return [
        one.path
        for one in occupants
        if not one.busy and not one.pinned and idle_s.get(one.path, 0.0) >= keep_alive_s
    ]
