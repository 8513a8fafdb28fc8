"""PURE: how the families of models write a call: what stands between its first and its last mark.

The names of the families are those of mlx-lm's tool parsers, and what a grammar here allows is
what the parser of that name reads back as the same call. The tool's name comes before its
arguments in all of them, so that a call can be told while it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from gateway.local import elements
from gateway.local.gemma import QUOTE, gemma4
from gateway.local.lark import GAP, Mark, Sheet, literal
from gateway.local.tool import Tool, named


class Format(NamedTuple):
    """One family: its grammar, the marks inside it, and whether each further call has a block of its own."""

    body: Callable[[Sheet, Sequence[Tool], Callable[[str], Mark], bool], str]
    marks: tuple[str, ...] = ()
    repeats: bool = True


def _json_tools(sheet: Sheet, tools: Sequence[Tool], mark: Callable[[str], Mark], parallel: bool) -> str:
    line = sheet.lexeme(r"/\n/")
    return f"{line}? {_named(sheet, tools)} {line}?"


def _named(sheet: Sheet, tools: Sequence[Tool], *, tail: str = "") -> str:
    """A rule for {"name": ..., "arguments": ...}."""
    gap = sheet.lexeme(f"/{GAP}/")
    head = sheet.lexeme(f'"{{" {gap}? "\\"name\\"" {gap}? ":" {gap}?')
    end = sheet.lexeme(f'{gap}? "}}"')
    choices = []
    for tool in tools:
        name = sheet.lexeme(
            f'{literal(literal(tool.name))} {gap}? "," {gap}? "\\"arguments\\"" {gap}? ":" {gap}?'
        )
        choices.append(f"{name} {_arguments(sheet, tool)}")
    return sheet.rule(f"{head} ({' | '.join(choices)}) {tail} {end}")


def _arguments(sheet: Sheet, tool: Tool) -> str:
    return sheet.json(tool.parameters, strict=tool.strict)


def _mistral(sheet: Sheet, tools: Sequence[Tool], mark: Callable[[str], Mark], parallel: bool) -> str:
    choices = []
    for tool in tools:
        name = literal(named(tool, r"[\w-]+"))
        choices.append(f"{name} {mark('[ARGS]')} {_arguments(sheet, tool)}")
    return f"({' | '.join(choices)})"


def _mistral_list(sheet: Sheet, tools: Sequence[Tool], mark: Callable[[str], Mark], parallel: bool) -> str:
    gap = sheet.lexeme(f"/{GAP}/")
    number = sheet.lexeme(f'{gap}? "," {gap}? "\\"id\\"" {gap}? ":" {gap}? /"[a-zA-Z0-9]{{9}}"/')
    call = _named(sheet, tools, tail=f"{number}?")
    begin, comma, end = (sheet.lexeme(f'{gap}? "{c}" {gap}?') for c in "[,]")
    more = f"({comma} {call})*" if parallel else ""
    return f"{begin} {call} {more} {end}"


def _kimi_k2(sheet: Sheet, tools: Sequence[Tool], mark: Callable[[str], Mark], parallel: bool) -> str:
    begin, middle, end = (mark(f"<|tool_call_{part}|>") for part in ("begin", "argument_begin", "end"))
    number = sheet.lexeme("/:[0-9]{1,3}/")
    names = " | ".join(
        f"{literal('functions.' + tool.name)} {number} {middle} {_arguments(sheet, tool)}" for tool in tools
    )
    call = sheet.rule(f"{begin} ({names}) {end}")
    return f"{call}+" if parallel else call


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "json_tools": Format(_json_tools),
        "mistral": Format(_mistral, ("[ARGS]",)),
        "mistral_list": Format(_mistral_list, repeats=False),
        "kimi_k2": Format(
            _kimi_k2,
            ("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
            repeats=False,
        ),
        "gemma4": Format(gemma4, (QUOTE,), repeats=False),
        "glm47": Format(elements.glm47, ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")),
        "kimi_k3": Format(elements.kimi_k3, ("<|open|>", "<|sep|>", "<|close|>"), repeats=False),
        "laguna": Format(elements.glm47, ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")),
        "longcat": Format(
            elements.longcat,
            ("<longcat_arg_key>", "</longcat_arg_key>", "<longcat_arg_value>", "</longcat_arg_value>"),
        ),
        "minicpm5": Format(elements.minicpm5, ("</param>",)),
        "minimax_m2": Format(elements.minimax_m2, ("</parameter>",), repeats=False),
        "pythonic": Format(elements.pythonic, repeats=False),
        "qwen3_coder": Format(elements.qwen3_coder, ("</parameter>",)),
    }
)
