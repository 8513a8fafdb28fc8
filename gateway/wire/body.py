"""PURE: a JSON request body: proven once, its `model` found by its bytes, and otherwise left alone.

What is forwarded must be what came, so nothing is ever serialised again: a renamed body is the same
bytes with the value of the top-level `model` replaced. That this is the value which whoever reads the
body will take must be proven, not guessed: the word may stand in a nested object, in a string, be
spelled with escapes, or stand twice, where readers differ on which one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec

from gateway.errors import RequestError
from gateway.wire import syntax

_KEY = b'"model"'
_OTHER_KEY = b'"modeX"'  # as long as the key itself
_GUESSES = 4
# The value of a key that was found, and a token of JSON outside of it. Only run over proven JSON.
_VALUE = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*("(?:[^"\\]++|\\.)*+")', re.DOTALL)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)


class _Head(msgspec.Struct, gc=False):
    model: object = msgspec.UNSET
    stream: object = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_any = msgspec.json.Decoder().decode


class JsonBody(msgspec.Struct, frozen=True, gc=False):
    """A body that is one JSON object. `span` is where the value of `model` stands, quotes included."""

    data: bytes
    model: str | None
    span: tuple[int, int] | None
    stream: bool

    def renamed(self, model: str) -> bytes:
        """The same bytes with another model; without a model there is nothing to rename."""
        if self.span is None:
            return self.data
        start, end = self.span
        return b"".join((self.data[:start], msgspec.json.encode(model), self.data[end:]))

    def __repr__(self) -> str:  # a body is nobody's business, a log's least of all
        return f"JsonBody(model={self.model!r}, stream={self.stream}, size={len(self.data)})"


def read_json(data: bytes) -> JsonBody:
    """Read a body. Raises RequestError for anything that is not one sound JSON object."""
    try:
        head = _decode_head(data)
    except msgspec.ValidationError:
        _refuse_odd(data)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _not_json(data, error) from None
    _check_rest(data)
    model, stream = head.model, head.stream
    if stream is not None and not isinstance(stream, bool):
        raise _wrong_type("stream", "true or false", stream)
    if model is msgspec.UNSET:
        return JsonBody(data, None, None, stream is True)
    if model is None:
        _walk(data)  # null after a name is a name to those who read the first
        return JsonBody(data, None, None, stream is True)
    if not isinstance(model, str):
        raise _wrong_type("model", "a string", model)
    return JsonBody(data, model, _span_of_model(data), stream is True)


def _check_rest(data: bytes) -> None:
    """What the decoder did not prove of the parts that it skipped."""
    if not (data.isascii() or syntax.is_utf8(data)):
        raise RequestError("the body must be UTF-8; it holds bytes that are not", code="invalid_json")
    if syntax.is_deeper(data, syntax.MAX_DEPTH):
        raise _too_deep()
    if syntax.may_have_long_int(data):
        try:
            syntax.parse(data)
        except ValueError:
            raise RequestError(
                "the body holds a number with thousands of digits; send a shorter one", code="invalid_json"
            ) from None


def _span_of_model(data: bytes) -> tuple[int, int]:
    """Where the value of the one top-level `model` stands; the caller knows that there is one."""
    at = syntax.find(data, _KEY)
    if at >= 0 and syntax.find(data, b"\\u006") < 0:  # all five letters are 0x6.: none is escaped
        if syntax.find(data, _KEY, at + len(_KEY)) < 0:
            return _value_after(data, at + len(_KEY))
        for guess in _guesses(data, at):
            # Is it the key, and the only one? Then there is no model left once it has another name.
            other = b"".join((data[:guess], _OTHER_KEY, data[guess + len(_KEY) :]))
            if _decode_head(other).model is msgspec.UNSET:
                return _value_after(data, guess + len(_KEY))
    return _value_after(data, _walk(data))


def _guesses(data: bytes, first: int) -> Iterator[int]:
    """A few places of the key, likeliest first: at the very front, at the very end, or near it."""
    yield first
    at = len(data)
    for _ in range(_GUESSES):
        at = data.rfind(_KEY, first + len(_KEY), at)
        if at < 0:
            return
        yield at


def _walk(data: bytes) -> int:
    """The end of the one key `model`, by reading token after token: slow, exact, for rare bodies only."""
    found: list[int] = []
    depth = 0
    at_key = False
    for token in _TOKEN.finditer(data):
        mark = token[0]
        if mark in b"[{":
            depth += 1
            at_key = depth == 1
        elif mark in b"]}":
            depth -= 1
        elif mark == b",":
            at_key = depth == 1
        elif at_key:
            at_key = False
            if _decode_any(mark) == "model":
                found.append(token.end())
    if len(found) != 1:
        raise RequestError(
            "the body has the key 'model' more than once; send it once", code="duplicate_key", param="model"
        )
    return found[0]


def _value_after(data: bytes, end_of_key: int) -> tuple[int, int]:
    value = _VALUE.match(data, end_of_key)
    assert value is not None  # the decoder has read a string there
    return value.span(1)


def _refuse_odd(data: bytes) -> NoReturn:
    """Say why a body that does not fit the head is refused."""
    try:
        value = syntax.parse(data)
    except ValueError as error:
        raise _not_json(data, error) from None
    if isinstance(value, dict):
        raise RequestError("'model' and 'stream' hold a number that is out of range", code="invalid_type")
    raise RequestError(f"the body must be a JSON object, not {_kind(value)}", code="invalid_type")


def _wrong_type(param: str, wanted: str, value: object) -> RequestError:
    return RequestError(f"'{param}' must be {wanted}, not {_kind(value)}", code="invalid_type", param=param)


def _not_json(data: bytes, error: Exception) -> RequestError:
    if not data.strip(b" \t\r\n"):
        return RequestError("the body is empty; a JSON object was expected", code="invalid_json")
    if isinstance(error, UnicodeDecodeError):
        return RequestError("the body must be UTF-8; it holds bytes that are not", code="invalid_json")
    reason = str(error).removeprefix("JSON is malformed: ")
    return RequestError(f"the body is not valid JSON: {reason[:200].lower()}", code="invalid_json")


def _too_deep() -> RequestError:
    return RequestError(
        f"the body is nested too deeply; at most {syntax.MAX_DEPTH} levels are read", code="json_too_deep"
    )


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
