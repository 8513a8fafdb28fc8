"""What every answer must say, and what the one that came is worth.

The text of an answer follows from the request's id, so that a word too many, too few, twice or of somebody
else's answer is seen.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any, Literal

Dialect = Literal["openai", "anthropic"]
CANARY = "canary-7f3a"  # stands in every secret, prompt and answer, and so in no log
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def chance(*seed: object) -> random.Random:
    """Chances of their own for each decision, so that none depends on when another was taken."""
    return random.Random("/".join(map(str, seed)))


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `count` is how many words its answer has; `leaves_s` when its client goes away."""

    id: str
    family: str
    model: str
    dialect: Dialect
    sdk: bool
    stream: bool
    count: int
    leaves_s: float | None

    @property
    def text(self) -> str:
        return text_of(self.id, self.count)

    @property
    def local_text(self) -> str:
        """What the demo model answers."""
        return " ".join(str(number) for number in range(1, self.count % 9 + 2))

    @property
    def fields(self) -> dict[str, Any]:
        """The body. Where an upstream finds its id, a local model sees nothing."""
        said = f"Count to {self.count % 9 + 1}" if self.family.endswith("local") else f"{CANARY} say it"
        tag = f"{self.id}:{self.count}:{CANARY}"
        whose = {"user": tag} if self.dialect == "openai" else {"metadata": {"user_id": tag}}
        messages = [{"role": "user", "content": said}]
        return {
            "model": self.model,
            "max_tokens": 60,
            "messages": messages,
            **({"stream": True} if self.stream else {}),
            **whose,
        }

    @property
    def body(self) -> bytes:
        return json.dumps(self.fields).encode()


def text_of(ask_id: str, count: int) -> str:
    """The whole answer to a request."""
    words = [f"{ask_id}.{number}{'ä😀' if number % 5 == 0 else ''}" for number in range(count)]
    return " ".join([*words, f"END-{ask_id}"])


def tag_of(asked: dict[str, Any]) -> tuple[str, int] | None:
    """The id and the number of words that a request's body asks for."""
    tag = asked.get("user") or (asked.get("metadata") or {}).get("user_id") or ""
    parts = tag.split(":")
    return (parts[0], int(parts[1])) if len(parts) == 3 else None


@dataclass(slots=True)
class Got:
    """What a client saw."""

    status: int = 0
    text: str = ""
    ended: bool = False  # by the reason for its end, its terminal event, or as a whole
    closed: bool = False  # by its terminal event, behind which nothing may follow
    told: str = ""  # the error that it was told
    lost: str = ""  # what its connection died of
    left: bool = False  # it went away itself
    served_by: str = ""
    attempts: str = ""
    comments: list[str] = field(default_factory=list)
    began: float = 0.0
    first: float | None = None  # when its first content came
    over: float = 0.0


Worth = Literal["right", "told", "left", "lost", "short", "wrong"]


def judge(ask: Ask, got: Got) -> tuple[Worth, str]:
    """What an answer is worth, and what is wrong with it. `lost` is for the caller to excuse."""
    whole = _expected(ask, got)
    on = ask.family == "onward-local"
    went_on = (
        on and any("continued-by local/" in comment for comment in got.comments) and _begins(whole, got.text)
    )
    if got.ended and not got.told and not got.lost and not got.left:
        if got.text == whole or went_on:
            return "right", ""
        return ("short" if whole.startswith(got.text) else "wrong"), _differ(whole, got.text)
    # It may break or be left while a local model goes on, and only its end says that one does.
    if not whole.startswith(got.text) and not (on and _begins(whole, got.text)):
        return "wrong", _differ(whole, got.text)
    if got.left:
        return "left", ""
    if got.lost:
        return "lost", got.lost
    if got.told:
        return "told", got.told
    return "short", f"neither a terminal event nor an error after {got.text[-60:]!r}"


def _expected(ask: Ask, got: Got) -> str:
    """The text of who answered. A heartbeat may have sent the head before that was known."""
    if got.served_by.startswith("local/"):
        return ask.local_text
    if not got.served_by and ask.family.endswith("local") and got.text.startswith("1"):
        return ask.local_text
    return ask.text


def _begins(whole: str, text: str) -> bool:
    """Does a continued answer begin with what it continues, the first word at least?"""
    return text.startswith(whole.split(" ", 1)[0]) and bool(text)


def _differ(whole: str, text: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(whole, text, strict=False)) if a != b), min(len(whole), len(text))
    )
    return (
        f"from character {at} of {len(whole)} on: {text[max(0, at - 20) : at + 40]!r} ({len(text)} characters), "
        f"not {whole[max(0, at - 20) : at + 40]!r}"
    )
