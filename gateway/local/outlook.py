"""Foresees what would become of a call to a local model; `forecast` reckons, this looks and asks.

A prompt is counted only where something hangs on it, and by the engine, with the model's own
tokenizer and template; a model that is not in memory is not loaded for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.backend import AttemptFailed
from gateway.failover.outcome import Failure, Outcome
from gateway.local.forecast import (
    Forecast,
    Pace,
    certainly_too_long,
    lacking,
    load_s,
    matters,
    most_tokens,
    plain,
    refused,
    remaining_s,
    soon,
    with_tokens,
)
from gateway.local.host import Host
from gateway.local.mailbox import Finished, ModelFolder
from gateway.local.prompt import given_tokens, longest
from gateway.local.request import Count, Embed, Generate
from gateway.local.residency import kv_bytes
from gateway.local.residents import Residents, Stay
from gateway.local.scheduler import Scheduler
from gateway.local.speed import Speeds

_COUNT_S = 2.0  # after this time an estimate has to do
# What the engine says of a prompt, and would say again; anything else is about the engine.
_OF_THE_PROMPT = frozenset({Outcome.CONTEXT_TOO_LONG, Outcome.CLIENT_FAULT, Outcome.UNSUPPORTED})


class Outlook:
    """Looks at queues, memory and speeds, and changes none of them."""

    def __init__(
        self,
        host: Callable[[], Host],
        scheduler: Scheduler,
        residents: Residents,
        speeds: Speeds,
        *,
        limit_bytes: int,
        default_max_tokens: int,
        one_each: bool,
    ) -> None:
        self._host, self._scheduler, self._residents, self._speeds = host, scheduler, residents, speeds
        self._limit_bytes, self._default_max_tokens = limit_bytes, default_max_tokens
        self._one_each = one_each

    async def forecast(
        self, folder: ModelFolder, work: Generate | Embed | Count, body_bytes: int, limit_s: float | None
    ) -> Forecast:
        """What would become of this work now. Only where the engine is asked the loop goes on meanwhile."""
        if isinstance(work, Count):
            return self._counting(folder, work)
        pace = self._pace(folder)
        found = self._now(folder, work.rows)
        if isinstance(work, Generate):
            found = replace(found, max_tokens=work.max_tokens)
        stay = self._residents.stay(folder.path)
        if found.failure is None and stay is not None and stay.facts is not None:
            found = refused(found, lacking(work, stay.facts, folder.name))
        if found.failure is None:
            found = refused(found, certainly_too_long(work, folder.context))
        sizes = given_tokens(work)
        tokens = int(body_bytes / pace.bytes_per_token) if sizes is None else sum(sizes)
        found = with_tokens(found, pace, tokens, exact=sizes is not None)
        if found.failure is not None:
            return found
        if not self._may_be_refused(folder, work, body_bytes) and not matters(found, pace, limit_s):
            return found
        counted = await self._count(folder, work)
        if isinstance(counted, Failure):
            return refused(found, counted)
        if counted is None:
            return found
        later = replace(self._now(folder, work.rows), max_tokens=found.max_tokens)
        return with_tokens(later, pace, counted, exact=True)

    def plain(self, folder: ModelFolder) -> dict[str, Any]:
        """The same for no call in particular, as JSON."""
        speed = self._speeds.of(folder.fingerprint)
        facts = {
            "state": self._residents.state(folder.path),
            "running": self._scheduler.running(folder.path),
            "measured": speed.prefill_tps is not None and speed.decode_tps is not None,
            "memory_free_bytes": self._residents.free_bytes(),
        }
        return plain(self._now(folder, 1), self._pace(folder), facts)

    def _counting(self, folder: ModelFolder, work: Count) -> Forecast:
        """To count takes no place, no memory and no model, and no time that is worth a forecast."""
        stay = self._residents.stay(folder.path)
        found = Forecast(resident=stay is not None and stay.ready, context=folder.context or None)
        if stay is not None and stay.facts is not None:
            found = refused(found, lacking(work.work, stay.facts, folder.name))
        return refused(found, found.failure or certainly_too_long(work.work, folder.context))

    def _now(self, folder: ModelFolder, rows: int) -> Forecast:
        """What holds for any prompt."""
        now, path = time.monotonic(), folder.path
        failure, evicts, room = None, tuple[str, ...](), 0.0
        try:
            room = self._residents.foresee(folder)
            evicts = self._residents.displaced(folder)
        except AttemptFailed as error:
            failure = error.failure
        if failure is None and (full := self._scheduler.full(path, now, places=rows)) is not None:
            failure = full.failure(folder.name)
        stay = self._residents.stay(path)
        resident = stay is not None and stay.ready
        load = 0.0 if resident else self._load_s(folder, stay, now)
        queue = self._scheduler.wait_s(path, now) + room
        waits = (queue, 0.0 if stay is None else load)
        return Forecast(
            failure=failure,
            retry_after_s=soon(*waits) if failure is None else failure.retry_after_s,
            resident=resident,
            load_s=load,
            evicts=evicts,
            queue_s=queue,
            queued=self._scheduler.waiting(path),
            places=self._scheduler.width(path),
            context=folder.context or None,
            decode_tps=self._pace(folder).decode_tps,
        )

    def _pace(self, folder: ModelFolder) -> Pace:
        speed = self._speeds.of(folder.fingerprint)
        return Pace.of(folder.size_bytes, speed.prefill_tps, speed.decode_tps, speed.bytes_per_token)

    def _load_s(self, folder: ModelFolder, stay: Stay | None, now: float) -> float:
        """Until it is there; in one engine models are loaded one after the other."""
        whole = load_s(
            folder.size_bytes + folder.draft_bytes,
            self._speeds.of(folder.fingerprint).load_s,
            self._speeds.load_rate(),
            running=self._host().running(folder.path),
        )
        mine = whole if stay is None else remaining_s(whole, now - stay.idle_since, stay.progress)
        if self._one_each:
            return mine
        since = now if stay is None else stay.idle_since
        before = [other for other in self._residents.loading() if other.idle_since < since]
        return mine + sum(self._rest_s(other, now) for other in before)

    def _rest_s(self, other: Stay, now: float) -> float:
        size = other.folder.size_bytes + other.folder.draft_bytes
        measured = self._speeds.of(other.folder.fingerprint).load_s
        whole = load_s(size, measured, self._speeds.load_rate(), running=True)
        return remaining_s(whole, now - other.idle_since, other.progress)

    def _may_be_refused(self, folder: ModelFolder, work: Generate | Embed, body_bytes: int) -> bool:
        """Is the answer's size in doubt: could the engine find that it does not fit?"""
        stay, context = self._residents.stay(folder.path), folder.context
        facts = None if stay is None else stay.facts
        most = most_tokens(work, body_bytes, None if facts is None else facts.template_bytes)
        if context and most > longest(work, context):
            return True
        if facts is None or isinstance(work, Embed):
            return False
        weights = facts.weight_bytes if self._one_each else self._residents.weight_bytes()
        limit = work.max_tokens or self._default_max_tokens
        return weights + kv_bytes(facts.kv_token_bytes, most, limit) > self._limit_bytes

    async def _count(self, folder: ModelFolder, work: Generate | Embed) -> int | Failure | None:
        """The tokens of all prompts, or what the engine would say to them; None: it did not say."""
        ticket = self._host().ticket(folder, 0)
        cancel = self._host().count(ticket, Count(work=work))
        try:
            async with asyncio.timeout(_COUNT_S):
                return (await ticket.until(Finished)).prompt_tokens
        except TimeoutError:
            return None
        except AttemptFailed as error:
            return error.failure if error.failure.outcome in _OF_THE_PROMPT else None
        finally:
            cancel()
