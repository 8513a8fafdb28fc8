"""PURE: writes grammars in llguidance's dialect of Lark: literals, marks, schemas, numbered rules.

A mark is a text that the model's vocabulary may hold as a token of its own. Such a token is named
by its number: then it can't be spelt in letters, and no text between marks can hold it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

# A blank, or a line break and an indentation: whatever `json.dumps` writes between two things, but
# nothing that a confused model could go on with for ever.
GAP = r"\x20|\n\x20{0,32}|\n\t{1,8}"


class Mark(msgspec.Struct, frozen=True):
    """A marker as a vocabulary has it: numbers of tokens of its own, and the text between them."""

    text: str
    parts: tuple[int | str, ...] = ()

    @property
    def token(self) -> int | None:
        """The one token that is the whole marker, if there is one."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], int) else None

    def __str__(self) -> str:
        parts = self.parts or ((self.text,) if self.text else ())
        return " ".join(f"<[{part}]>" if isinstance(part, int) else literal(part) for part in parts)


def literal(text: str) -> str:
    return json.dumps(text)


def escaped(text: str) -> str:
    """The text for the inside of a regular expression."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def document(schema: dict[str, Any], *, strict: bool, escapes: bool = True) -> str:
    """A schema as llguidance reads it; what it can't keep is an error if strict, else passed over.

    With `escapes`, strings may have \\uXXXX for characters that need none.
    """
    options = {
        "whitespace_pattern": GAP,
        "json_allow_general_unicode_escapes": escapes,
        "lenient": not strict,
    }
    return json.dumps({**schema, "x-guidance": options})


class Sheet:
    """A grammar in the making. It names the rules; those with the same body are one rule."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._bodies: dict[str, str] = {}

    def rule(self, body: str) -> str:
        return self._name("r", body)

    def lazy(self, lexeme: str) -> str:
        """A rule that takes the shortest text that fits a lexeme."""
        return self._name("z", lexeme)

    def lexeme(self, body: str) -> str:
        """Is read as one regular expression, which is what makes a grammar fast."""
        return self._name("T", body)

    def json(self, schema: dict[str, Any], *, strict: bool, escapes: bool = True) -> str:
        """A rule for JSON text that fits a schema."""
        return self.rule(f"%json {document(schema, strict=strict, escapes=escapes)}")

    def reserve(self) -> str:
        """The name of a rule that will be defined: it may be used before, also in itself."""
        return self._name("r", f" reserved {len(self._names)}")

    def define(self, name: str, body: str) -> None:
        self._bodies[name] = body

    def text(self, start: str) -> str:
        """The whole grammar. What it leaves no choice about is still written in the model's own tokens: by
        itself llguidance would cut it into others, which the model has never seen.
        """
        lines = ['%llguidance {"no_forcing": true}', f"start: {start}"]
        for name, body in self._bodies.items():
            lines.append(f"{name}{'[lazy]' if name[0] == 'z' else ''}: {body}")
        return "\n".join(lines)

    def _name(self, kind: str, body: str) -> str:
        key = kind + body
        if key not in self._names:
            self._names[key] = f"{kind}{len(self._names)}"
            self._bodies[self._names[key]] = body
        return self._names[key]
