"""PURE: what a chat template is given besides the messages, and what its refusal tells the client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.failover.outcome import Failure, Outcome
from gateway.local.fields import Unsupported
from gateway.local.request import Chat, Embed, Generate, Tokens, Work

_PATHS = re.compile(r"(?:[A-Za-z]:)?[\\/][^\s'\"]+")
# Rendered text per token; no tokenizer makes longer tokens. Text beyond this is too long for sure.
MOST_CHARS_PER_TOKEN = 128
CONTEXT_CODE = "context_length_exceeded"


def template_args(
    prompt: Chat, tools: list[dict[str, Any]], template: str, *, has_thinking: bool
) -> dict[str, Any]:
    """The arguments of the template for this chat; raise Unsupported where it knows no such thing."""
    args: dict[str, Any] = dict(prompt.template_args)
    if tools:
        args["tools"] = tools
    if prompt.prefill:
        args["continue_final_message"] = True
    else:
        args["add_generation_prompt"] = True
    effort = prompt.reasoning_effort
    if effort is None:
        return args
    if "reasoning_effort" in template:
        args["reasoning_effort"] = effort
    elif has_thinking and "enable_thinking" in template:
        args.setdefault("enable_thinking", effort != "none")
    elif effort != "none":
        raise Unsupported("reasoning_effort", "this model's chat template knows no reasoning effort")
    return args


def far_too_long(prompt: Chat, context: int) -> bool:
    """Can these messages never fit? Said before a template is run: it may take quadratic time."""
    size = sum(len(message["content"]) for message in prompt.messages)
    return len(prompt.messages) > context or size > context * MOST_CHARS_PER_TOKEN


def too_long(size: int | str, context: int, field: str) -> Failure:
    """The refusal of a prompt that leaves no room for an answer."""
    # In words that both SDKs' users look for: agents shorten the conversation by themselves then.
    message = (
        f"the prompt is too long: {size} tokens > {context}, which is this model's maximum context length; "
        f"shorten the {field}"
    )
    return Failure(
        outcome=Outcome.CONTEXT_TOO_LONG,
        message=message,
        status=400,
        code=CONTEXT_CODE,
        param=field,
    )


def no_chat() -> Unsupported:
    """The refusal of messages by a model that only goes on with texts."""
    return Unsupported("messages", "this model has no chat template; it can't chat")


def no_vectors(name: str) -> Unsupported:
    """The refusal of inputs by a model that answers."""
    return Unsupported("model", f"{name} makes no embeddings; it answers prompts")


def field_of(work: Work) -> str:
    """The field of the request that holds its prompts."""
    match work:
        case Generate():
            return "messages" if isinstance(work.prompts[0], Chat) else "prompt"
        case Embed():
            return "input"
        case _:
            return field_of(work.work)


def given_tokens(work: Generate | Embed) -> list[int] | None:
    """The sizes of prompts that came as token ids; None where there are others among them."""
    prompts = work.prompts if isinstance(work, Generate) else work.inputs
    sizes = [len(prompt.tokens) for prompt in prompts if isinstance(prompt, Tokens)]
    return sizes if len(sizes) == len(prompts) else None


def longest(work: Generate | Embed, context: int) -> int:
    """The most tokens that a prompt of this may have in this context: an answer needs one at least."""
    return context if isinstance(work, Embed) else context - 1


def shared_parts(messages: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Beginnings of a conversation that other requests may have too: its system messages (with a user's
    message behind them, since most templates want one), and all of it.
    """
    system = [message for message in messages if message["role"] == "system"]
    parts = [[*system, {"role": "user", "content": ""}]] if system else []
    return [*parts, list(messages)]


def refusal(sentence: str) -> str:
    """The template's own words, on one line, short and without paths."""
    line = _PATHS.sub("...", " ".join(sentence.split()))
    return f"the model's chat template refuses these messages: {line[:300]}"


def opens_thinking(prompt: str, start: str, end: str) -> bool:
    """Does the rendered prompt end inside an open thinking block?"""
    return prompt.rfind(start) > prompt.rfind(end)
