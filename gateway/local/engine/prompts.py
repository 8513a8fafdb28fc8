"""The prompt thread: renders chat templates and tokenises, so that neither the loop nor MLX waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.models import Resident
from gateway.local.fields import Unsupported
from gateway.local.prompt import (
    MOST_CHARS_PER_TOKEN,
    far_too_long,
    opens_thinking,
    refusal,
    template_args,
)
from gateway.local.request import ChatRequest

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A prompt as tokens, or the reason why there is none. It comes back through the engine's inbox."""

    id: int
    tokens: list[int]
    thinking: bool = False
    failure: Failure | None = None


class _Job(NamedTuple):
    id: int
    resident: Resident
    request: ChatRequest
    wanted: Callable[[], bool]


class PromptThread:
    """One thread that turns requests into tokens, in order."""

    def __init__(self, done: Callable[[Prepared], None]) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done = done
        self._thread = threading.Thread(target=self._run, name="local-prompt", daemon=True)
        self._thread.start()

    def submit(
        self, number: int, resident: Resident, request: ChatRequest, wanted: Callable[[], bool]
    ) -> None:
        self._jobs.put(_Job(number, resident, request, wanted))

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.wanted():
                self._done(_prepare(job))
            del job  # it holds the model


def _prepare(job: _Job) -> Prepared:
    try:
        return tokenise(job.id, job.resident, job.request)
    except Unsupported as error:
        return Prepared(
            job.id, [], failure=_failure(Outcome.UNSUPPORTED, str(error), error.code, error.param)
        )
    except TemplateError as error:
        return Prepared(
            job.id, [], failure=_failure(Outcome.CLIENT_FAULT, refusal(str(error)), "template_error")
        )
    except Exception:
        log.exception("the chat template of %s failed", job.resident.folder.name)
        sentence = "the model's chat template can't render these messages"
        return Prepared(job.id, [], failure=_failure(Outcome.CLIENT_FAULT, sentence, "template_error"))


def tokenise(number: int, resident: Resident, request: ChatRequest) -> Prepared:
    """Render and encode; raises Unsupported, a TemplateError, or whatever a template may raise."""
    tokenizer = resident.tokenizer
    if not tokenizer.has_chat_template:
        raise Unsupported("messages", "this model has no chat template; it can't chat")
    if request.tools and not tokenizer.has_tool_calling:
        raise Unsupported("tools", "this model knows no tool calls")
    for token, _ in request.sampling.logit_bias:
        if token >= resident.vocab:
            failure = _failure(
                Outcome.CLIENT_FAULT,
                f"logit_bias: this model has no token {token}; the largest is {resident.vocab - 1}",
                "invalid_value",
                "logit_bias",
            )
            return Prepared(number, [], failure=failure)
    args = template_args(request, resident.template, has_thinking=tokenizer.has_thinking)
    context = resident.folder.context
    if context and far_too_long(request, context):
        return Prepared(number, [], failure=too_long(f"more than {context}", context))
    text: str = tokenizer.apply_chat_template(request.messages, tokenize=False, **args)
    if context and len(text) > context * MOST_CHARS_PER_TOKEN:
        return Prepared(number, [], failure=too_long(f"more than {context}", context))
    tokens = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    if not tokens:
        failure = _failure(Outcome.CLIENT_FAULT, "the prompt is empty", "invalid_value", "messages")
        return Prepared(number, [], failure=failure)
    if context and len(tokens) >= context:
        return Prepared(number, [], failure=too_long(str(len(tokens)), context))
    return Prepared(number, tokens, _thinks(tokenizer, text))


def too_long(size: str, context: int) -> Failure:
    """The refusal of a prompt that leaves no room for an answer."""
    return _failure(
        Outcome.CONTEXT_TOO_LONG,
        f"this model's context is {context} tokens and the prompt alone has {size}; shorten the messages",
        "context_length_exceeded",
        "messages",
    )


def _thinks(tokenizer: Any, text: str) -> bool:
    return bool(tokenizer.has_thinking) and opens_thinking(text, tokenizer.think_start, tokenizer.think_end)


def _failure(outcome: Outcome, message: str, code: str | None = None, param: str | None = None) -> Failure:
    return Failure(outcome=outcome, message=message, status=400, code=code, param=param)
