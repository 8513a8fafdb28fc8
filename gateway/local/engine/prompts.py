"""The prompt thread: renders chat templates and tokenises, so that neither the loop nor MLX waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from gateway.errors import RequestError
from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.guide import Guide
from gateway.local.engine.models import Resident
from gateway.local.fields import Unsupported
from gateway.local.grammar import GuidePlan
from gateway.local.prefixes import common_length, pack
from gateway.local.prompt import (
    MOST_CHARS_PER_TOKEN,
    far_too_long,
    opens_thinking,
    refusal,
    shared_parts,
    template_args,
)
from gateway.local.request import Chat, Count, Embed, Format, Generate, Prompt, Text, Tokens, Tooling, Work

log = logging.getLogger(__name__)


class Ready(NamedTuple):
    """A prompt as tokens. `borders` are lengths up to which others may have the same."""

    tokens: list[int]
    thinking: bool = False
    borders: tuple[int, ...] = ()
    guide: Guide | None = None
    text: str = ""  # only where it is echoed


class Prepared(NamedTuple):
    """The prompts of a request, or why there are none. It comes back through the engine's inbox."""

    id: int
    prompts: list[Ready]
    failure: Failure | None = None


class _Job(NamedTuple):
    id: int
    resident: Resident
    work: Work
    wanted: Callable[[], bool]


class PromptThread:
    """One thread that turns requests into tokens, in order."""

    def __init__(self, done: Callable[[Prepared], None]) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done = done
        self._thread = threading.Thread(target=self._run, name="local-prompt", daemon=True)
        self._thread.start()

    def submit(self, number: int, resident: Resident, work: Work, wanted: Callable[[], bool]) -> None:
        self._jobs.put(_Job(number, resident, work, wanted))

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.wanted():
                self._done(prepare(job.id, job.resident, job.work))
            del job  # it holds the model


def prepare(number: int, resident: Resident, work: Work) -> Prepared:
    """Render and encode; whatever goes wrong becomes a failure."""
    try:
        return Prepared(number, _prompts(resident, work))
    except _TooLong as error:
        failure = too_long(error.size, resident.folder.context, _field(work))
    except RequestError as error:
        outcome = Outcome.UNSUPPORTED if isinstance(error, Unsupported) else Outcome.CLIENT_FAULT
        failure = _failure(outcome, str(error), error.code, error.param)
    except TemplateError as error:
        failure = _failure(Outcome.CLIENT_FAULT, refusal(str(error)), "template_error", "messages")
    except Exception:
        log.exception("the prompt of a request to %s can't be made", resident.folder.name)
        sentence = "the model's chat template can't render these messages"
        failure = _failure(Outcome.CLIENT_FAULT, sentence, "template_error", "messages")
    return Prepared(number, [], failure)


class _TooLong(Exception):  # noqa: N818 - it is a refusal on its way
    def __init__(self, size: str) -> None:
        self.size = size


def _prompts(resident: Resident, work: Work) -> list[Ready]:
    match work:
        case Generate():
            _check_bias(resident, work)
            return [_ready(resident, work, prompt) for prompt in work.prompts]
        case Embed():
            if resident.pooling is None:
                raise Unsupported("model", f"{resident.folder.name} makes no embeddings; it answers prompts")
            if work.dimensions is not None and 0 < resident.width < work.dimensions:
                raise RequestError(
                    f"dimensions must be at most {resident.width} for this model, not {work.dimensions}",
                    param="dimensions",
                )
            return [Ready(_encoded(resident, item, "input", least_left=0)) for item in work.inputs]
        case Count():
            tokens = _tokens(resident, work.prompt, work.tooling, checked=False)
            return [Ready(tokens)]


def _ready(resident: Resident, work: Generate, prompt: Prompt) -> Ready:
    if not isinstance(prompt, Chat):
        tokens = _encoded(resident, prompt, "prompt")
        text = str(resident.tokenizer.decode(tokens)) if work.echo and isinstance(prompt, Tokens) else ""
        return Ready(tokens, text=text or getattr(prompt, "text", ""))
    args = _args(resident, prompt, work.tooling)
    text = _rendered(resident, prompt, args)
    tokens = _fitting(resident, _encode(resident, text, special=False), 1, "messages")
    thinking = _thinks(resident.tokenizer, text)
    borders = () if resident.trimmable else _borders(resident, prompt, args, tokens)
    guide = _guide(resident, work, thinking=thinking, args=args)
    return Ready(tokens, thinking, borders, guide)


def _tokens(resident: Resident, prompt: Prompt, tooling: Tooling, *, checked: bool) -> list[int]:
    if not isinstance(prompt, Chat):
        return _encoded(resident, prompt, "prompt")
    text = _rendered(resident, prompt, _args(resident, prompt, tooling), checked=checked)
    return _encode(resident, text, special=False)


def _args(resident: Resident, prompt: Chat, tooling: Tooling) -> dict[str, Any]:
    tokenizer = resident.tokenizer
    if not tokenizer.has_chat_template:
        raise Unsupported("messages", "this model has no chat template; it can't chat")
    if tooling.offered and not tokenizer.has_tool_calling:
        raise Unsupported("tools", "this model knows no tool calls")
    return template_args(prompt, tooling.offered, resident.template, has_thinking=tokenizer.has_thinking)


