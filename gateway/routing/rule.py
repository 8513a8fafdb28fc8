"""PURE: a rule and the targets it names.

A rule says: names like this pattern go to these targets, in this order, under this policy.
Matching and order are in `table`, the check of a whole rule set in `check`.
"""

from __future__ import annotations

from dataclasses import dataclass

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Target:
    """A backend and the name that the model has there.

    `model` may use `{model}` and `{1}`, `{2}`; None keeps the name that came.
    """

    backend: str
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `local:qwen3-8b`, `openai:{model}` or `openai`; raise ValueError saying what is wrong."""
        backend, colon, model = text.strip().partition(":")
        if not backend:
            raise ValueError(f"target {text!r} names no backend; write local:NAME or UPSTREAM:NAME")
        if colon and not model:
            raise ValueError(f"target {text!r} has a colon but no model name after it")
        return cls(backend, model or None)

    @property
    def is_local(self) -> bool:
        return self.backend == LOCAL

    def __str__(self) -> str:
        return self.backend if self.model is None else f"{self.backend}:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Names like `pattern` go to `targets`, in order, under `policy`."""

    id: int
    pattern: str
    targets: tuple[Target, ...]
    policy: str = "default"
    priority: int = 0
    enabled: bool = True
    note: str = ""
