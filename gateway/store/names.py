"""PURE: what a named thing may be called, and what may stand in its free texts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.errors import RefusedError
from gateway.routing.rule import LOCAL

# A name stands in targets (NAME:MODEL), paths (/upstreams/NAME/), labels (NAME/MODEL) and headers.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_NOTE = 500


def check_name(name: str, what: str) -> str:
    """The name, or RefusedError saying what a name of this kind looks like."""
    if _NAME.match(name) and ".." not in name:
        return name
    raise RefusedError(
        f"{what} name {name[:80]!r} can't be used; a name is 1 to 64 letters, digits, '.', '_' and '-', "
        "and begins with a letter or a digit"
    )


def check_upstream_name(name: str) -> str:
    """The name of an upstream; `local` is the pool's."""
    if name.lower() == LOCAL:
        raise RefusedError(f"an upstream can't be called {name!r}: that is the pool of this machine")
    return check_name(name, "upstream")


def check_new(name: str, taken: Iterable[str], what: str) -> None:
    """Refuse a name that is taken, or that differs from a taken one by case alone."""
    for other in taken:
        if other == name:
            raise RefusedError(f"{what} {name!r} exists already; change it with set, or remove it first")
        if other.lower() == name.lower():
            raise RefusedError(
                f"{what} {name!r} would differ from {other!r} by case alone; choose another name"
            )


def check_note(note: str) -> str:
    """A note for people: one line, printable."""
    if len(note) > _NOTE:
        raise RefusedError(f"the note has {len(note)} characters; at most {_NOTE} are kept")
    if note and not note.isprintable():
        raise RefusedError("the note must be one line of printable characters")
    return note
