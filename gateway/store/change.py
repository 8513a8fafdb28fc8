"""One change in the making: everything a verb needs, valid inside one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.snapshot import Snapshot
from gateway.store.models import HistoryRow
from gateway.store.secrets import Vault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """What a verb gave back, and what the operator should be told besides."""

    value: T
    warnings: tuple[str, ...] = ()


class Change:
    """Who changes what, from which state. Verbs take one and write rows; `Store.change` makes it.

    `before` is the state the transaction began with, read inside it.
    """

    def __init__(self, *, actor: str, before: Snapshot, vault: Vault) -> None:
        self.actor = actor
        self.before = before
        self.vault = vault
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        """Tell the operator something that doesn't stop the change."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def record(
        self,
        noun: str,
        name: str,
        action: str,
        *,
        before: Mapping[str, object] | None = None,
        after: Mapping[str, object] | None = None,
    ) -> None:
        """Write the history row of this change. The mappings come from `shown`: no secrets."""
        HistoryRow.create(
            at=time.time(),
            actor=self.actor,
            noun=noun,
            name=name,
            action=action,
            before=None if before is None else json.dumps(before, ensure_ascii=False),
            after=None if after is None else json.dumps(after, ensure_ascii=False),
        )
