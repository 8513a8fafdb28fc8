"""Makes the guides of one model's answers: from a plan to compiled grammars.

On the thread that prepares prompts: a vocabulary of 150,000 tokens takes about a second, once, and
a grammar milliseconds. The engine thread only follows what was made here.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import msgspec

from gateway.errors import RequestError
from gateway.local import grammar
from gateway.local.engine.barrier import Barrier
from gateway.local.engine.binding import Guide, Rules
from gateway.local.engine.board import Board
from gateway.local.engine.rules import BrokenRule, Compiler
from gateway.local.engine.vocabulary import Vocabulary
from gateway.local.fields import Unsupported
from gateway.local.grammar import Calls, GuidePlan, Wanted
from gateway.local.lark import Mark, document
from gateway.local.tool import Tool

__all__ = ["Guide", "GuideMaker"]

log = logging.getLogger(__name__)

# In llguidance's sentences about schemas that may be right, but that it can't keep.
_UNKEPT = ("Unimplemented", "upported", "Unknown format", "too ", "limit", "regex", "Resource")


class GuideMaker:
    """The guides of one resident model. `vocabulary` may be used for other ends, too."""

    def __init__(self, tokenizer: Any, vocab: int) -> None:
        self.vocabulary = Vocabulary(tokenizer)
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._board = Board()
        parser = tokenizer.init_kwargs.get("tool_parser_type") if tokenizer.has_tool_calling else None
        self._family = grammar.family_of(parser, str(tokenizer.chat_template))
        self._ends = sorted(token for token in tokenizer.eos_token_ids if token < vocab)

    @property
    def knows_calls(self) -> bool:
        """Can calls in this model's format be forced and checked?"""
        return grammar.knows(self._family)

    def watch(self, generator: Any) -> None:
        """The guides' rows are in this batch generator (None: in none); they step faster if they know."""
        self._board.generator = generator

    def make(self, plan: GuidePlan) -> Guide | None:
        """A guide for one row, or None when nothing binds it; raises RequestError or Unsupported."""
        wanted = grammar.read(plan)
        how = self._calls() if wanted.tools else None
        if wanted.shape is None and not wanted.tools:
            return None
        try:
            self._able(wanted, how)
            return Guide(self._rules(plan, self._checked(wanted), how), self._board)
        except BrokenRule as error:
            refusal = _unkept(wanted, _line(str(error)))
        except Unsupported as error:
            refusal = error
        if wanted.bound or any(tool.strict for tool in wanted.tools):
            raise refusal
        log.info("calls are not guided: %s", refusal)
        return None

    def _able(self, wanted: Wanted, how: Calls | None) -> None:
        if wanted.tools and how is None:
            raise _unkept(wanted, "no grammar is known for its tool calls")
        if self._tokenizer.response_transitions:
            raise _unkept(wanted, "it writes its answers in sections of its own")
        if not self._ends:
            raise _unkept(wanted, "it has no token that ends an answer")

    def _rules(self, plan: GuidePlan, wanted: Wanted, how: Calls | None) -> Rules:
        (compiler, barrier), tokenizer = self._tools, self._tokenizer
        opens = plan.may_think and not plan.thinking and tokenizer.has_thinking
        answer = later = rest = None
        if wanted.bound:
            answer = compiler.compile(grammar.answer(wanted, how, lead=False))
            if opens or plan.thinking:
                later = compiler.compile(grammar.answer(wanted, how, lead=True))
        if how is not None:
            rest = compiler.compile(grammar.rest(wanted, how))
        return Rules(
            compiler=compiler,
            vocabulary=self.vocabulary,
            barrier=barrier,
            ends=frozenset(self._ends),
            answer=answer,
            later=later,
            rest=rest,
            again=not wanted.bound and wanted.parallel and how is not None and bool(how.end.text),
            thinking=plan.thinking,
            think_start=tuple(tokenizer.think_start_tokens) if opens and wanted.bound else (),
            think_end=(tokenizer.think_end or "").encode(),
            call_start=how.start.text.encode() if how is not None else b"",
        )

    def _checked(self, wanted: Wanted) -> Wanted:
        """Refuse schemas that can't be kept; a tool that is not strict may then have any arguments."""
        if wanted.shape is not None:
            self._check("response_format", wanted.shape.schema, strict=wanted.shape.strict)
        return msgspec.structs.replace(wanted, tools=tuple(self._checked_tool(tool) for tool in wanted.tools))

    def _checked_tool(self, tool: Tool) -> Tool:
        try:
            self._check(tool.field, tool.parameters, strict=tool.strict)
        except Unsupported:
            if tool.strict:
                raise
            return msgspec.structs.replace(tool, parameters={"type": "object"})
        return tool

    def _check(self, field: str, schema: dict[str, Any], *, strict: bool) -> None:
        try:
            fault = self._tools[0].fault(document(schema, strict=strict))
        except RecursionError:
            fault = "it is nested too deep"
        if fault is None:
            return
        sentence = f"{field}: this schema can't be kept: {_line(fault)}"
        if any(word in fault for word in _UNKEPT):
            raise Unsupported(field, sentence)
        raise RequestError(sentence, code="invalid_json_schema", param=field)

    @cached_property
    def _tools(self) -> tuple[Compiler, Barrier]:
        tokenizer = self._tokenizer
        texts = [tokenizer.think_start, tokenizer.think_end, *tokenizer.structural_markers]
        marks = [self._mark(text) for text in texts if text]
        if (how := self._calls()) is not None:
            marks += [how.start, how.end, *how.inner.values()]
        tokens = {part for mark in marks for part in mark.parts if isinstance(part, int)}
        compiler = Compiler(tokenizer, self.vocabulary, ends=self._ends, marks=tokens)
        return compiler, Barrier(self.vocabulary, tokens)

    def _calls(self) -> Calls | None:
        if self._family is None or not self.knows_calls:
            return None
        tokenizer = self._tokenizer
        return grammar.calls(self._family, tokenizer.tool_call_start, tokenizer.tool_call_end, self._mark)

    def _mark(self, text: str) -> Mark:
        """What a marker is in this vocabulary: added tokens are marks of their own, others are text."""
        added, found = self.vocabulary.added, self._tokenizer.encode(text, add_special_tokens=False)
        parts: list[int | str] = []
        for token in found:
            piece = self.vocabulary.bytes_of(token).decode(errors="replace")
            if token in added:
                parts.append(token)
            elif parts and isinstance(parts[-1], str):
                parts[-1] += piece
            else:
                parts.append(piece)
        spelt = "".join(added[part] if isinstance(part, int) else part for part in parts)
        return Mark(text, tuple(parts) if spelt == text else ())


def _unkept(wanted: Wanted, reason: str) -> Unsupported:
    field = "tool_choice" if wanted.forced else "tools" if wanted.shape is None else "response_format"
    return Unsupported(field, f"{field} can't be kept by this model: {reason}")


def _line(sentence: str) -> str:
    """llguidance's own words on one line, short."""
    line = " ".join(sentence.split())
    return line if len(line) <= 200 else line[:197] + "..."
