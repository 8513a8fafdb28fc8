"""The prompt thread: renders chat templates and tokenises, so that neither the loop nor MLX waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from jinja2.exceptions import TemplateError

from gateway.errors import RequestError
from gateway.failover.outcome import Failure, Outcome
from gateway.local.engine.embed import Pooling
from gateway.local.engine.guide import Guide
from gateway.local.engine.models import Resident
from gateway.local.fields import Unsupported
from gateway.local.grammar import GuidePlan
from gateway.local.mailbox import ModelFolder
from gateway.local.prefixes import common_length, pack
from gateway.local.prompt import (
    MOST_CHARS_PER_TOKEN,
    far_too_long,
    field_of,
    longest,
    no_chat,
    no_vectors,
    opens_thinking,
    refusal,
    shared_parts,
    template_args,
    too_long,
)
from gateway.local.request import Chat, Count, Embed, Format, Generate, Prompt, Text, Tokens, Tooling, Work

log = logging.getLogger(__name__)


class Speller(Protocol):
    """What of a model it takes to count tokens: one in memory has it, and so has `tokenizers.Spelling`."""

    folder: ModelFolder
    tokenizer: Any
    template: str
    vocab: int  # 0: not known, as is
    width: int
    pooling: Pooling | None


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
    prepare: Callable[[], Prepared]
    wanted: Callable[[], bool]


class PromptThread:
    """One thread that turns requests into tokens, in order."""

    def __init__(self, done: Callable[[Prepared], None]) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done = done
        self._thread = threading.Thread(target=self._run, name="local-prompt", daemon=True)
        self._thread.start()

    def submit(self, number: int, resident: Resident, work: Work, wanted: Callable[[], bool]) -> None:
        self._jobs.put(_Job(number, partial(prepare, number, resident, work), wanted))

    def count(
        self, number: int, spelling: Callable[[], Speller], work: Count, wanted: Callable[[], bool]
    ) -> None:
        """`spelling` may read files."""
        self._jobs.put(_Job(number, partial(_count, number, spelling, work), wanted))

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.wanted():
                self._done(job.prepare())
            del job  # it holds the model


def prepare(number: int, resident: Resident, work: Work) -> Prepared:
    """Render and encode; whatever goes wrong becomes a failure."""
    if isinstance(work, Generate):
        return _prepared(number, resident, work, lambda: _prompts(resident, work))
    return _prepared(number, resident, work, lambda: _counted(resident, work))


def _count(number: int, spelling: Callable[[], Speller], work: Count) -> Prepared:
    try:
        speller = spelling()
    except Exception as error:
        log.info("tokens can't be counted without the model: %s", error)
        failure = Failure(outcome=Outcome.LOCAL_FAULT, message="tokens can't be counted", status=503)
        return Prepared(number, [], failure)
    return _prepared(number, speller, work, lambda: _counted(speller, work))


def _prepared(number: int, speller: Speller, work: Work, make: Callable[[], list[Ready]]) -> Prepared:
    try:
        return Prepared(number, make())
    except _TooLong as error:
        failure = too_long(error.size, speller.folder.context, field_of(work))
    except RequestError as error:
        outcome = Outcome.UNSUPPORTED if isinstance(error, Unsupported) else Outcome.CLIENT_FAULT
        failure = _failure(outcome, str(error), error.code, error.param)
    except TemplateError as error:
        failure = _failure(Outcome.CLIENT_FAULT, refusal(str(error)), "template_error", "messages")
    except Exception:
        log.exception("the prompt of a request to %s can't be made", speller.folder.name)
        sentence = "the model's chat template can't render these messages"
        failure = _failure(Outcome.CLIENT_FAULT, sentence, "template_error", "messages")
    return Prepared(number, [], failure)


class _TooLong(Exception):  # noqa: N818 - it is a refusal on its way
    def __init__(self, size: str) -> None:
        self.size = size


def _prompts(resident: Resident, work: Generate) -> list[Ready]:
    _check_bias(resident, work)
    _check_resume(resident, work)
    return [_ready(resident, work, prompt) for prompt in work.prompts]


def _counted(speller: Speller, work: Embed | Count) -> list[Ready]:
    """The prompts as tokens and nothing else; refused as they would be for an answer, unless they are to be
    counted however many they are.
    """
    asked = work.work if isinstance(work, Count) else work
    if isinstance(asked, Embed):
        if speller.pooling is None:
            raise no_vectors(speller.folder.name)
        if asked.dimensions is not None and 0 < speller.width < asked.dimensions:
            raise RequestError(
                f"dimensions must be at most {speller.width} for this model, not {asked.dimensions}",
                param="dimensions",
            )
        return [Ready(_encoded(speller, asked, item)) for item in asked.inputs]
    _check_bias(speller, asked)
    bounded = not isinstance(work, Count) or work.bounded
    return [Ready(_spelled(speller, asked, prompt, bounded=bounded).tokens) for prompt in asked.prompts]


def _ready(resident: Resident, work: Generate, prompt: Prompt) -> Ready:
    tokens, text, args = _spelled(resident, work, prompt)
    if not isinstance(prompt, Chat):
        if work.echo and isinstance(prompt, Tokens):
            text = str(resident.tokenizer.decode(tokens))
        return Ready(tokens, text=text)
    thinking = _thinks(resident.tokenizer, text)
    borders = () if resident.trimmable else _borders(resident, prompt, args, tokens)
    guide = _guide(resident, work, thinking=thinking, args=args)
    return Ready(tokens, thinking, borders, guide)


class _Spelled(NamedTuple):
    tokens: list[int]
    text: str  # empty where there is none
    args: dict[str, Any]  # of the template


def _spelled(speller: Speller, work: Generate, prompt: Prompt, *, bounded: bool = True) -> _Spelled:
    if not isinstance(prompt, Chat):
        return _Spelled(_encoded(speller, work, prompt), getattr(prompt, "text", ""), {})
    args = _args(speller, prompt, work.tooling)
    text = _rendered(speller, prompt, args)
    tokens = _encode(speller, text, special=False)
    return _Spelled(_fitting(speller, work, tokens) if bounded else tokens, text, args)


def _args(speller: Speller, prompt: Chat, tooling: Tooling) -> dict[str, Any]:
    tokenizer = speller.tokenizer
    if not tokenizer.has_chat_template:
        raise no_chat()
    if tooling.offered and not tokenizer.has_tool_calling:
        raise Unsupported("tools", "this model knows no tool calls")
    return template_args(prompt, tooling.offered, speller.template, has_thinking=tokenizer.has_thinking)


def _rendered(speller: Speller, prompt: Chat, args: dict[str, Any]) -> str:
    context = speller.folder.context
    if context and far_too_long(prompt, context):
        raise _TooLong(f"more than {context}")
    text = str(speller.tokenizer.apply_chat_template(prompt.messages, tokenize=False, **args))
    if context and len(text) > context * MOST_CHARS_PER_TOKEN:
        raise _TooLong(f"more than {context}")
    return text


def _encoded(speller: Speller, work: Generate | Embed, prompt: Text | Tokens) -> list[int]:
    """A text or token ids, as the model's own tokens, and no more than fit."""
    if isinstance(prompt, Tokens):
        for token in prompt.tokens:
            if 0 < speller.vocab <= token:
                raise RequestError(
                    f"this model has no token {token}; the largest is {speller.vocab - 1}",
                    param=field_of(work),
                )
        return _fitting(speller, work, prompt.tokens)
    context = speller.folder.context
    if context and len(prompt.text) > context * MOST_CHARS_PER_TOKEN:
        raise _TooLong(f"more than {context}")
    return _fitting(speller, work, _encode(speller, prompt.text, special=True))


