"""PURE: call formats that write each argument as an element of its own, mostly like XML.

Text is written as it is up to the mark that closes it, everything else as JSON. Which of the two a
parser takes a value for depends on the parameter's type and differs by parser; each grammar here
follows the parser of its name.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Sequence

from gateway.local.fields import Unsupported
from gateway.local.lark import Mark, Sheet, escaped, literal
from gateway.local.tool import Parameter, Tool, kinds, named, parameters

MarkOf = Callable[[str], Mark]
Element = Callable[[Tool, Parameter], str]
_NAME = r"[\w.-]+"
_KINDS = ("null", "boolean", "integer", "number", "array", "object")
# No exponent and no end of digits: parsers make floats of them, and infinity is no JSON.
NUMBERS = {"integer": "/-?(0|[1-9][0-9]{0,14})/", "number": r"/-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?/"}


def glm47(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    element = _pair(sheet, mark, "arg")
    return f"{_call(tools, sheet, lambda tool: _begin(sheet, '', tool, ''), element)} {_line(sheet)}?"


def longcat(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    """Like glm47, but its parser knows a call without arguments only as JSON."""
    choices = [
        literal('{"name": "' + named(tool, _NAME) + '", "arguments": {}}')
        for tool in tools
        if not any(one.required for one in parameters(tool))
    ]
    if some := [tool for tool in tools if parameters(tool)]:
        element = _pair(sheet, mark, "longcat_arg")
        choices.append(_call(some, sheet, lambda tool: _begin(sheet, "", tool, ""), element, empty=False))
    return f"({' | '.join(choices)}) {_line(sheet)}?"


def _pair(sheet: Sheet, mark: MarkOf, prefix: str) -> Element:
    key, key_end = mark(f"<{prefix}_key>"), mark(f"</{prefix}_key>")
    value, close = mark(f"<{prefix}_value>"), mark(f"</{prefix}_value>")
    line = _line(sheet)

    def element(tool: Tool, one: Parameter) -> str:
        is_text = one.schema.get("type") == "string"
        written = _text(sheet, tool, one, close) if is_text else f"{_json(sheet, tool, one)} {close}"
        return f"{key} {literal(one.name)} {key_end} {line}? {value} {written} {line}?"

    return element


def qwen3_coder(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    line, close = _line(sheet), mark("</parameter>")

    def element(tool: Tool, one: Parameter) -> str:
        # What has no type is text to this parser, unless it is a JSON object or array.
        untyped = "type" not in one.schema and (one.bare or one.words is not None)
        if untyped or one.schema.get("type") == "string":
            value = _text(sheet, tool, one, close, around=r"\n?", but=r"\n?(?i:null)\n?")
        else:
            value = f"{line}? {_json(sheet, tool, one)} {line}? {close}"
        return f"{literal(f'<parameter={one.name}>')} {value} {line}?"

    call = _call(tools, sheet, lambda tool: _begin(sheet, "<function=", tool, ">"), element)
    return f'{line}? {call} "</function>" {line}?'


def minimax_m2(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    line = _line(sheet)
    element = _tagged(sheet, "parameter", mark("</parameter>"), outside="</invoke>")
    call = _call(tools, sheet, lambda tool: _begin(sheet, '<invoke name="', tool, '">'), element)
    whole = sheet.rule(f'{call} "</invoke>" {line}?')
    return f"{line}? {whole}{'+' if parallel else ''}"


def minicpm5(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    """Its first mark is the beginning of the element, up to the name."""
    element = _tagged(sheet, "param", mark("</param>"), outside="</function>")
    return _call(tools, sheet, lambda tool: _begin(sheet, '"', tool, '">'), element)


def _tagged(sheet: Sheet, tag: str, close: Mark, *, outside: str) -> Element:
    """Elements with the parameter's name as an attribute."""

    def element(tool: Tool, one: Parameter) -> str:
        if "string" in kinds(one.schema) and "$ref" not in one.schema:
            value = _text(sheet, tool, one, close, but=r"\s*(?i:null)\s*", without=outside)
        else:
            value = f"{_json(sheet, tool, one)} {close}"
        begin = f'<{tag} name="{one.name}">'
        return f"{literal(begin)} {value} {_line(sheet)}?"

    return element


