"""PURE: what the engine is asked for, as plain data that can cross to another process.

The readers beside this file make these of a request's JSON: `chat`, `completion`, `embedding`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen; None is what the model's own generation config says."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0  # the answer may not end before


class Chat(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A conversation; `messages` are ready for a chat template."""

    messages: list[dict[str, Any]]
    reasoning_effort: str | None = None
    template_args: dict[str, Any] = {}

    @property
    def prefill(self) -> bool:
        """Does the answer go on from an assistant message that the client has begun?"""
        last = self.messages[-1]
        return last["role"] == "assistant" and not last.get("tool_calls")


class Text(msgspec.Struct, frozen=True, tag=True):
    """A text that is gone on with as it is."""

    text: str


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """The same as token ids of the model's own vocabulary."""

    tokens: list[int]


Prompt = Chat | Text | Tokens


class Format(msgspec.Struct, frozen=True):
    """The form that an answer must have: any JSON object, or JSON that fits `schema`."""

    kind: Literal["json_object", "json_schema"]
    schema: Any = None
    strict: bool = False


class Tooling(msgspec.Struct, frozen=True, kw_only=True):
    """The tools of a request; `choice` is auto, none, required, or named (then `name` says which)."""

    tools: list[dict[str, Any]] = []
    choice: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    parallel: bool = True

    @property
    def forced(self) -> bool:
        """Must the answer call a tool?"""
        return self.choice in ("required", "named")

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of."""
        return [] if self.choice == "none" else self.tools


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Go on from each of `prompts`, `n` times each. Choice `p * n + i` is the i-th answer to prompt p."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling = Sampling()
    tooling: Tooling = Tooling()
    format: Format | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    n: int = 1
    top_logprobs: int | None = None  # None: no log probabilities are asked for
    echo: bool = False
    trail: bool = False  # tell the tokens; only of one answer
    resume: tuple[int, ...] = ()  # what was said before; the answer begins with it and goes on

    @property
    def rows(self) -> int:
        """The places in a batch that it takes."""
        return len(self.prompts) * self.n


class Embed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make a vector of each input; `dimensions` keeps the first so many of it."""

    inputs: tuple[Text | Tokens, ...]
    dimensions: int | None = None
    rows: int = 1


class Count(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How many tokens would the prompts of this be? No model is loaded for an answer to that. `bounded` asks
    too whether it would be refused for being so many; else their number is told however many they are.
    """

    work: Generate | Embed
    rows: int = 0
    bounded: bool = True


Work = Generate | Embed | Count


def traced(work: Work, *, keep: bool, resume: tuple[int, ...]) -> Work:
    """The same work, so that it can be gone on with, or goes on itself. Only one answer can be kept."""
    if not isinstance(work, Generate) or not (keep or resume):
        return work
    return msgspec.structs.replace(work, trail=keep and work.rows == 1, resume=resume)