def _rendered(resident: Resident, prompt: Chat, args: dict[str, Any], *, checked: bool = True) -> str:
    context = resident.folder.context
    if checked and context and far_too_long(prompt, context):
        raise _TooLong(f"more than {context}")
    text = str(resident.tokenizer.apply_chat_template(prompt.messages, tokenize=False, **args))
    if checked and context and len(text) > context * MOST_CHARS_PER_TOKEN:
        raise _TooLong(f"more than {context}")
    return text


def _encoded(resident: Resident, prompt: Text | Tokens, field: str, *, least_left: int = 1) -> list[int]:
    """A text or token ids, as the model's own tokens, and no more than fit."""
    if isinstance(prompt, Tokens):
        for token in prompt.tokens:
            if token >= resident.vocab:
                raise RequestError(
                    f"this model has no token {token}; the largest is {resident.vocab - 1}", param=field
                )
        tokens = prompt.tokens
    else:
        context = resident.folder.context
        if context and len(prompt.text) > context * MOST_CHARS_PER_TOKEN:
            raise _TooLong(f"more than {context}")
        tokens = _encode(resident, prompt.text, special=True)
    return _fitting(resident, tokens, least_left, field)


def _encode(resident: Resident, text: str, *, special: bool) -> list[int]:
    return [int(token) for token in resident.tokenizer.encode(text, add_special_tokens=special)]


def _fitting(resident: Resident, tokens: list[int], least_left: int, field: str) -> list[int]:
    if not tokens:
        raise RequestError("the prompt is empty", code="invalid_value", param=field)
    context = resident.folder.context
    if context and len(tokens) > context - least_left:
        raise _TooLong(str(len(tokens)))
    return tokens


def _borders(resident: Resident, prompt: Chat, args: dict[str, Any], tokens: list[int]) -> tuple[int, ...]:
    """Where a prompt whose cache can't be cut back may be shared: behind its system messages, and
    before what only asks for an answer.
    """
    found = set()
    for messages in shared_parts(prompt.messages):
        try:
            how = {**args, "add_generation_prompt": False, "continue_final_message": False}
            part = resident.tokenizer.apply_chat_template(messages, tokenize=False, **how)
            found.add(common_length(pack(_encode(resident, str(part), special=False)), pack(tokens)))
        except Exception as error:  # many templates don't take a part of a conversation
            log.debug("a part of a prompt can't be rendered alone: %s", type(error).__name__)
    return tuple(sorted(size for size in found if 0 < size < len(tokens) - 1))


def _guide(resident: Resident, work: Generate, *, thinking: bool, args: dict[str, Any]) -> Guide | None:
    tooling = work.tooling
    if work.format is None and not tooling.offered:
        return None
    if tooling.offered and not resident.guides.knows_calls:
        if tooling.forced:
            raise Unsupported("tool_choice", "this model's tool calls can't be forced; use auto or none")
        for index, tool in enumerate(tooling.tools):
            if tool["function"].get("strict"):
                field = f"tools[{index}].function.strict"
                raise Unsupported(field, f"{field}: this model's tool calls can't be kept to a schema")
        if work.format is None:
            return None
    may_think = bool(resident.tokenizer.has_thinking) and args.get("enable_thinking") is not False
    plan = GuidePlan(
        response_format=_described(work.format),
        tools=tooling.tools,
        tool_choice="required" if tooling.choice == "named" else tooling.choice,
        tool_name=tooling.name or None,
        parallel=tooling.parallel,
        thinking=thinking,
        may_think=may_think,
    )
    return resident.guides.make(plan)


def _described(format_: Format | None) -> dict[str, Any] | None:
    """The form of an answer in OpenAI's words."""
    if format_ is None or format_.kind == "json_object":
        return None if format_ is None else {"type": "json_object"}
    schema = {"schema": format_.schema, "strict": format_.strict}
    return {"type": "json_schema", "json_schema": schema}


def _check_bias(resident: Resident, work: Generate) -> None:
    for token, _ in work.sampling.logit_bias:
        if token >= resident.vocab:
            raise RequestError(
                f"logit_bias: this model has no token {token}; the largest is {resident.vocab - 1}",
                code="invalid_value",
                param="logit_bias",
            )


def too_long(size: str, context: int, field: str = "messages") -> Failure:
    """The refusal of a prompt that leaves no room for an answer."""
    return _failure(
        Outcome.CONTEXT_TOO_LONG,
        f"this model's context is {context} tokens and the prompt alone has {size}; shorten the {field}",
        "context_length_exceeded",
        field,
    )


def _field(work: Work) -> str:
    if isinstance(work, Embed):
        return "input"
    prompt = work.prompts[0] if isinstance(work, Generate) else work.prompt
    return "messages" if isinstance(prompt, Chat) else "prompt"


def _thinks(tokenizer: Any, text: str) -> bool:
    return bool(tokenizer.has_thinking) and opens_thinking(text, tokenizer.think_start, tokenizer.think_end)


def _failure(outcome: Outcome, message: str, code: str | None = None, param: str | None = None) -> Failure:
    return Failure(outcome=outcome, message=message, status=400, code=code, param=param)