def _encode(speller: Speller, text: str, *, special: bool) -> list[int]:
    return [int(token) for token in speller.tokenizer.encode(text, add_special_tokens=special)]


def _fitting(speller: Speller, work: Generate | Embed, tokens: list[int]) -> list[int]:
    if not tokens:
        raise RequestError("the prompt is empty", code="invalid_value", param=field_of(work))
    context = speller.folder.context
    if context and len(tokens) > longest(work, context):
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


def _check_bias(speller: Speller, work: Generate) -> None:
    for token, _ in work.sampling.logit_bias:
        if 0 < speller.vocab <= token:
            raise RequestError(
                f"logit_bias: this model has no token {token}; the largest is {speller.vocab - 1}",
                code="invalid_value",
                param="logit_bias",
            )


def _check_resume(resident: Resident, work: Generate) -> None:
    """Can an answer begin with these tokens?"""
    if not work.resume:
        return
    if work.rows != 1:
        raise Unsupported("n", "only a single answer can be gone on with")
    if work.top_logprobs is not None:
        raise Unsupported("logprobs", "an answer with log probabilities can't be gone on with")
    if not all(0 <= token < resident.vocab for token in work.resume):
        raise Unsupported("model", "the answer was begun by another model")


def _thinks(tokenizer: Any, text: str) -> bool:
    return bool(tokenizer.has_thinking) and opens_thinking(text, tokenizer.think_start, tokenizer.think_end)


def _failure(outcome: Outcome, message: str, code: str | None = None, param: str | None = None) -> Failure:
    return Failure(outcome=outcome, message=message, status=400, code=code, param=param)
