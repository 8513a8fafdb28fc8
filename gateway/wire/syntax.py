"""PURE: whether bytes are JSON that every client can parse, Python's `json` and JavaScript alike.

msgspec decodes into a struct and skips the rest, which is what makes looking into a body or an event
cheap. While it skips it proves the grammar, the escapes and that nothing trails; it does not prove
UTF-8, nor that an integer is short enough for Python, and it knows no limit of depth but its own
recursion. Those three are proven here, each with a test of bytes that costs next to nothing on the
usual input. The other way round it refuses a lone surrogate escape, which both kinds of client take:
`parse` has the last word where that matters.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import NoReturn

MAX_DEPTH = 128
SMALL = 2 * MAX_DEPTH  # below this size nothing can be nested too deeply, nor be a long number
_MAX_INT_DIGITS = 4300  # sys.int_info.default_max_str_digits: json.loads raises beyond it
_PROBE = _MAX_INT_DIGITS // 2  # a run that long always covers one whole block of this size
_WINDOW = 1 << 20
_LARGE = 1 << 16  # from here on it pays to look for single bytes first, which C does far quicker
_DIGIT = re.compile(rb"[0-9]")
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_ESCAPES = b"\\/bfnrtu"
_IDLE = bytes(set(range(256)) - set(b'[]{}"' + _ESCAPES))


def is_utf8(data: bytes) -> bool:
    """Is all of it UTF-8? Large bodies are read in windows: their text is never in memory as a whole."""
    if data.isascii():
        return True
    decode = codecs.getincrementaldecoder("utf-8")().decode
    try:
        for start in range(0, len(data), _WINDOW):
            decode(data[start : start + _WINDOW])
        decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def is_deeper(data: bytes, limit: int) -> bool:
    """Are arrays and objects nested deeper than `limit`? `data` must be well-formed JSON."""
    if not _has_more(data, b"[{", limit):
        return False
    # What can't matter goes first, at the speed of a table look-up; the letters that may follow a
    # backslash stay until escaped quotes are told from real ones. Then every second piece is outside
    # the strings, and each round takes the innermost pairs of brackets away.
    rest = data.translate(_TO_SQUARE, _IDLE)
    if b"\\" in rest:
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
    rest = b"".join(rest.split(b'"')[::2]).translate(None, _ESCAPES)
    for _ in range(limit):
        if not rest:
            return False
        rest = rest.replace(b"[]", b"")
    return bool(rest)


def may_have_long_int(data: bytes) -> bool:
    """Could there be an integer that Python refuses to read? True only when digits stand in a long row."""
    if len(data) < _MAX_INT_DIGITS:
        return False
    probes = data[::_PROBE]
    return any(
        data[at : at + _PROBE].isdigit()
        for at in (found.start() * _PROBE for found in _DIGIT.finditer(probes))
    )


def is_sound(data: bytes) -> bool:
    """What msgspec did not prove of well-formed UTF-8 JSON: can the usual readers take it?"""
    if is_deeper(data, MAX_DEPTH):
        return False
    if may_have_long_int(data):
        try:
            parse(data)
        except ValueError:
            return False
    return True


def find(data: bytes, needle: bytes, start: int = 0) -> int:
    """`data.find`, quick too when a megabyte holds hardly any byte like the needle's first (an image)."""
    if len(data) < _LARGE:
        return data.find(needle, start)
    first = needle[:1]
    for _ in range(len(data) >> 10):
        start = data.find(first, start)
        if start < 0 or data.startswith(needle, start):
            return start
        start += 1
    return data.find(needle, start)


def parse(data: bytes) -> object:
    """What a client would read, by the standard library. Raises ValueError where some client can't."""
    try:
        value: object = json.loads(data.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _has_more(data: bytes, marks: bytes, limit: int) -> bool:
    """Does `data` hold more than `limit` of the bytes in `marks`? Stops looking when it does."""
    if len(data) <= limit:
        return False
    if len(data) < _LARGE:
        return sum(data.count(mark) for mark in marks) > limit
    found = 0
    for mark in marks:
        at = data.find(mark)
        while at >= 0:
            found += 1
            if found > limit:
                return True
            at = data.find(mark, at + 1)
    return False
