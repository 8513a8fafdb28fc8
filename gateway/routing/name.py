"""PURE: which model names are let in at all (design 4.5).

A name goes into rules, labels, headers (x-gateway-served-by) and logs, and into the JSON of an
upstream; it is never joined to a path and never a hub id to download. The alphabet is what real
names are made of. Besides letters and digits:
`. _ -` everywhere; `/` owner/model; `:` tags (qwen3:8b) and fine-tunes; `@` versions on Vertex and
Cloudflare's @cf; `+` some merges; `[ ]` variants such as name[1m]; `~` OpenRouter's moving aliases.
Not in it are space, comma, semicolon and the equals sign, which are the punctuation of our own
headers, and `* ?`, which are a pattern's.
"""

from __future__ import annotations

import re
import string

from gateway.errors import RequestError

LONGEST = 256
LETTERS = frozenset(string.ascii_letters + string.digits + "._:/@+~[]-")
_NAME = re.compile(r"[A-Za-z0-9._:/@+~\[\]-]{1,256}")
_SHOWN = 60


def check_name(name: str) -> str:
    """The name as it came, or RequestError saying what is wrong with it."""
    if is_name(name):
        return name
    raise RequestError(wrong_with(name), code="invalid_model", param="model")


def is_name(name: str) -> bool:
    """Whether a name is let in."""
    return _NAME.fullmatch(name) is not None and name[0] != "/" and ".." not in name


def wrong_with(name: str) -> str:
    """The sentence about a name that is not let in; it shows no more of it than helps."""
    shown = ascii(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
    if not name:
        return "the model name is empty; name a model, e.g. one that GET /v1/models lists"
    if len(name) > LONGEST:
        return f"the model name {shown} has {len(name)} characters; at most {LONGEST} are taken"
    if name[0] == "/":
        return f"the model name {shown} begins with '/'; a model is named, not given by its path"
    if ".." in name:
        return f"the model name {shown} holds '..'; a model is named, not given by its path"
    letter = next(letter for letter in name if letter not in LETTERS)
    return f"the model name {shown} holds {letter!a}, which is not one of A-Z a-z 0-9 . _ : / @ + ~ [ ] -"
