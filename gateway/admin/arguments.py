"""From the JSON or TOML that somebody wrote to typed arguments, with sentences for what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import TypeVar, get_args, get_type_hints

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`\Z")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`\Z")
_TYPE = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<came>[^`]*)`\Z")
_RANGE = re.compile(r"Expected `(?P<wanted>[^`]*)` (?P<sign>[<>]=) (?P<limit>[-0-9.]+)\Z")
_ENUM = re.compile(r"Invalid enum value (?P<came>.*)\Z", re.DOTALL)
_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "null",
}


class WrongArguments(ValueError):  # noqa: N818 - never leaves admin: its callers raise our own errors
    """What is wrong with the arguments, as a sentence."""


def read_arguments(raw: object, kind: type[T], *, at: str = "") -> T:
    """Convert strictly: no unknown field, no wrong type. Raises WrongArguments.

    `at` is where in a larger text `raw` stands; sentences name it.
    """
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        raise WrongArguments(_sentence(str(error), kind, at)) from error


def _sentence(text: str, kind: type[msgspec.Struct], at: str) -> str:
    found = _AT.search(text)
    path = found["path"].lstrip(".") if found else ""
    bare = text[: found.start()] if found else text
    if match := _UNKNOWN.match(bare):
        return _unknown(match["name"], path, kind, at)
    if match := _MISSING.match(bare):
        return f"{_join(at, path, match['name'])} is missing"
    where = _join(at, path) or "the arguments"
    if match := _TYPE.match(bare):
        wanted = " or ".join(_kind(part) for part in match["wanted"].split(" | ") if part != "null")
        return f"{where} must be {wanted}, not {_kind(match['came'])}"
    if match := _RANGE.match(bare):
        most = "at most" if match["sign"] == "<=" else "at least"
        return f"{where} must be {_kind(match['wanted'])} of {most} {match['limit']}"
    if match := _ENUM.match(bare):
        return f"{where} can't be {match['came']}"
    return f"{where}: {bare[:1].lower()}{bare[1:]}"


def _unknown(name: str, path: str, kind: type[msgspec.Struct], at: str) -> str:
    known = _fields_at(path, kind)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = ""
    if near:
        hint = f"; did you mean {near[0]!r}?"
    elif known:
        hint = f"; known: {', '.join(known)}"
    return f"{_join(at, path, name[:80])!r} is unknown{hint}"


def _fields_at(path: str, kind: type[msgspec.Struct]) -> list[str]:
    """What the table at `path` may hold, as far as the types say."""
    for step in re.findall(r"[A-Za-z_]+", path):
        hint = get_type_hints(kind).get(step)
        inner = [arg for arg in _parts(hint) if isinstance(arg, type) and issubclass(arg, msgspec.Struct)]
        if hint is None:
            continue  # the name of an entry
        if not inner:
            return []
        kind = inner[-1]
    return list(kind.__struct_encode_fields__)


def _parts(hint: object) -> Iterator[object]:
    """A type and all that it is made of."""
    yield hint
    for arg in get_args(hint):
        yield from _parts(arg)


def _join(*steps: str) -> str:
    return ".".join(step for step in steps if step)


def _kind(name: str) -> str:
    return _KINDS.get(name, name)