def kimi_k3(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    """Each argument says itself whether it is text."""
    begin, end, close = mark("<|open|>"), mark("<|sep|>"), mark("<|close|>")
    number = sheet.lexeme(r'/" index="[0-9]{1,3}"/')

    def element(tool: Tool, one: Parameter) -> str:
        if one.schema.get("type") == "string" or one.words is not None:
            kind, value = literal('string"'), _text(sheet, tool, one, close)
        else:
            known = one.schema.get("type")
            names = [known] if known in _KINDS else _KINDS
            kind = f"({' | '.join(literal(name + chr(34)) for name in names)})"
            value = f"{_json(sheet, tool, one)} {close}"
        head = literal(f'argument key="{one.name}" type="')
        return f'{begin} {head} {kind} {end} {value} "argument" {end}'

    def name(tool: Tool) -> str:
        head = literal('call tool="' + named(tool, _NAME))
        return f"{begin} {head} {number} {end}"

    whole = sheet.rule(f'{_call(tools, sheet, name, element)} {close} "call" {end}')
    return f"{whole}{'+' if parallel else ''}"


def pythonic(sheet: Sheet, tools: Sequence[Tool], mark: MarkOf, parallel: bool) -> str:
    """Keyword arguments of a Python call. Its values are JSON that is Python as well."""

    def element(tool: Tool, one: Parameter) -> str:
        if keyword.iskeyword(one.name) or not one.name.isidentifier():
            raise Unsupported(tool.field, f"this model's format can't name a parameter {one.name[:64]!r}")
        return f"{literal(one.name + '=')} {_json(sheet, tool, one, escapes=False)}"

    def name(tool: Tool) -> str:
        return literal(named(tool, r"[^\W\d]\w*(\.[^\W\d]\w*)*") + "(")

    comma = sheet.lexeme('"," " "?')
    call = sheet.rule(f'{_call(tools, sheet, name, element, between=comma)} ")"')
    more = f"({comma} {call})*" if parallel else ""
    return f'"[" {call} {more} "]"'


def _call(
    tools: Sequence[Tool],
    sheet: Sheet,
    name: Callable[[Tool], str],
    element: Element,
    *,
    between: str = "",
    empty: bool = True,
) -> str:
    """A rule for the name of any of the tools and its arguments in their order."""
    choices = []
    for tool in tools:
        items = [(sheet.rule(element(tool, one)), one.required) for one in parameters(tool)]
        choices.append(f"{name(tool)} {some(items, between, empty=empty)}")
    return sheet.rule(" | ".join(choices))


def some(items: Sequence[tuple[str, bool]], between: str, *, empty: bool = True) -> str:
    """All that is required and any of the rest, in order; nothing at all only if `empty`."""
    choices = []
    for first, (item, required) in enumerate(items):
        more = (f"{between} {x}" if needed else f"({between} {x})?" for x, needed in items[first + 1 :])
        choices.append(" ".join((item, *more)))
        if required:
            return f"({' | '.join(choices)})"
    return f"({' | '.join(choices)}){'?' if empty else ''}" if choices else ""


def _begin(sheet: Sheet, before: str, tool: Tool, after: str) -> str:
    return f"{literal(before + named(tool, _NAME) + after)} {_line(sheet)}?"


def _line(sheet: Sheet) -> str:
    return sheet.lexeme(r"/\n/")


def _json(sheet: Sheet, tool: Tool, one: Parameter, *, escapes: bool = True) -> str:
    if one.bare and one.schema.get("type") in NUMBERS:
        return sheet.lexeme(NUMBERS[one.schema["type"]])
    return sheet.json(one.schema, strict=tool.strict, escapes=escapes)


def _text(
    sheet: Sheet,
    tool: Tool,
    one: Parameter,
    close: Mark,
    *,
    around: str = "",
    but: str = "",
    without: str = "",
) -> str:
    """Text as it is, and the mark that closes it, which it can't hold.

    `around` may stand around it, `but` is what it is not as a whole, `without` what is not in it.
    """
    if one.words is not None:
        gap = f"{_line(sheet)}?" if around else ""
        return f"{gap} ({' | '.join(map(literal, one.words))}) {gap} {close}"
    kept = {"pattern", "format", "minLength"} & one.schema.keys()
    if tool.strict and kept:
        reason = f"this model's format can't keep the {min(kept)} of a string"
        raise Unsupported(tool.field, f"{tool.field}: {reason}")
    end = "" if close.token is not None else escaped(close.text)
    lexeme = f"/{around}(?s:.{{0,{one.schema.get('maxLength', '')}}}){around}{end}/"
    if but:  # nothing may follow either: the text would go on beyond its close
        lexeme += f" & ~/{but}{end and end + '(?s:.*)'}/"
    if without:
        lexeme += f" & ~/(?s:.*){escaped(without)}(?s:.*)/"
    return f"{sheet.lexeme(lexeme)} {close}" if close.token is not None else sheet.lazy(lexeme)
